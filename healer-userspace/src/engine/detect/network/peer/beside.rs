//! A peer that is silent beside another one that is down: two ways that lose packets at the same time are one that is
//! gone.

use std::collections::BTreeSet;

use super::{Down, Kind, MANY_TIMEOUTS, Peer, SECOND_THOUGHT, SILENCE_LASTS, enough_at, kind_of};
use crate::engine::time::BootTime;

impl Peer {
    /// It has not answered since the other one failed. That its path was lossy before asks for no longer silence: the
    /// silence of the other one has that length already.
    pub(in super::super) fn silent_beside(&self, now: BootTime, other_since: BootTime) -> Option<Down> {
        let kind = kind_of(self.evidence.iter());
        let (first, enough_at) = (self.evidence.front()?.at, enough_at(self.evidence.iter())?);
        let connections: BTreeSet<u64> = self.evidence.iter().map(|piece| piece.cookie).collect();
        let timeouts = self.evidence.iter().map(|piece| piece.timeouts).max();
        let is_enough = 2 <= connections.len() || Some(MANY_TIMEOUTS) <= timeouts;
        let is_silent = kind == Kind::NoAnswer && is_enough && !self.answered_since(other_since);
        let made = self.evidence.iter().find(|piece| SILENCE_LASTS <= piece.at.since(enough_at))?;
        let is_local = self.evidence.iter().any(|piece| piece.is_local);
        (is_silent && made.at + SECOND_THOUGHT <= now).then(|| Down {
            kind,
            since: first,
            is_local,
            is_doubtful: !is_local && self.rests_on_conclusions(kind),
            needs_no_cause: self.needs_no_cause(),
        })
    }
}
