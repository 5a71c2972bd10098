//! Containers that are being restarted for healer: what Docker tells of their stop is nobody else's wish.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::super::settle::WORD_COMES_WITHIN;
use crate::{clock, engine::time::BootTime};

/// By id, until when; none: the order is under way.
#[derive(Clone, Default)]
pub(super) struct Ours(Arc<Mutex<BTreeMap<String, Option<BootTime>>>>);

/// Its order is under way; dropped, the words that come late are still ours.
pub(super) struct Mark {
    ours: Ours,
    id: String,
}

impl Ours {
    pub(super) fn mark(&self, id: &str) -> Mark {
        self.lock().insert(id.to_owned(), None);
        Mark { ours: self.clone(), id: id.to_owned() }
    }

    /// It has been started: whoever stops it from now on is somebody else.
    pub(super) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    pub(super) fn has(&self, id: &str) -> bool {
        let now = clock::boot();
        let mut marked = self.lock();
        marked.retain(|_, until| until.is_none_or(|until| now < until));
        marked.contains_key(id)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Option<BootTime>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if let Some(until) = self.ours.lock().get_mut(&self.id) {
            *until = Some(clock::boot() + WORD_COMES_WITHIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_ours_while_its_order_lasts_and_shortly_after() {
        let ours = Ours::default();
        let mark = ours.mark("a");
        assert!(ours.has("a") && !ours.has("b"));
        drop(mark);
        assert!(ours.has("a"), "Docker's word may come after its answer");
        ours.lock().insert("a".to_owned(), Some(clock::boot()));
        assert!(!ours.has("a") && ours.lock().is_empty());
    }

    #[test]
    fn once_it_has_been_started_it_is_not_ours() {
        let ours = Ours::default();
        let mark = ours.mark("a");
        ours.forget("a");
        assert!(!ours.has("a"));
        drop(mark);
        assert!(!ours.has("a"));
    }
}
