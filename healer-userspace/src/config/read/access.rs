//! Elements, entries, and values with their place, handed to serde one by one.

use serde::de::{self, IntoDeserializer as _, SeqAccess, value::StrDeserializer};

use super::{
    super::{
        problem::Place,
        source::{Name, Node},
    },
    ReadError, Reader,
};

pub(super) struct List<'a> {
    reader: Reader<'a>,
    rest: core::slice::Iter<'a, Node>,
}

impl<'a> List<'a> {
    pub(super) fn of(reader: Reader<'a>, nodes: &'a [Node]) -> Self {
        let rest = nodes.iter();
        Self { reader, rest }
    }
}

impl<'de> SeqAccess<'de> for List<'de> {
    type Error = ReadError;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        let Some(node) = self.rest.next() else {
            return Ok(None);
        };
        let reader = Reader { node, ..self.reader };
        seed.deserialize(reader).map(Some).map_err(|error| reader.located(error))
    }
}

pub(super) struct Map<'a> {
    reader: Reader<'a>,
    rest: std::vec::IntoIter<&'a (Name, Node)>,
    value: Option<&'a (Name, Node)>,
}

impl<'a> Map<'a> {
    pub(super) fn of(reader: Reader<'a>, entries: Vec<&'a (Name, Node)>) -> Self {
        let rest = entries.into_iter();
        Self { reader, rest, value: None }
    }
}

impl<'de> de::MapAccess<'de> for Map<'de> {
    type Error = ReadError;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        self.value = self.rest.next();
        let Some((name, _)) = self.value else {
            return Ok(None);
        };
        seed.deserialize(StrDeserializer::new(&name.text)).map(Some)
    }

    fn next_value_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, ReadError> {
        let Some((name, node)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let reader = Reader { node, key: &name.text, ..self.reader };
        seed.deserialize(reader).map_err(|error| reader.located(error))
    }
}

/// Hands out line, column and value; a value that cannot be read is told and missing.
pub(super) struct Placed<'a> {
    reader: Reader<'a>,
    step: u8,
}

impl<'a> Placed<'a> {
    pub(super) fn of(reader: Reader<'a>) -> Self {
        Self { reader, step: 0 }
    }
}

impl<'de> SeqAccess<'de> for Placed<'de> {
    type Error = ReadError;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        let Place { line, column } = self.reader.node.place;
        self.step += 1;
        match self.step {
            1 => seed.deserialize(line.into_deserializer()).map(Some),
            2 => seed.deserialize(column.into_deserializer()).map(Some),
            _ => Ok(self.reader.keep(seed.deserialize(self.reader))),
        }
    }
}
