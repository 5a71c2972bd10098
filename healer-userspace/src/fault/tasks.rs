//! Processes that cannot make others, or do not wait for them; and one that makes many and waits for each.

use core::time::Duration;
use std::thread;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::{End, Fault, child::unmade};
use crate::engine::class::Class;

pub(super) const FORK_BOMB: Fault = Fault::failing(
    "fork-bomb",
    Class::PidExhaustion,
    "forks and waits for nobody until its cgroup has as many tasks as it may have, and goes on",
    End::Never,
    fork_bomb,
)
.lasting(6);
pub(super) const THREADS: Fault = Fault::failing(
    "threads",
    Class::PidExhaustion,
    "a user that may have few threads (RLIMIT_NPROC) makes one after the other",
    End::Never,
    threads,
)
.lasting(6);
pub(super) const ZOMBIES: Fault = Fault::failing(
    "zombies",
    Class::ZombieChildren,
    "two children a second end, and it waits for none",
    End::Never,
    zombies,
)
.lasting(34);
pub(super) const BATCH: Fault = Fault::healthy(
    "forty-children",
    "healthy: forty children at a time, each of which ends and is waited for",
    End::Never,
    batch,
)
.lasting(6);

/// Where no pids controller stops it.
const CHILDREN_MAX: usize = 200;
/// A child that its cgroup forgot.
const CHILD_SECONDS: u32 = 30;

/// The child's pid; `None` if there can be none now.
fn child(lives: bool) -> Option<i32> {
    // SAFETY: the child calls nothing but async-signal-safe functions, and does not return.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            if lives {
                libc::alarm(CHILD_SECONDS);
                libc::pause();
            }
            libc::_exit(0);
        }
        (0 < pid).then_some(pid)
    }
}

fn fork_bomb() -> u8 {
    let mut children = 0;
    loop {
        if children < CHILDREN_MAX && child(true).is_some() {
            children += 1;
        } else {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn threads() -> u8 {
    // Nobody (65534) has few other processes; root would be above the limit.
    const NOBODY: u32 = 65_534;
    const FEW: u64 = 12;
    // SAFETY: plain system calls, before there is a second thread.
    if unsafe { libc::setgid(NOBODY) != 0 || libc::setuid(NOBODY) != 0 } {
        let error = std::io::Error::last_os_error();
        return unmade(
            "become nobody (65534)",
            error,
            "run it with CAP_SETUID and CAP_SETGID, as root has them",
        );
    }
    let limit = Rlimit { current: Some(FEW), maximum: Some(FEW) };
    setrlimit(Resource::Nproc, limit).ok();
    let mut hoard = Vec::new();
    loop {
        let made =
            thread::Builder::new().stack_size(64 << 10).spawn(|| thread::sleep(Duration::from_secs(60)));
        hoard.extend(made.ok());
        thread::sleep(Duration::from_millis(20));
    }
}

fn zombies() -> u8 {
    loop {
        child(false);
        thread::sleep(Duration::from_millis(500));
    }
}

fn batch() -> u8 {
    loop {
        let children: Vec<i32> = (0..40).filter_map(|_| child(false)).collect();
        thread::sleep(Duration::from_millis(200));
        for pid in children {
            // SAFETY: a child of ours; no pointer is given.
            unsafe { libc::waitpid(pid, core::ptr::null_mut(), 0) };
        }
    }
}
