//! A map that is only looked up and never gone through: there is no order that could differ from run to run.

use core::hash::Hash;
#[expect(clippy::disallowed_types, reason = "nothing here iterates")]
use std::collections::HashMap;

use foldhash::fast::RandomState;

#[expect(clippy::disallowed_types, reason = "nothing here iterates")]
#[derive(Debug)]
pub(super) struct Keyed<K, V>(HashMap<K, V, RandomState>);

impl<K, V> Default for Keyed<K, V> {
    fn default() -> Self {
        Self(Default::default())
    }
}

impl<K: Eq + Hash, V> Keyed<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    pub(super) fn contains_key(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.0.insert(key, value);
    }

    pub(super) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.0.entry(key).or_insert_with(make)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.0.remove(key);
    }
}
