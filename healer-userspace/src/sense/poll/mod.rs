//! What no tracepoint tells: state that has to be looked at again and again.

pub mod cpu;
pub mod memory;
pub mod levels;
pub mod flows;
pub mod sockets;
pub mod peers;
pub mod routes;
pub mod tasks;
mod unix_sockets;
pub mod work;

use core::time::Duration;

use crate::engine::time::BootTime;

/// The whole second nearest to the end of a pause: what is looked at once a second is looked at in one turn.
#[must_use]
pub fn beat(now: BootTime, pause: Duration) -> BootTime {
    const SECOND: u64 = 1_000_000_000;
    let end = now + pause + Duration::from_millis(500);
    BootTime(end.0 / SECOND * SECOND)
}

/// Two beats are a second apart, but for this.
const JITTER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_begins_when_it_will_shares_a_beat() {
        let second = Duration::from_secs(1);
        let at = |millis: u64| BootTime(millis * 1_000_000);
        assert_eq!(beat(at(10_002), second), at(11_000));
        assert_eq!(beat(at(10_400), second), at(11_000));
        assert_eq!(beat(at(10_600), second), at(12_000), "never nearly at once");
    }
}
