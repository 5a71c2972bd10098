//! Engine time: `CLOCK_BOOTTIME` in nanoseconds, brought by the caller.

use core::{fmt, ops, time::Duration};

use serde::{Deserialize, Serialize};

/// Nanoseconds since boot, suspend included (`clock_gettime(2)`, `CLOCK_BOOTTIME`).
/// Meaningless across a reboot: what is persisted carries the boot id as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(pub u64);

impl BootTime {
    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl ops::Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(saturating_nanos(by)))
    }
}

impl ops::Sub<Duration> for BootTime {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(saturating_nanos(by)))
    }
}

fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration as a tired person reads it: `340µs`, `12ms`, `3.4s`, `2m10s`, `3h05m`.
pub struct Human(pub Duration);

impl fmt::Display for Human {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Integers: this is the dearest part of the sentence of an end.
        let nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        let seconds = nanos / 1_000_000_000;
        match nanos / 1_000 {
            micros @ 0..1_000 => write!(out, "{micros}µs"),
            1_000..10_000 => tenths(out, nanos, 100_000, "ms"),
            micros @ 10_000..1_000_000 => write!(out, "{}ms", micros / 1_000),
            1_000_000..60_000_000 => tenths(out, nanos, 100_000_000, "s"),
            60_000_000..3_600_000_000 => write!(out, "{}m{:02}s", seconds / 60, seconds % 60),
            _ => write!(out, "{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        }
    }
}

/// `3.4s`, rounded.
fn tenths(out: &mut fmt::Formatter<'_>, nanos: u64, tenth: u64, unit: &str) -> fmt::Result {
    let tenths = (nanos + tenth / 2) / tenth;
    write!(out, "{}.{}{unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let check = |micros, text: &str| {
            assert_eq!(Human(Duration::from_micros(micros)).to_string(), text);
        };
        check(340, "340µs");
        check(3_400, "3.4ms");
        check(12_000, "12ms");
        check(3_400_000, "3.4s");
        check(9_960, "10.0ms");
        check(59_970_000, "60.0s");
        check(130_000_000, "2m10s");
        check(11_100_000_000, "3h05m");
    }

    #[test]
    fn time_never_wraps() {
        assert_eq!(BootTime(5) - Duration::from_secs(1), BootTime(0));
        assert_eq!(BootTime(u64::MAX) + Duration::from_secs(1), BootTime(u64::MAX));
        assert_eq!(BootTime(1).since(BootTime(2)), Duration::ZERO);
    }
}
