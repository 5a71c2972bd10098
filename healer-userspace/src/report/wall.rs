//! Boot time to wall time, for people and for records that outlive the boot.

use std::sync::Arc;

use crate::engine::time::BootTime;
/// Both clocks, read at one moment.
pub use crate::store::row::Moment as Now;

/// Reads both clocks; brought by the agent, so that nothing here reads time itself.
pub type ReadClock = Arc<dyn Fn() -> Now + Send + Sync>;

/// RFC 3339 in UTC with nine digits, as in every `*_time` field.
pub fn rfc3339(now: Now, at: BootTime) -> String {
    format!("{:.9}", now.wall_at(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_and_future_are_seen_from_now() {
        let now = Now {
            boot: BootTime(10_000_000_000),
            wall: jiff::Timestamp::from_second(1_700_000_000).expect("in range"),
        };
        assert_eq!(rfc3339(now, BootTime(9_000_000_001)), "2023-11-14T22:13:19.000000001Z");
        assert_eq!(rfc3339(now, BootTime(11_000_000_000)), "2023-11-14T22:13:21.000000000Z");
    }
}
