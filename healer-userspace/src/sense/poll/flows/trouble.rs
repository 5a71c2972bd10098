//! Network namespaces that want a look soon: told by whoever hears of failures, read by whoever looks.

use core::time::Duration;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use crate::engine::time::BootTime;

/// After the last sign of it.
const LASTS: Duration = Duration::from_secs(15);
/// What has gone on for longer is known, and looked at as all others are.
const IS_NEWS: Duration = Duration::from_secs(60);
/// Between two looks: a node that is cut off as a whole is looked at in turn all the same.
const TOLD_MAX: usize = 128;

/// Inodes of the namespaces that were told since the last look, and of those in which somebody connects.
#[derive(Clone, Default)]
pub struct Trouble(Arc<Mutex<[BTreeSet<u32>; 2]>>);

impl Trouble {
    pub fn tell(&self, netns: u32) {
        self.insert(0, netns);
    }

    /// There are clients: nothing has happened so far.
    pub fn meet(&self, netns: u32) {
        self.insert(1, netns);
    }

    pub(super) fn take(&self) -> [BTreeSet<u32>; 2] {
        core::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn insert(&self, which: usize, netns: u32) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told[which].len() < TOLD_MAX {
            told[which].insert(netns);
        }
    }
}

/// Since when one namespace is in trouble, and until when it is thought to be.
#[derive(Default)]
pub(super) struct Spell(Option<(BootTime, BootTime)>);

impl Spell {
    /// True if it is the first sign.
    pub(super) fn note(&mut self, now: BootTime) -> bool {
        let going_on = self.0.filter(|(_, until)| now < *until);
        let since = going_on.map_or(now, |(since, _)| since);
        self.0 = Some((since, now + LASTS));
        going_on.is_none()
    }

    /// Something else has happened.
    pub(super) fn begin_anew(&mut self, now: BootTime) {
        self.0 = Some((now, now + LASTS));
    }

    pub(super) fn is_on(&self, now: BootTime) -> bool {
        self.0.is_some_and(|(since, until)| now < until && now.since(since) < IS_NEWS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_goes_on_is_news_for_a_minute() {
        let at = |second: u64| BootTime(second * 1_000_000_000);
        let mut spell = Spell::default();
        assert!(!spell.is_on(at(1)));
        assert!(spell.note(at(1)) && spell.is_on(at(2)) && !spell.is_on(at(16)));
        for second in 20..200 {
            assert_eq!(spell.note(at(second)), second == 20);
            assert_eq!(spell.is_on(at(second)), second < 80, "{second}");
        }
        spell.begin_anew(at(200));
        assert!(spell.is_on(at(201)));
        assert!(spell.note(at(300)), "it was over");
    }
}
