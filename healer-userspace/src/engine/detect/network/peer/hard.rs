//! Words of a peer that need not be waited for: they are no loss of packets, and no restart explains them.

use core::time::Duration;

use super::{Kind, Peer};

/// A restart without a gap worth naming takes less.
const REFUSAL_LASTS: Duration = Duration::from_secs(2);
/// More than a burst.
const IF_FOR_GOOD: Duration = Duration::from_millis(400);

impl Peer {
    /// How long it has to say no until that is a failure.
    pub(super) fn refusal_lasts(&self, kind: Kind, refuses_for_good: impl Fn() -> bool) -> Duration {
        let is_told = || self.evidence.iter().all(|piece| !piece.is_inferred);
        match kind {
            Kind::Refuses if self.has_begun(IF_FOR_GOOD) && is_told() && refuses_for_good() => IF_FOR_GOOD,
            Kind::Refuses
            | Kind::Unreachable
            | Kind::NoAnswer
            | Kind::Frozen
            | Kind::Dns
            | Kind::Stale => REFUSAL_LASTS,
        }
    }

    /// Has anything spoken against it for so long?
    fn has_begun(&self, before: Duration) -> bool {
        let (first, last) = (self.evidence.front(), self.evidence.back());
        first.zip(last).is_some_and(|(first, last)| before <= last.at.since(first.at))
    }
}
