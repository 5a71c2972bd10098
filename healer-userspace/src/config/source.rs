//! YAML text to nodes that know where they stand.
//!
//! Files are read into nodes first and into shapes (`read`) after, because one parse straight into
//! serde types stops at the first fault, and a person wants to hear all of them at once.

use core::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

use super::problem::{Fault, Place};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In file order; duplicates are still in it.
    Map(Vec<(Name, Node)>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Name {
    pub(super) place: Place,
    pub(super) text: String,
}

impl Node {
    /// The text under a key of a mapping; None if there is no such key or it is no text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let (_, node) = entries.iter().find(|(name, _)| name.text == key)?;
        let Value::Text(text) = &node.value else {
            return None;
        };
        Some(text)
    }

    /// As a message shows it.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// All documents of a file; empty ones are left out.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, Fault> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough, // reported by `read`, with both places
        strict_booleans: true, // `on` and `no` are words, as in YAML 1.2
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 10_000 },
        budget: serde_saphyr::budget! { max_depth: 32, max_nodes: 50_000 },
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let place = error.location().map(place_of).unwrap_or_default();
        Fault::new(place, without_place(&error.to_string()))
    })
}

/// The parser's sentence starts or ends with its own form of line and column; ours stands before it.
fn without_place(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let first = first.split(" at line ").next().unwrap_or_default();
    let first = match first.strip_prefix("error: ").unwrap_or(first).split_once(": ") {
        Some((head, rest)) if head.starts_with("line ") => rest,
        Some(_) | None => first,
    };
    format!("not valid YAML: {}", first.trim())
}

fn place_of(location: Location) -> Place {
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Place { line: narrow(location.line()), column: narrow(location.column()) }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { place: place_of(spanned.referenced), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> de::Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        i64::try_from(value).map(Value::Int).map_err(|_| E::custom("the number is too large"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, node)) = map.next_entry::<Spanned<String>, Node>()? {
            let place = place_of(key.referenced);
            entries.push((Name { place, text: key.value }, node));
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_keys_know_their_place() {
        let nodes = documents("a: 1\nb:\n  - {c: x}\n---\n---\nd: [on, true, 1.5, ~]\n").unwrap();
        assert_eq!(nodes.len(), 2);
        let Value::Map(entries) = &nodes[0].value else { panic!("{nodes:?}") };
        assert_eq!(entries[1].0.place, Place { line: 2, column: 1 });
        let Value::List(list) = &entries[1].1.value else { panic!("{nodes:?}") };
        let Value::Map(inner) = &list[0].value else { panic!("{nodes:?}") };
        assert_eq!(inner[0].0.place, Place { line: 3, column: 6 });
        assert_eq!(inner[0].1.place, Place { line: 3, column: 9 });
        let Value::Map(second) = &nodes[1].value else { panic!("{nodes:?}") };
        let Value::List(list) = &second[0].1.value else { panic!("{nodes:?}") };
        let values: Vec<_> = list.iter().map(|node| node.value.clone()).collect();
        let on = Value::Text("on".to_owned());
        assert_eq!(values, [on, Value::Bool(true), Value::Float(1.5), Value::Null]);
    }

    #[test]
    fn broken_yaml_says_where() {
        for text in ["a: [1, 2\nb: 3\n", "a: 1\n b: 2\n", "a: \"x\n", "a: *nobody\n", "? [a]\n: b\n"] {
            let fault = documents(text).unwrap_err();
            assert!(fault.place.line > 0, "{text:?}: {fault:?}");
            assert!(!fault.message.contains('\n'));
        }
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..9 {
            let below = vec![format!("*a{}", level - 1); 10].join(",");
            text += &format!("a{level}: &a{level} [{below}]\n");
        }
        assert!(documents(&text).is_err());
        assert!(documents(&"[".repeat(10_000)).is_err());
    }
}
