//! Healthy processes that wait for somebody outside, or for a time to come.

use core::time::Duration;
use std::{
    net::TcpListener,
    process::Command,
    sync::{Condvar, Mutex},
    thread,
};

use super::{End, Fault};

pub(super) const ACCEPT: Fault =
    healthy("idle-server", "healthy: a server that nobody calls", End::Never, accept);
pub(super) const SIGNAL: Fault = healthy(
    "idle-signal",
    "healthy: workers on a condition, the main thread in sigwait(3)",
    End::Never,
    signal,
);
pub(super) const TIMED: Fault = healthy(
    "idle-timed",
    "healthy: two threads that wait with a time limit, again and again",
    End::Status(0),
    timed,
);
pub(super) const STOPPED: Fault =
    healthy("stopped", "healthy: stopped by SIGSTOP, as by a shell's ^Z", End::Never, stopped);
pub(super) const VFORK: Fault = healthy(
    "vfork-parent",
    "healthy: waits for a child that takes its time",
    End::Status(0),
    child_takes_time,
);
pub(super) const PIPELINE: Fault =
    healthy("pipeline", "healthy: a shell's pipe whose writer is slow", End::Status(0), pipeline);

const LIFE: Duration = Duration::from_secs(60);
const WHILE: Duration = Duration::from_secs(5);

const fn healthy(name: &'static str, does: &'static str, end: End, child: fn() -> u8) -> Fault {
    Fault::healthy(name, does, end, child).lasting(6)
}

fn accept() -> u8 {
    let server = TcpListener::bind("127.0.0.1:0");
    match server.and_then(|server| server.accept()) {
        Ok(_) => 0,
        Err(_) => 1,
    }
}

fn signal() -> u8 {
    let (ready, changed) = (Mutex::new(false), Condvar::new());
    let mut got = 0;
    // SAFETY: the set is initialised before it is used; all pointers are to live locals. Blocked before threads start.
    let set = unsafe {
        let mut set = core::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, core::ptr::null_mut());
        set
    };
    thread::scope(|scope| {
        for _worker in 0..2 {
            scope.spawn(|| {
                if let Ok(not_yet) = ready.lock() {
                    drop(changed.wait_while(not_yet, |ready| !*ready));
                }
            });
        }
        // SAFETY: as above.
        unsafe { libc::sigwait(&raw const set, &raw mut got) };
        ready.lock().map(|mut ready| *ready = true).ok();
        changed.notify_all();
    });
    0
}

fn timed() -> u8 {
    let (never, changed) = (Mutex::new(()), Condvar::new());
    thread::scope(|scope| {
        for _waiter in 0..2 {
            scope.spawn(|| {
                for _round in 0..2 {
                    let Ok(guard) = never.lock() else { return };
                    drop(changed.wait_timeout(guard, WHILE / 2));
                }
            });
        }
    });
    0
}

fn stopped() -> u8 {
    // SAFETY: a plain system call: we stop ourselves. Whoever kills our cgroup ends us all the same.
    unsafe { libc::raise(libc::SIGSTOP) };
    thread::sleep(LIFE);
    0
}

/// posix_spawn(3) is vfork(2) until the child has called execve(2); then it is waited for.
fn child_takes_time() -> u8 {
    let slept = Command::new("/bin/sleep").arg("4").status();
    u8::from(!slept.is_ok_and(|status| status.success()))
}

fn pipeline() -> u8 {
    let script = "(for turn in 1 2 3 4; do sleep 1; echo $turn; done) | while read -r line; do :; done";
    let done = Command::new("/bin/sh").args(["-c", script]).status();
    u8::from(!done.is_ok_and(|status| status.success()))
}
