//! Whether somebody is newly suspected, so that a scan is due sooner: a suspicion is news for a while, and no more after.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::engine::time::BootTime;

/// New suspects are looked at closely for so long.
const NEWS_FOR: Duration = Duration::from_secs(15);
/// Whoever has been suspected for so long is no news, however often the suspicion comes and goes.
const OLD: Duration = Duration::from_secs(30);
/// And is news again once nobody has suspected him for so long.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Threads remembered at most.
const REMEMBERED_MAX: usize = 8 * 1024;

/// A thread that looks dead, at one moment: one that has run is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Suspect {
    pub(super) tid: u32,
    pub(super) start: BootTime,
    pub(super) switches: u64,
}

/// When a thread was suspected first and last.
struct Record {
    first: BootTime,
    last: BootTime,
}

#[derive(Default)]
pub(super) struct Alert {
    /// Of the last scan.
    suspects: BTreeSet<Suspect>,
    /// By tid and start, whatever it has done since.
    records: BTreeMap<(u32, BootTime), Record>,
    /// The last scan was the first to show somebody to be dead.
    is_new: bool,
    /// Since when nobody new is among them.
    since: BootTime,
}

impl Alert {
    /// None of these is another than the last scan has shown.
    pub(super) fn knows(&self, suspects: &BTreeSet<Suspect>) -> bool {
        suspects.is_subset(&self.suspects)
    }

    /// The suspicion is to be confirmed.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Somebody new is suspected.
    pub(super) fn is_on(&self, now: BootTime) -> bool {
        !self.suspects.is_empty() && now.since(self.since) < NEWS_FOR
    }

    /// What a scan has shown.
    pub(super) fn note(&mut self, now: BootTime, suspects: BTreeSet<Suspect>) {
        self.remember(now, &suspects);
        let is_news = |one: &Suspect| {
            let record = self.records.get(&(one.tid, one.start));
            record.is_none_or(|record| now.since(record.first) < OLD)
        };
        self.is_new = suspects.difference(&self.suspects).any(is_news);
        if self.is_new {
            self.since = now;
        }
        self.suspects = suspects;
    }

    fn remember(&mut self, now: BootTime, suspects: &BTreeSet<Suspect>) {
        self.records.retain(|_, record| now.since(record.last) < FORGOTTEN);
        for one in suspects {
            let key = (one.tid, one.start);
            if let Some(record) = self.records.get_mut(&key) {
                record.last = now;
            } else if self.records.len() < REMEMBERED_MAX {
                self.records.insert(key, Record { first: now, last: now });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BEGAN: BootTime = BootTime(1_000_000_000_000);

    fn thread(tid: u32, switches: u64) -> Suspect {
        Suspect { tid, start: BootTime(u64::from(tid)), switches }
    }

    fn only(suspect: Suspect) -> BTreeSet<Suspect> {
        BTreeSet::from([suspect])
    }

    #[test]
    fn a_suspicion_that_stands_is_news_for_a_while_and_a_new_one_beside_it_again() {
        let mut alert = Alert::default();
        assert!(!alert.is_on(BEGAN), "a quiet node");
        alert.note(BEGAN, only(thread(1, 5)));
        assert!(alert.is_new() && alert.is_on(BEGAN));
        alert.note(BEGAN + SECOND, only(thread(1, 5)));
        assert!(!alert.is_new() && alert.knows(&only(thread(1, 5))));
        assert!(alert.is_on(BEGAN + 14 * SECOND) && !alert.is_on(BEGAN + 15 * SECOND));
        let later = BEGAN + 3600 * SECOND;
        alert.note(later, only(thread(1, 5)));
        assert!(!alert.is_on(later));
        alert.note(later, BTreeSet::from([thread(1, 5), thread(2, 9)]));
        assert!(alert.is_new() && alert.is_on(later));
    }

    #[test]
    fn a_suspicion_that_comes_and_goes_does_not_keep_the_scanner_awake() {
        let mut alert = Alert::default();
        let mut hurried = Duration::ZERO;
        for second in 0..3600 {
            let now = BEGAN + second * SECOND;
            // It runs now and then, and is not always seen.
            let seen = if second % 3 == 2 { BTreeSet::new() } else { only(thread(1, u64::from(second / 5))) };
            alert.note(now, seen);
            if alert.is_on(now) {
                hurried = (second + 1) * SECOND;
            }
        }
        assert!(SECOND < hurried && hurried <= OLD + NEWS_FOR, "{hurried:?}");
    }

    #[test]
    fn who_was_well_for_long_is_news_again() {
        let mut alert = Alert::default();
        for at in [BEGAN, BEGAN + 60 * SECOND] {
            alert.note(at, only(thread(1, 5)));
        }
        let soon = BEGAN + 90 * SECOND;
        alert.note(soon, BTreeSet::new());
        alert.note(soon, only(thread(1, 6)));
        assert!(!alert.is_on(soon));
        let late = soon + FORGOTTEN;
        alert.note(late, BTreeSet::new());
        alert.note(late, only(thread(1, 7)));
        assert!(alert.is_new() && alert.is_on(late));
    }
}
