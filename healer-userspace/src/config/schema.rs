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
            map.insert("type".to_owned(), json!("array")); // a CRD has one type for each key
        }
        map.remove("$schema");
        map.remove("title");
        if let Some(only) = map.remove("const") {
            map.insert("enum".to_owned(), json!([only]));
        }
    });
    schema
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
    use super::*;

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
        assert_eq!(rung["properties"]["do"]["enum"][1], "restart");
        assert_eq!(spec["match"]["properties"]["exe"]["type"], json!(["string", "array"]));
        assert_eq!(spec["match"]["additionalProperties"], false);
    }
}
