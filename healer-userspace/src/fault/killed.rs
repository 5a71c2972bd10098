//! kill -9 by another process.

use core::time::Duration;

use super::{End, Fault};
use crate::engine::class::Class;

pub(super) const KILLED: Fault = Fault::failing(
    "killed",
    Class::Down,
    "somebody sends kill -9 to a supervised command",
    End::Signal(libc::SIGKILL),
    by_somebody,
)
.supervised();

/// Forks the one who kills.
fn by_somebody() -> u8 {
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
