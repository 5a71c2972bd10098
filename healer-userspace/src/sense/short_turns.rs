//! Whoever reads the rings asks the scheduler for short turns: it works for a tenth of a millisecond and should begin
//! at once.
//!
//! A record is written by the thread that dies, and the reader is often woken on its CPU: with the default turn it
//! waits until the dead one's memory has been taken apart.

use std::io;

/// The shortest that the kernel gives (`sched_attr.sched_runtime` of a normal task, since 6.12; ignored before).
const TURN_NS: u64 = 100_000;

/// For the calling thread alone: what it starts has the default again. A policy or niceness that somebody chose stays.
///
/// # Errors
/// The kernel refuses, as may a seccomp filter.
pub fn ask_for_short_turns() -> io::Result<()> {
    // SAFETY: no memory is passed.
    let (policy, nice) = unsafe { (libc::sched_getscheduler(0), libc::getpriority(libc::PRIO_PROCESS, 0)) };
    if policy != libc::SCHED_OTHER {
        return Ok(());
    }
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: libc::SCHED_FLAG_RESET_ON_FORK as u64,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: TURN_NS,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the attributes are valid for the call, and their size is told.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_niceness_stays() {
        // SAFETY: no memory is passed.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = nice();
        super::ask_for_short_turns().unwrap();
        assert_eq!(nice(), before);
    }
}
