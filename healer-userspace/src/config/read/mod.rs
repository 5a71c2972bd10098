//! serde over located nodes. A fault is put aside and reading goes on, so that one pass finds all of them.

mod access;

use core::{cell::RefCell, fmt};
use std::collections::BTreeMap;

use serde::de::{self, DeserializeOwned, Deserializer, Unexpected, value::StrDeserializer};

use self::access::{List, Map, Placed};
use super::{
    key::{MANY, PLACED},
    not_yet,
    problem::{Fault, Place, suggestion},
    source::{Name, Node, Value},
};

/// Reads one document into a shape. Faults are appended; a shape that comes back may have `Bad` keys.
pub(super) fn shape<T: DeserializeOwned>(node: &Node, name: &str, faults: &mut Vec<Fault>) -> Option<T> {
    let sink = RefCell::new(Vec::new());
    let reader = Reader { node, key: name, sink: &sink };
    let shape = reader.keep(T::deserialize(reader));
    faults.append(&mut sink.into_inner());
    shape
}

type Sink = RefCell<Vec<Fault>>;

#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    /// The key that led here: names it in messages.
    key: &'a str,
    sink: &'a Sink,
}

/// Line 0 until the reader of the value adds its place.
#[derive(Debug)]
pub(super) struct ReadError(Fault);

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.message)
    }
}

impl core::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Fault::new(Place::default(), message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = expected.to_string();
        if matches!(found, Unexpected::Unit) {
            return Self::custom(format_args!("expected {expected}, found nothing"));
        }
        let number = matches!(found, Unexpected::Bool(_) | Unexpected::Signed(_) | Unexpected::Float(_));
        let quotes = if number && expected == "a string" { ": put it in quotes" } else { "" };
        Self::custom(format_args!("expected {expected}, found {found}{quotes}"))
    }
}

impl<'a> Reader<'a> {
    /// The value, or None and a fault in the sink.
    fn keep<T>(&self, result: Result<T, ReadError>) -> Option<T> {
        let told = |error| self.sink.borrow_mut().push(self.located(error).0);
        result.map_err(told).ok()
    }

    fn located(&self, error: ReadError) -> ReadError {
        if error.0.place.line > 0 {
            return error;
        }
        let message = format!("{}: {}", self.key, error.0.message);
        ReadError(Fault::new(self.node.place, message))
    }

    fn tell(&self, place: Place, message: String) {
        self.sink.borrow_mut().push(Fault::new(place, message));
    }

    fn wrong(&self, expected: &str) -> ReadError {
        let found = self.node.shown();
        de::Error::custom(format_args!("expected {expected}, found {found}"))
    }

    fn list(&self) -> Result<&'a [Node], ReadError> {
        let Value::List(list) = &self.node.value else {
            return Err(self.wrong("a list"));
        };
        Ok(list)
    }

    /// A list's elements, or the value itself as the only one.
    fn one_or_more(&self) -> Result<&'a [Node], ReadError> {
        let Value::List(list) = &self.node.value else {
            return Ok(core::slice::from_ref(self.node));
        };
        if list.is_empty() {
            return Err(de::Error::custom("an empty list means nothing: leave the key out"));
        }
        Ok(list)
    }

    fn entries(&self) -> Result<&'a [(Name, Node)], ReadError> {
        let Value::Map(entries) = &self.node.value else {
            return Err(self.wrong("a mapping"));
        };
        Ok(entries)
    }

    /// The entries without repeated keys, which are told.
    fn unique(&self) -> Result<Vec<&'a (Name, Node)>, ReadError> {
        let mut lines: BTreeMap<&str, u32> = BTreeMap::new();
        let mut first_time = |name: &'a Name| {
            let first = lines.get(name.text.as_str()).copied();
            if let Some(line) = first {
                self.tell(name.place, format!("key {:?} is given twice, first in line {line}", name.text));
            } else {
                lines.insert(&name.text, name.place.line);
            }
            first.is_none()
        };
        let entries = self.entries()?.iter();
        Ok(entries.filter(|(name, _)| first_time(name)).collect())
    }

    fn unknown(&self, shape: &str, name: &Name, known: &'static [&'static str]) {
        let (word, inside) = (&name.text, self.key);
        let later = not_yet::keys(shape);
        let message = if later.contains(&word.as_str()) {
            format!("key \"{word}\" in {inside} is not supported yet")
        } else {
            let hint = suggestion(word, known.iter().chain(later).copied());
            format!("unknown key {word:?} in {inside}{hint}")
        };
        self.tell(name.place, message);
    }

    fn whole_number<T: TryFrom<i64>>(&self, range: &str) -> Result<T, ReadError> {
        let wrong = || self.wrong(&format!("a whole number {range}"));
        let Value::Int(number) = self.node.value else {
            return Err(wrong());
        };
        T::try_from(number).map_err(|_| wrong())
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = ReadError;

    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let read = match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
        };
        read.map_err(|error| self.located(error))
    }

    fn deserialize_u32<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_u32(self.whole_number("from 0 to 4294967295")?)
    }

    fn deserialize_i32<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_i32(self.whole_number("of 32 bits")?)
    }

    fn deserialize_f64<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.node.value {
            Value::Float(number) => visitor.visit_f64(number),
            Value::Int(number) => visitor.visit_f64(number as f64),
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
                Err(self.wrong("a number"))
            }
        }
    }

    fn deserialize_seq<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_seq(List::of(self, self.list()?))
    }

    fn deserialize_map<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let entries = self.unique()?;
        visitor.visit_map(Map::of(self, entries))
    }

    fn deserialize_struct<V: de::Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let mut entries = self.unique()?;
        entries.retain(|(key, _)| {
            let known = fields.contains(&key.text.as_str());
            if !known {
                self.unknown(name, key, fields);
            }
            known
        });
        visitor.visit_map(Map::of(self, entries))
    }

    fn deserialize_enum<V: de::Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let Value::Text(word) = &self.node.value else {
            return Err(self.wrong(&format!("one of {}", variants.join(", "))));
        };
        if variants.contains(&word.as_str()) {
            return visitor.visit_enum(StrDeserializer::new(word));
        }
        let later = not_yet::words(name);
        if later.contains(&word.as_str()) {
            return Err(de::Error::custom(format_args!("\"{word}\" is not supported yet")));
        }
        let hint = suggestion(word, variants.iter().chain(later).copied());
        let known = variants.join(", ");
        let hint = if hint.is_empty() { format!("; one of {known}") } else { hint };
        Err(de::Error::custom(format_args!("unknown word {word:?}{hint}")))
    }

    fn deserialize_newtype_struct<V: de::Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match name {
            PLACED => visitor.visit_seq(Placed::of(self)),
            MANY => visitor.visit_seq(List::of(self, self.one_or_more()?)),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i64 i128 u8 u16 u64 u128 f32 char str string bytes byte_buf option unit
        unit_struct tuple tuple_struct identifier ignored_any
    }
}
