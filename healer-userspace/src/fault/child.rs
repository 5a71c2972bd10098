//! The process in which the fault happens.

use super::Fault;

/// When the fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Now,
    /// Once SIGUSR1 has come: until then it is a healthy service, and so is its successor.
    Asked,
}

/// The end of a child whose cgroup nobody killed.
const LIFE_SECONDS: u32 = 300;

/// Runs in the child; returns its exit status if the fault lets it end in order.
pub fn run(fault: &Fault, when: When) -> u8 {
    // A process name has 15 bytes (PR_SET_NAME); without it every victim would be called healer.
    let name = std::ffi::CString::new(fault.name).unwrap_or_default();
    rustix::thread::set_name(&name).ok();
    no_core_file();
    // SAFETY: alarm(2) is a plain system call. Whoever forgets us, this does not.
    unsafe { libc::alarm(LIFE_SECONDS) };
    match when {
        When::Now => {}
        When::Asked => wait_to_be_asked(),
    }
    (fault.child)()
}

fn no_core_file() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).ok();
}

/// sigwait(3) needs the signal blocked, else its default action would end the process.
fn wait_to_be_asked() {
    let mut got = 0;
    // SAFETY: the set is initialised by sigemptyset before it is used; all pointers are to live locals.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGUSR1);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::sigwait(&raw const set, &raw mut got);
    }
}
