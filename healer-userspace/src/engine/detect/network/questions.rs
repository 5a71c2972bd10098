//! Questions that one name server did not answer. A resolver gives one up and asks again by another socket; who is slow
//! answers in the end, and a socket that was left open is never given up.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::{
    engine::time::{BootTime, Human},
    signal::network::Stalled,
};

/// Told anew at every look while they wait, all of a namespace together.
const WAITS: Duration = Duration::from_millis(1200);
const LASTS: Duration = Duration::from_secs(3);
/// What was given up must have waited for so long, all together: resolvers may wait for a second each time.
const IN_VAIN: Duration = Duration::from_secs(1);
/// A slow server has answered by then; where nothing at all comes in, nobody has to wait for that.
const TOO_LATE: Duration = Duration::from_secs(3);
const REMEMBERED: Duration = Duration::from_secs(60);
/// Nobody has waited in vain for so long.
const OVER_AFTER: Duration = Duration::from_secs(20);
const ASKED_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Questions {
    /// By cookie.
    asked: BTreeMap<u64, Question>,
}

#[derive(Debug)]
struct Question {
    since: BootTime,
    last: BootTime,
    received: u64,
    says: String,
}

impl Questions {
    pub(super) fn note(&mut self, at: BootTime, stalled: &Stalled) {
        let cookie = stalled.flow.cookie;
        if ASKED_MAX <= self.asked.len() && !self.asked.contains_key(&cookie) {
            return;
        }
        let says = format!(
            "a question from {} to {} has had no reply for {}",
            stalled.flow.local,
            stalled.flow.peer,
            Human(at.since(stalled.since))
        );
        let question = Question { since: stalled.since, last: at, received: stalled.acked, says };
        self.asked.insert(cookie, question);
    }

    /// True if there were any until now.
    pub(super) fn forget(&mut self, now: BootTime) -> bool {
        self.asked.retain(|_, one| now.since(one.last) < REMEMBERED);
        let is_over = self.last().is_some_and(|last| OVER_AFTER <= now.since(last));
        if is_over {
            self.asked.clear();
        }
        is_over
    }

    /// Since when nobody answers: some were given up, and another one waits.
    pub(super) fn unanswered_since(&self) -> Option<BootTime> {
        let newest = self.asked.values().max_by_key(|one| one.last)?;
        let last = newest.last;
        let waits = |one: &&Question| last.since(one.last) < WAITS;
        let waited = |one: &Question| one.last.since(one.since);
        self.asked.values().find(waits)?;
        let ended = || self.asked.values().filter(|one| !waits(one));
        let is_too_late = ended().any(|one| TOO_LATE <= waited(one));
        // Nothing has come in since they were asked: what was answered before, late or not, says nothing.
        let unheard = || self.asked.values().filter(|one| one.received == newest.received);
        let in_vain = unheard().filter(|one| !waits(one)).map(waited).sum::<Duration>();
        let first = if is_too_late {
            self.asked.values().map(|one| one.since).min()?
        } else {
            unheard().map(|one| one.since).min()?
        };
        ((is_too_late || IN_VAIN <= in_vain) && LASTS <= last.since(first)).then_some(first)
    }

    pub(super) fn due(&self) -> Option<BootTime> {
        self.last().map(|last| last + OVER_AFTER)
    }

    pub(super) fn says(&self) -> impl Iterator<Item = (BootTime, &str)> {
        self.asked.values().map(|one| (one.last, one.says.as_str()))
    }

    fn last(&self) -> Option<BootTime> {
        self.asked.values().map(|one| one.last).max()
    }
}
