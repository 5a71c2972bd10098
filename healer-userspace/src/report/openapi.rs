//! The OpenAPI document of the read-only API, generated from the types that are served.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    dependencies::Dependency,
    incidents::Incident,
    scores::RuleScore,
    view::{Policies, Sensor, Workload},
};

/// What answers `{"incidents": […]}` and its like; the fields are written by `http`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct Incidents {
    incidents: Vec<Incident>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct Sensors {
    sensors: Vec<Sensor>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct Workloads {
    workloads: Vec<Workload>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct Dependencies {
    dependencies: Vec<Dependency>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct Scores {
    scores: Vec<RuleScore>,
}

struct Route {
    path: &'static str,
    summary: &'static str,
    answer: fn(&mut SchemaGenerator) -> schemars::Schema,
}

const ROUTES: &[Route] = &[
    Route {
        path: "/api/v1/incidents",
        summary: "Incidents in memory, newest first, without their timelines",
        answer: |schemas| schemas.subschema_for::<Incidents>(),
    },
    Route {
        path: "/api/v1/incidents/{id}",
        summary: "One incident (i42) with its timeline; 404 if it is not in memory",
        answer: |schemas| schemas.subschema_for::<Incident>(),
    },
    Route {
        path: "/api/v1/sensors",
        summary: "What the agent can see, and what it cannot and why",
        answer: |schemas| schemas.subschema_for::<Sensors>(),
    },
    Route {
        path: "/api/v1/policies",
        summary: "The policies in force",
        answer: |schemas| schemas.subschema_for::<Policies>(),
    },
    Route {
        path: "/api/v1/workloads",
        summary: "The workloads that the agent follows",
        answer: |schemas| schemas.subschema_for::<Workloads>(),
    },
    Route {
        path: "/api/v1/dependencies",
        summary: "Who connects to whom, and how that goes",
        answer: |schemas| schemas.subschema_for::<Dependencies>(),
    },
    Route {
        path: "/api/v1/scores",
        summary: "What rules in shadow would have done, and whether that would have been right",
        answer: |schemas| schemas.subschema_for::<Scores>(),
    },
];

/// OpenAPI 3.1, whose schemas are JSON Schema 2020-12.
pub fn document() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|of| of.definitions_path = "/components/schemas".into());
    let mut schemas = settings.into_generator();
    let paths: Map<String, Value> =
        ROUTES.iter().map(|route| (route.path.to_owned(), path(route, &mut schemas))).collect();
    json!({
        "openapi": "3.1.0",
        "info": {"title": "healer", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas.take_definitions(true)},
    })
}

fn path(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let id = json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}});
    let parameters: Vec<Value> = route.path.contains("{id}").then_some(id).into_iter().collect();
    json!({"get": {
        "summary": route.summary,
        "parameters": parameters,
        "responses": {"200": {
            "description": route.summary,
            "content": {"application/json": {"schema": (route.answer)(schemas)}},
        }},
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let references = text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next());
        let references: Vec<_> = references.collect();
        assert!(!references.is_empty());
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
        assert!(document["components"]["schemas"]["Incident"]["properties"]["sentence"].is_object());
    }

    #[test]
    fn every_served_path_is_described() {
        let served: Vec<_> = include_str!("http.rs")
            .split("route(\"/api/v1/")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .filter(|path| *path != "openapi.json")
            .map(|path| format!("/api/v1/{path}"))
            .collect();
        let described: Vec<_> = ROUTES.iter().map(|route| route.path.to_owned()).collect();
        assert_eq!(served, described);
    }
}
