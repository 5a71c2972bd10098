//! A map that forgets what was not asked for the longest.

use std::collections::BTreeMap;

#[derive(Debug)]
pub(crate) struct Lru<K, V> {
    room: usize,
    clock: u64,
    entries: BTreeMap<K, (u64, V)>,
    by_age: BTreeMap<u64, K>,
}

impl<K: Ord + Clone, V> Lru<K, V> {
    pub(crate) fn new(room: usize) -> Self {
        Self { room: room.max(1), clock: 0, entries: BTreeMap::new(), by_age: BTreeMap::new() }
    }

    /// The value, which is now the youngest.
    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        let (age, value) = self.entries.get_mut(key)?;
        if *age != self.clock {
            self.clock += 1;
            if let Some(key) = self.by_age.remove(age) {
                self.by_age.insert(self.clock, key);
            }
            *age = self.clock;
        }
        Some(value)
    }

    /// The value; its age stays.
    pub(crate) fn peek(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// Keeps the value; the oldest goes if there is no room.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        if self.entries.len() >= self.room
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.clock += 1;
        self.by_age.insert(self.clock, key.clone());
        self.entries.insert(key, (self.clock, value));
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (age, value) = self.entries.remove(key)?;
        self.by_age.remove(&age);
        Some(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|(_, value)| value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_not_asked_for_goes_first() {
        let mut lru = Lru::new(2);
        lru.insert(1, 'a');
        lru.insert(2, 'b');
        assert_eq!(lru.get(&1), Some(&mut 'a'));
        lru.insert(3, 'c');
        assert_eq!(lru.peek(&2), None);
        assert_eq!(lru.values().collect::<String>(), "ac");
    }

    #[test]
    fn a_kept_key_takes_no_second_place() {
        let mut lru = Lru::new(2);
        lru.insert(1, 'a');
        lru.insert(2, 'b');
        lru.insert(2, 'B');
        assert_eq!((lru.len(), lru.peek(&1)), (2, Some(&'a')));
        assert_eq!(lru.remove(&2), Some('B'));
        assert_eq!((lru.len(), lru.by_age.len()), (1, 1));
    }

    proptest::proptest! {
        #[test]
        fn both_maps_agree_and_the_bound_holds(steps in proptest::collection::vec((0..3u8, 0..9u8), 0..200)) {
            let mut lru = Lru::new(4);
            for (step, key) in steps {
                match step {
                    0 => lru.insert(key, key),
                    1 => drop(lru.get(&key).copied()),
                    _ => drop(lru.remove(&key)),
                }
                proptest::prop_assert!(lru.len() <= 4);
                proptest::prop_assert_eq!(lru.len(), lru.by_age.len());
            }
        }
    }
}
