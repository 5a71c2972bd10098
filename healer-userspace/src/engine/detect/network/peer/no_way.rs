//! What says of a peer that this machine has no way to it.

use core::time::Duration;

use super::{ENOUGH, Kind, Peer, Piece};
use crate::engine::time::BootTime;

/// Edges and calls are told by two rings, which reorder.
const TOLD_TWICE: Duration = Duration::from_secs(1);
/// Of each process some of the calls that fail are told.
const NO_WAY_LASTS: Duration = Duration::from_secs(2);

/// After which somebody who asks so often is missed.
fn patience(gap: Duration) -> Duration {
    const LEAST: Duration = Duration::from_secs(1);
    gap.saturating_mul(3).max(LEAST)
}

impl Peer {
    /// A call that asked for a connection failed at once. What an edge has told is not counted twice.
    pub(in super::super) fn no_way(&mut self, at: BootTime) {
        if self.edge_at.is_some_and(|edge| at.since(edge) < TOLD_TWICE) {
            return;
        }
        self.no_way_at = Some(at);
        self.unreachable(at, "a call for a connection was told that there is no way", 2, false, false);
    }

    pub(in super::super) fn had_no_way(&self, at: BootTime) -> bool {
        self.no_way_at.is_some_and(|told| at.since(told) < NO_WAY_LASTS)
    }

    /// There was no route for something while this peer was, or by its habit should have been asked. `is_told`: the
    /// kernel has said which link or route is gone, so once is enough.
    pub(in super::super) fn no_route(&mut self, at: BootTime, is_told: bool) {
        if self.had_no_way(at) || self.is_overdue(at, is_told) {
            let (weight, says) =
                (if is_told { ENOUGH } else { 2 }, "this machine had no route for a connection");
            // Nobody has said that it was meant for this peer: if that moves, it was not.
            self.unreachable(at, says, weight, true, !self.had_no_way(at));
        }
    }

    /// Whoever only uses connections that are made may do so seldom.
    fn is_overdue(&self, at: BootTime, is_told: bool) -> bool {
        let uses = self.moves_gap.filter(|_| !is_told && self.last_ok < self.moved_at);
        let usual = self.gap.map(|gap| patience(gap.max(uses.unwrap_or_default())));
        usual.zip(self.last_answer()).is_some_and(|(usual, ok)| usual < at.since(ok))
    }

    /// Connections to it were made as often as usual until it began, at `earliest`, and none for longer by now. Whoever
    /// has a pool asks in a burst, and for no more: that habit is over.
    pub(in super::super) fn is_missed(&self, at: BootTime, earliest: BootTime, is_told: bool) -> bool {
        let Some((gap, ok)) = self.gap.zip(self.last_ok) else { return false };
        let was_asked = earliest <= ok + patience(gap);
        was_asked && (self.had_no_way(at) || self.is_overdue(at, is_told))
    }

    fn unreachable(&mut self, at: BootTime, says: &str, weight: u32, is_local: bool, is_of_data: bool) {
        self.last_seen = self.last_seen.max(at);
        self.add(Piece {
            at,
            kind: Kind::Unreachable,
            says: says.to_owned(),
            weight,
            cookie: at.0,
            timeouts: 0,
            is_reset: false,
            is_local,
            is_of_data,
            is_inferred: false,
            has_cause: false,
        });
    }
}
