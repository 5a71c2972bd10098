//! JSON Schema of both kinds, from the shapes that read them.
//! No `oneOf`, `$ref` or null types: what is left is one rewrite away from a structural CRD schema.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Map, Value, json};

use super::{
    agent::AgentConfig,
    key::{Items, Key, Many},
    policy::HealPolicy,
};

/// The kinds of document that healer reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    #[default]
    #[value(name = "HealPolicy", alias = "healpolicy")]
    HealPolicy,
    #[value(name = "AgentConfig", alias = "agentconfig")]
    AgentConfig,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::HealPolicy, Self::AgentConfig];

    /// As in the `kind` key of a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::HealPolicy => "HealPolicy",
            Self::AgentConfig => "AgentConfig",
        }
    }
}

/// JSON Schema (2020-12) of one kind, for editors and checkers.
pub fn json(kind: Kind) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let generator = SchemaGenerator::new(settings);
    let schema = match kind {
        Kind::HealPolicy => generator.into_root_schema_for::<HealPolicy>(),
        Kind::AgentConfig => generator.into_root_schema_for::<AgentConfig>(),
    };
    let mut schema = schema.to_value();
    each(&mut schema, &mut closed_list);
    schema["properties"]["kind"] = json!({"const": kind.name(), "type": "string"});
    schema["properties"]["apiVersion"] = json!({"const": super::check::API_VERSION, "type": "string"});
    schema
}

/// The same in the form that a CustomResourceDefinition takes as `openAPIV3Schema`
/// (apiextensions.k8s.io/v1, "structural schema").
pub fn structural(kind: Kind) -> Value {
    let mut schema = json(kind);
    each(&mut schema, &mut |map| {
        if map.get("additionalProperties") == Some(&Value::Bool(false)) {
            map.remove("additionalProperties"); // excluded beside `properties`: the API server prunes
        }
        if map.get("type").is_some_and(Value::is_array) {
            // A CRD has one type for each key, or none at all: one or many is for the agent to check.
            let words = map.remove("description");
            map.clear();
            map.insert("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true));
            map.extend(words.map(|words| ("description".to_owned(), words)));
        }
        map.remove("$schema");
        map.remove("title");
        if let Some(only) = map.remove("const") {
            map.insert("enum".to_owned(), json!([only]));
        }
    });
    schema
}

/// The kind as Kubernetes is told of it: of the cluster, because a policy may name units and programs of a node.
pub fn crd() -> Value {
    let mut schema = structural(Kind::HealPolicy);
    each(&mut schema, &mut |map| {
        map.remove("format"); // Kubernetes does not know uint32 and warns
    });
    schema["properties"]["apiVersion"] = json!({"type": "string"});
    schema["properties"]["kind"] = json!({"type": "string"});
    schema["properties"]["metadata"] = json!({"type": "object"});
    schema["properties"]["status"] = status();
    schema["required"] = json!(["spec"]);
    let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "healpolicies.healer.dev"},
        "spec": {
            "group": "healer.dev",
            "scope": "Cluster",
            "names": {"kind": "HealPolicy", "listKind": "HealPolicyList", "plural": "healpolicies", "singular": "healpolicy"},
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    column("Mode", ".spec.mode"),
                    column("Accepted", ".status.nodes[*].accepted"),
                    json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}),
                ],
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    })
}

/// Each node writes its own entry (server-side apply, by `node`).
fn status() -> Value {
    let number = json!({"type": "integer", "minimum": 0});
    json!({"type": "object", "properties": {"nodes": {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["node"],
        "items": {"type": "object", "required": ["node", "accepted"], "properties": {
            "node": {"type": "string"},
            "accepted": {"type": "boolean", "description": "It is in force on the node."},
            "message": {"type": "string", "description": "Why it is not: every problem with its line."},
            "observedGeneration": {"type": "integer"},
            "answered": number,
            "acts": number,
            "healed": number,
            "time": {"type": "string", "format": "date-time"},
        }},
    }}})
}

/// schemars writes a documented enum as `oneOf` constants; a plain list says the same.
fn closed_list(map: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = map.get("oneOf") else {
        return;
    };
    let words = |choice: &Value| match (choice.get("const"), choice.get("enum")) {
        (Some(word), _) => vec![word.clone()],
        (None, Some(Value::Array(words))) => words.clone(),
        (None, _) => Vec::new(),
    };
    let words: Vec<Value> = choices.iter().flat_map(words).collect();
    map.remove("oneOf");
    map.insert("type".to_owned(), json!("string"));
    map.insert("enum".to_owned(), Value::Array(words));
}

/// Every schema object within a schema, outermost first.
fn each(schema: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(map) = schema else {
        return;
    };
    change(map);
    for (key, inner) in map.iter_mut() {
        match (key.as_str(), inner) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().for_each(|property| each(property, change));
            }
            ("items" | "additionalProperties", inner) => each(inner, change),
            (_, _) => {}
        }
    }
}

/// A key's schema is its value's: that it may be left out is said by `required`.
impl<T: JsonSchema> JsonSchema for Key<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

impl<T: JsonSchema> JsonSchema for Items<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("ListOf{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": generator.subschema_for::<T>()})
    }
}

impl<T: JsonSchema> JsonSchema for Many<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMore{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let items = generator.subschema_for::<T>();
        let alone = items.get("type").cloned().unwrap_or_else(|| json!("string"));
        json_schema!({"type": [alone, "array"], "minItems": 1, "items": items})
    }
}

#[cfg(test)]
mod tests {
    use super::{super::yaml, *};

    /// `UPDATE_EXPECT=1` writes it anew.
    #[test]
    fn the_shipped_crd_is_made_of_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes/base/crd.yaml");
        let made = format!("# Made by `healer policy crd`.\n{}", yaml::text(&crd()));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        assert!(std::fs::read_to_string(path).unwrap() == made, "UPDATE_EXPECT=1 writes {path} anew");
    }

    #[test]
    fn the_schemas_have_nothing_a_crd_refuses() {
        for kind in Kind::ALL {
            let text = structural(kind).to_string();
            for refused in
                ["oneOf", "anyOf", "allOf", "$ref", "$defs", "\"null\"", "\"additionalProperties\":false"]
            {
                assert!(!text.contains(refused), "{kind:?} has {refused}: {text}");
            }
        }
    }

    #[test]
    fn a_schema_knows_the_words_and_what_must_be_there() {
        let schema = json(Kind::HealPolicy);
        assert_eq!(schema["required"], json!(["apiVersion", "kind", "metadata", "spec"]));
        let spec = &schema["properties"]["spec"]["properties"];
        assert_eq!(spec["mode"]["enum"], json!(["enforce", "observe", "shadow"]));
        let rung = &spec["rules"]["items"]["properties"]["escalate"]["items"];
        assert_eq!(rung["required"], json!(["do"]));
        assert_eq!(rung["properties"]["do"]["enum"][2], "restart");
        assert_eq!(spec["match"]["properties"]["exe"]["type"], json!(["string", "array"]));
        assert_eq!(spec["match"]["additionalProperties"], false);
    }
}
