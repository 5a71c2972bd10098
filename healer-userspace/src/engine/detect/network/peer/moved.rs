//! A peer that is heard of on connections that are made.

use core::time::Duration;

use super::{EVIDENCE_LASTS, Peer};
use crate::engine::time::BootTime;

/// Connections in trouble are looked at every two seconds at least.
const HEARD_LASTS: Duration = Duration::from_secs(5);

impl Peer {
    /// What was said of such connections until then is over. Not what was said of new ones: whoever has no room in its
    /// queue serves those that it has. True if something has changed by it.
    pub(in super::super) fn moved(&mut self, at: BootTime) -> bool {
        self.last_seen = self.last_seen.max(at);
        // It is told only for a while after somebody was in trouble: between two such spells nobody has looked.
        let gap = self.moved_at.filter(|before| *before < at).map(|before| at.since(before));
        if let Some(gap) = gap.filter(|gap| *gap <= EVIDENCE_LASTS) {
            self.moves_gap = Some(self.moves_gap.map_or(gap, |usual| (usual + gap) / 2));
        }
        self.moved_at = self.moved_at.max(Some(at));
        let before = (self.evidence.len(), self.moves_since, self.well_since);
        self.evidence.retain(|piece| at < piece.at || !piece.is_of_data);
        let is_over = self.evidence.len() < before.0;
        if self.evidence.back().is_none_or(|last| last.at < at) {
            self.moves_since.get_or_insert(at);
        }
        if self.evidence.is_empty() {
            self.well_since.get_or_insert(at);
        }
        if is_over && self.evidence.is_empty() {
            self.asked.clear();
        }
        before != (self.evidence.len(), self.moves_since, self.well_since)
    }

    /// In spite of what speaks against it since then. A path that was lost twice was well in between.
    pub(in super::super) fn is_heard(&self, now: BootTime, since: BootTime) -> bool {
        let is_last = |moved: BootTime| self.evidence.back().is_none_or(|last| last.at < moved);
        let counts = |moved| self.fades_at(now).is_some() || is_last(moved);
        self.moved_at.is_some_and(|moved| since < moved && counts(moved))
    }

    /// Until when it counts that it moved, whatever speaks against it.
    pub(in super::super) fn fades_at(&self, now: BootTime) -> Option<BootTime> {
        self.moved_at.map(|moved| moved + HEARD_LASTS).filter(|until| now < *until)
    }

    pub(in super::super) fn moved_after(&self, at: BootTime) -> bool {
        self.moved_at.is_some_and(|moved| at < moved)
    }

    /// A connection was made, or one that is made has moved.
    pub(in super::super) fn last_answer(&self) -> Option<BootTime> {
        self.last_ok.max(self.moved_at)
    }

    pub(in super::super) fn answered_since(&self, since: BootTime) -> bool {
        self.last_answer().is_some_and(|ok| since < ok)
    }

    /// When it answered last, if nothing has spoken against it since.
    pub(in super::super) fn unopposed_answer(&self) -> Option<BootTime> {
        self.last_answer().filter(|ok| self.evidence.back().is_none_or(|last| last.at < *ok))
    }
}
