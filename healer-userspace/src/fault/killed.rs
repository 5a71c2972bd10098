//! kill -9 by another process.

use core::time::Duration;

/// Forks the one who kills.
pub(super) fn by_somebody() -> u8 {
    let victim = std::process::id().cast_signed();
    // SAFETY: the process has one thread here, so the child may go on in any way.
    if unsafe { libc::fork() } == 0 {
        rustix::thread::set_name(c"somebody").ok();
        // SAFETY: plain system calls; the victim is our parent and still lives.
        unsafe {
            libc::kill(victim, libc::SIGKILL);
            libc::_exit(0)
        }
    }
    std::thread::sleep(Duration::from_secs(60));
    1
}
