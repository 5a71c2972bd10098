//! The closed world: a private futex is keyed by its address space, so only a thread that shares the memory can
//! wake it. If all of these are parked, nobody ever will, except for what is listed here.

use super::{children::CHILD_SIGNAL, futex::Call, procfs::Proc};
use crate::{
    identity::nature::{SHELLS, base},
    signal::waits::BY_INTERRUPT,
};

/// Signals whose handlers do not mean that somebody waits for them: ILL TRAP ABRT BUS FPE SEGV, and the two that
/// glibc keeps for itself.
const OWN_AFFAIRS: [u32; 8] = [4, 5, 6, 7, 8, 11, 32, 33];
/// include/uapi/linux/kcmp.h.
const KCMP_VM: i32 = 1;

/// Who could wake a parked thread of `tgid` from outside; empty if nobody. With `knows_children` all its children are
/// among those who are known to be able to.
pub(crate) fn wakers(proc: &Proc, tgid: u32, knows_children: bool) -> Vec<String> {
    let known = if knows_children { CHILD_SIGNAL } else { 0 };
    let mut wakers = Vec::new();
    let mut catches = true;
    match proc.status(tgid, tgid) {
        Some(status) => {
            wakers.extend(caught(status.caught & !known).map(|waker| {
                let may_wait_for_it = waker == BY_INTERRUPT && !catches_it_by_nature(proc, tgid);
                if may_wait_for_it { format!("{waker}, which it may wait for") } else { waker }
            }));
            catches = !wakers.is_empty();
            if status.tracer != 0 {
                wakers.push(format!("traced by process {}", status.tracer));
            }
        }
        None => wakers.push("its status cannot be read".to_owned()),
    }
    match proc.timers(tgid) {
        Some(timers) if timers.trim().is_empty() => {}
        Some(_) => wakers.push("has timers".to_owned()),
        // A timer wakes by a signal that is caught, or by a thread of its own.
        None if catches => wakers.push("its timers cannot be read".to_owned()),
        None => {}
    }
    let has_ring = |fd: &u32| proc.fd_target(tgid, *fd).is_some_and(|target| target.contains("io_uring"));
    if proc.fds(tgid).iter().any(has_ring) {
        wakers.push("has an io_uring".to_owned());
    }
    // A leader that has exited has no memory, as threads of the kernel have none.
    let one = proc.threads(tgid).first().copied().unwrap_or(tgid);
    if let Some(other) = proc.pids().into_iter().find(|pid| *pid != tgid && shares_memory(one, *pid)) {
        wakers.push(format!("shares its memory with process {other}"));
    }
    wakers
}

/// Shells do while their child runs, and Python does; one whose single thread waits for itself waits for nothing else.
fn catches_it_by_nature(proc: &Proc, tgid: u32) -> bool {
    let program = proc.program(tgid).unwrap_or_default();
    let name = base(&program);
    SHELLS.contains(&name) || name.starts_with("python") && !waits_alone(proc, tgid)
}

fn waits_alone(proc: &Proc, tgid: u32) -> bool {
    let threads = proc.threads(tgid);
    let call = || Call::of(&proc.call(tgid, *threads.first()?)?);
    threads.len() == 1 && call().is_some_and(|call| call.is_private)
}

fn caught(mask: u64) -> Option<String> {
    let signals = (1..=64).filter(|signal| mask >> (signal - 1) & 1 == 1);
    let numbers: Vec<String> =
        signals.filter(|signal| !OWN_AFFAIRS.contains(signal)).map(|signal| signal.to_string()).collect();
    // `BY_INTERRUPT` is one of these.
    (!numbers.is_empty()).then(|| format!("catches signal {}", numbers.join(", ")))
}

/// `false` also where kcmp(2) is missing: then a memory shared without threads is not noticed.
pub(super) fn shares_memory(one: u32, other: u32) -> bool {
    // SAFETY: takes numbers only.
    unsafe { libc::syscall(libc::SYS_kcmp, one as i32, other as i32, KCMP_VM, 0, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_and_the_c_librarys_own_signals_are_no_wakers() {
        let bit = |signal: u32| 1_u64 << (signal - 1);
        assert_eq!(caught(bit(11) | bit(32) | bit(33)), None);
        assert_eq!(caught(bit(15) | bit(2)), Some("catches signal 2, 15".to_owned()));
    }
}
