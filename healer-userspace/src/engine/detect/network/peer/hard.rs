//! What need not be waited for: no loss of packets and no restart explains it.

use core::time::Duration;

use super::{Kind, Peer, weigh::A_WORD};
use crate::engine::time::BootTime;

/// More than a burst.
pub(super) const HARD_LASTS: Duration = Duration::from_millis(400);
/// Neighbours that do not answer are told after three seconds (neigh/default/*/mcast_solicit).
const ON_THE_WAY_US: u64 = 50_000;

impl Peer {
    /// What is known beside the peer explains it.
    pub(super) fn is_hard(&self, kind: Kind, is_explained: impl Fn(Kind) -> bool) -> bool {
        let ends = self.evidence.front().zip(self.evidence.back());
        let has_lasted = ends.is_some_and(|(first, last)| HARD_LASTS <= last.at.since(first.at));
        let is_told = || self.evidence.iter().all(|piece| !piece.is_inferred);
        has_lasted
            && is_told()
            && match kind {
                Kind::NoAnswer => !self.is_lossy() && is_explained(kind),
                Kind::Refuses | Kind::Unreachable => is_explained(kind),
                Kind::Frozen | Kind::Dns | Kind::Stale => false,
            }
    }

    /// When enough of it said so.
    pub(super) fn said_at(&self, kind: Kind) -> Option<BootTime> {
        let mut said = 0;
        self.evidence.iter().find_map(|piece| {
            said += if piece.kind == kind { piece.weight } else { 0 };
            (A_WORD <= said).then_some(piece.at)
        })
    }

    /// Why is known, and is neither a link nor a route of this machine: their news are older than what is held up, and
    /// no filter or router speaks for them.
    pub(super) fn needs_no_cause(&self) -> bool {
        let mut known = self.evidence.iter().filter(|piece| piece.has_cause);
        let first = known.next();
        first.is_some_and(|piece| piece.is_local || known.next().is_some())
    }
}

/// It was told at once, so somebody on the way has: a neighbour that is gone is noticed later.
pub(super) fn is_told_on_the_way(age_us: Option<u64>) -> bool {
    age_us.is_some_and(|age| age < ON_THE_WAY_US)
}
