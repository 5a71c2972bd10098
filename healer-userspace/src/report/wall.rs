//! Boot time to wall time, for people and for records that outlive the boot.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::engine::time::BootTime;

/// Both clocks, read at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub boot: BootTime,
    pub wall: Timestamp,
}

/// Reads both clocks; brought by the agent, so that nothing here reads time itself.
pub type ReadClock = Arc<dyn Fn() -> Now + Send + Sync>;

impl Now {
    /// Wall time of a moment of this boot, by the wall clock as it stands now.
    pub fn wall_of(&self, at: BootTime) -> Timestamp {
        let nanos = i128::from(at.0) - i128::from(self.boot.0);
        let offset = SignedDuration::from_nanos(i64::try_from(nanos).unwrap_or_default());
        self.wall.checked_add(offset).unwrap_or(self.wall)
    }

    /// RFC 3339 in UTC with nine digits, as in every `*_time` field.
    pub fn rfc3339(&self, at: BootTime) -> String {
        format!("{:.9}", self.wall_of(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_and_future_are_seen_from_now() {
        let now = Now {
            boot: BootTime(10_000_000_000),
            wall: Timestamp::from_second(1_700_000_000).expect("in range"),
        };
        assert_eq!(now.rfc3339(BootTime(9_000_000_001)), "2023-11-14T22:13:19.000000001Z");
        assert_eq!(now.rfc3339(BootTime(11_000_000_000)), "2023-11-14T22:13:21.000000000Z");
    }
}
