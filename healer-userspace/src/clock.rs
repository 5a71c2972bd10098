//! The only reader of time.

use crate::engine::time::BootTime;

/// `CLOCK_BOOTTIME` now.
pub fn boot_now() -> BootTime {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    BootTime(seconds * 1_000_000_000 + nanos)
}
