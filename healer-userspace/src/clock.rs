//! The only reader of time. The engine and everything after it are handed what is read here.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use crate::engine::policy::maintenance::WallClock;
pub use crate::engine::time::BootTime;

/// `CLOCK_BOOTTIME` now: the clock of kernel records and of process start times.
#[must_use]
pub fn boot() -> BootTime {
    let now = clock_gettime(ClockId::Boottime);
    BootTime(nanos(now.tv_sec, now.tv_nsec))
}

/// CPU time that the calling thread has used (`CLOCK_THREAD_CPUTIME_ID`): what something cost, however busy the
/// machine was.
#[must_use]
pub fn thread_cpu() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::from_nanos(nanos(used.tv_sec, used.tv_nsec))
}

/// `CLOCK_REALTIME` now, for what people and other machines read.
#[must_use]
pub fn wall() -> jiff::Timestamp {
    let now = clock_gettime(ClockId::Realtime);
    let nanos = i32::try_from(now.tv_nsec).unwrap_or(0);
    jiff::Timestamp::new(now.tv_sec, nanos).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// When `boot` was, by the wall clock of now: a step of that clock since then is not seen.
#[must_use]
pub fn wall_of(moment: BootTime) -> jiff::Timestamp {
    let age = boot().since(moment);
    wall().checked_sub(age).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// What the engine knows of the wall clock.
#[must_use]
pub(crate) fn on_the_wall() -> WallClock {
    WallClock { booted: wall().as_nanosecond() - i128::from(boot().0) }
}

/// The same moment by [`boot`]'s clock, of a moment of `CLOCK_MONOTONIC` since the last suspend.
#[must_use]
pub(crate) fn boot_of_monotonic(moment_ns: u64) -> BootTime {
    let now = clock_gettime(ClockId::Monotonic);
    let age = nanos(now.tv_sec, now.tv_nsec).saturating_sub(moment_ns);
    BootTime(boot().0.saturating_sub(age))
}

/// For how long the machine was suspended since it booted.
pub(crate) fn suspended() -> Duration {
    let awake = clock_gettime(ClockId::Monotonic);
    Duration::from_nanos(boot().0.saturating_sub(nanos(awake.tv_sec, awake.tv_nsec)))
}

/// Names this boot: boot times of another one mean nothing (`random(4)`).
///
/// # Errors
/// If `/proc` is not mounted or cannot be read.
pub fn boot_id() -> std::io::Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(id.trim_end().to_owned())
}

/// A deadline for the event loop.
pub(crate) fn after(delay: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + delay
}

fn nanos(seconds: i64, nanos: i64) -> u64 {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let nanos = u64::try_from(nanos).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_goes_forward() {
        let earlier = boot();
        assert!(earlier <= boot());
        assert!(BootTime(0) < earlier);
    }

    #[test]
    fn a_moment_of_a_minute_ago_was_a_minute_ago() {
        let minute = Duration::from_secs(60);
        let then = wall_of(boot() - minute);
        let ago = wall().duration_since(then).as_secs();
        assert!((59..=61).contains(&ago), "{ago}");
    }

    #[test]
    fn the_boot_has_a_name() {
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
