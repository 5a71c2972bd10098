//! What spoke against a peer, and does so no longer.

use core::time::Duration;

use super::{EVIDENCE_LASTS, Kind, Peer, Piece};
use crate::engine::time::BootTime;

/// Suspicions of silence that an answer ended make a path lossy for so long.
const LOSS_REMEMBERED: Duration = Duration::from_secs(60);
/// So long they say something about the other paths of their client.
const LOSS_IS_FRESH: Duration = Duration::from_secs(10);
/// Whoever asks for a connection asks again after 16 seconds at most, five times (RFC 6298): if nobody does, and those
/// that are made move, it was the path, and that is well again.
const REQUEST_LASTS: Duration = Duration::from_secs(20);

impl Peer {
    pub(in super::super) fn fresh_gaps(&self, now: BootTime) -> usize {
        self.gaps.iter().filter(|(at, _)| now.since(*at) < LOSS_IS_FRESH).count()
    }

    /// What is old says nothing any more. A client that has ended waits in vain no longer, and nobody has answered it.
    pub(in super::super) fn forget(&mut self, now: BootTime, has_ended: bool) {
        while self.gaps.front().is_some_and(|(at, _)| LOSS_REMEMBERED < now.since(*at)) {
            self.gaps.pop_front();
        }
        if self.lapses_at().is_some_and(|at| at <= now) {
            self.clear();
        }
        if self.stuck.forget(now) && self.evidence.is_empty() && !has_ended {
            self.well_since = Some(now);
        }
    }

    /// When what speaks against it is old, if nothing more is heard.
    pub(in super::super) fn lapses_at(&self) -> Option<BootTime> {
        let last = self.evidence.back()?;
        // Who says no to new ones may go on to serve those that it has.
        let is_silence = |piece: &Piece| piece.kind != Kind::Refuses;
        let is_disproved = self.moved_after(last.at) && self.evidence.iter().all(is_silence);
        let lasts = if is_disproved { self.request_lasts() } else { EVIDENCE_LASTS };
        Some(last.at + lasts)
    }

    /// Between two connections to it.
    pub(in super::super) fn usual_gap(&self) -> Option<Duration> {
        self.gap
    }

    /// Who asks seldom is given the time to ask again.
    fn request_lasts(&self) -> Duration {
        let usual = self.gap.map_or(REQUEST_LASTS, |gap| gap.saturating_mul(2));
        usual.clamp(REQUEST_LASTS, EVIDENCE_LASTS)
    }

    /// The kernel begins to count failures anew with every connection made: one was, since the last that failed. When,
    /// its counters tell; what was silent before the first failure may be so still.
    pub(super) fn begins_anew(&mut self) {
        let before = self.failed_at;
        self.evidence.retain(|piece| before < Some(piece.at));
        if self.evidence.is_empty() {
            self.asked.clear();
        }
    }

    /// Its client was cut off, and is no longer: what was said of it meanwhile was the client's, if it moves since.
    pub(in super::super) fn forgive(&mut self) {
        if self.evidence.back().is_some_and(|last| self.moved_after(last.at)) {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.evidence.clear();
        self.well_since = self.moves_since;
    }
}
