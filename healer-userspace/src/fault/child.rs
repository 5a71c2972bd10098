//! The process in which the fault happens.

use core::{
    fmt::Display,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::Fault;

/// When the fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Now,
    /// Once SIGUSR1 has come: until then it is a healthy service, and so is its successor.
    Asked,
}

/// The exit status of a fault that cannot be made on this machine.
const UNMADE: u8 = 2;
/// The end of a child whose cgroup nobody killed.
const LIFE_SECONDS: u32 = 300;
const LONG: Duration = Duration::from_secs(3600);
/// True where nobody has to ask.
static IS_ASKED: AtomicBool = AtomicBool::new(true);

/// Runs in the child; returns its exit status if the fault lets it end in order.
pub fn run(fault: &Fault, when: When) -> u8 {
    // A process name has 15 bytes (PR_SET_NAME); without it every victim would be called healer.
    let name = std::ffi::CString::new(fault.name).unwrap_or_default();
    rustix::thread::set_name(&name).ok();
    no_core_file();
    // SAFETY: alarm(2) is a plain system call. Whoever forgets us, this does not.
    unsafe { libc::alarm(LIFE_SECONDS) };
    if when == When::Asked {
        block();
        IS_ASKED.store(false, Ordering::Relaxed);
        if !fault.prepares {
            while !asked_within(LONG) {}
        }
    }
    (fault.child)()
}

/// The status of a child that could not make its fault. A victim that ends without a word helps nobody.
#[expect(clippy::print_stderr, reason = "the victim's own words: there is no log in it")]
pub(super) fn unmade(what: &str, error: impl Display, remedy: &str) -> u8 {
    eprintln!("the fault cannot be made here: {what}: {error}; {remedy}");
    UNMADE
}

fn no_core_file() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).ok();
}

/// The signal waits until somebody asks for it; else its default action would end the process. Children inherit that.
fn block() {
    let set = asking();
    // SAFETY: both pointers are to live locals, or null.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Whether it is to fail now; from then on it stays so.
pub(super) fn asked_within(time: Duration) -> bool {
    if !IS_ASKED.load(Ordering::Relaxed) {
        let set = asking();
        let limit = libc::timespec {
            tv_sec: u32::try_from(time.as_secs()).unwrap_or(u32::MAX).into(),
            tv_nsec: libc::c_long::from(time.subsec_nanos().cast_signed()),
        };
        // SAFETY: all pointers are to live locals, or null.
        let got = unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const limit) };
        IS_ASKED.store(got == libc::SIGUSR1, Ordering::Relaxed);
    }
    IS_ASKED.load(Ordering::Relaxed)
}

fn asking() -> libc::sigset_t {
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGUSR1);
        set
    }
}
