//! Faults in which one thread differs from the others.

use core::time::Duration;

use super::{End, Fault};
use crate::engine::class::Class;

pub(super) const SEGV: Fault = Fault::failing(
    "segv",
    Class::Crash,
    "a worker thread, not the leader, writes to a bad address",
    End::Signal(libc::SIGSEGV),
    segv,
);
pub(super) const LEADER_EXITS: Fault = Fault::healthy(
    "leader-exits",
    "healthy: the main thread ends, the others go on",
    End::Never,
    leader_exits,
)
.lasting(3);

/// The kernel reports the death of a process once, although the thread that dies first is not the leader.
fn segv() -> u8 {
    let worker = std::thread::spawn(|| {
        let nowhere = std::ptr::without_provenance_mut::<u32>(0x18);
        // SAFETY: there is none, on purpose: nothing is mapped below mmap_min_addr, so the kernel sends SIGSEGV.
        unsafe { nowhere.write_volatile(1) };
    });
    worker.join().ok();
    1
}

/// exit(2), unlike exit_group(2), ends the calling thread alone: the leader becomes a zombie, the process lives.
fn leader_exits() -> u8 {
    let worker = std::thread::spawn(|| std::thread::sleep(Duration::from_secs(60)));
    // SAFETY: nothing of this thread is used by the other, and libc's own state is left to the living process.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    worker.join().ok();
    1
}
