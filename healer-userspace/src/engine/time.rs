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
        let micros = self.0.as_micros();
        let seconds = self.0.as_secs();
        match micros {
            0..1_000 => write!(out, "{micros}µs"),
            1_000..10_000 => write!(out, "{:.1}ms", self.0.as_secs_f64() * 1e3),
            10_000..1_000_000 => write!(out, "{}ms", micros / 1_000),
            1_000_000..60_000_000 => write!(out, "{:.1}s", self.0.as_secs_f64()),
            60_000_000..3_600_000_000 => write!(out, "{}m{:02}s", seconds / 60, seconds % 60),
            _ => write!(out, "{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        }
    }
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
