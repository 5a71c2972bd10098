//! The parts of which shapes are made: keys and lists that know where their values stand.
//!
//! `Spanned` of the YAML crate says the same, but stops at the first value that cannot be read.

use core::{fmt, marker::PhantomData};

use serde::de::{self, Deserialize, Deserializer, SeqAccess};

use super::problem::Place;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A key of a shape. What could not be read is `Bad`: its fault is already told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Key<T> {
    #[default]
    Absent,
    Bad,
    Given(At<T>),
}

impl<T> Key<T> {
    pub(super) fn given(&self) -> Option<&At<T>> {
        match self {
            Self::Given(at) => Some(at),
            Self::Absent | Self::Bad => None,
        }
    }

    pub(super) fn value(&self) -> Option<&T> {
        self.given().map(|at| &at.value)
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A list that may be written as its only element. A faulty element is told and left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Many<T>(pub(super) Vec<At<T>>);

/// A list, always written as one. A faulty element is told and left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Items<T>(pub(super) Vec<At<T>>);

/// How `read` knows a `Key`: it hands out line, column and, if it can be read, the value.
pub(super) const PLACED: &str = "healer::Key";
/// How `read` knows a `Many`.
pub(super) const MANY: &str = "healer::Many";

struct PlacedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> de::Visitor<'de> for PlacedVisitor<T> {
    type Value = Option<At<T>>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value with its place")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        let line = parts.next_element()?.unwrap_or_default();
        let column = parts.next_element()?.unwrap_or_default();
        let value = parts.next_element()?;
        Ok(value.map(|value| At { value, place: Place { line, column } }))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Key<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = deserializer.deserialize_newtype_struct(PLACED, PlacedVisitor(PhantomData))?;
        Ok(read.map_or(Self::Bad, Self::Given))
    }
}

struct ElementsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> de::Visitor<'de> for ElementsVisitor<T> {
    type Value = Vec<At<T>>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut kept = Vec::new();
        while let Some(key) = list.next_element::<Key<T>>()? {
            if let Key::Given(at) = key {
                kept.push(at);
            }
        }
        Ok(kept)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = ElementsVisitor(PhantomData);
        deserializer.deserialize_newtype_struct(MANY, visitor).map(Self)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ElementsVisitor(PhantomData)).map(Self)
    }
}
