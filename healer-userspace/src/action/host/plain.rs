//! What a program that we start does not inherit from us: our environment, our limits, and the kernel's favour.

use crate::{memlock, nofile};

pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Between fork(2) and execve(2): async-signal-safe. When memory runs out the agent is spared, not what it has started.
pub(crate) fn reset() {
    memlock::give_back();
    nofile::give_back();
    // SAFETY: the path is a literal with its NUL; open(2), write(2) and close(2) keep nothing of ours.
    unsafe {
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file >= 0 {
            libc::write(file, b"0".as_ptr().cast(), 1);
            libc::close(file);
        }
    }
}
