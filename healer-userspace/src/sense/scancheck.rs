//! Whether the scan of the tasks tells the truth: of a child of healer that waits, it must say what `/proc` says.

use std::{
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    path::Path,
    time::Duration,
};

use healer_common::task_scan::TaskRecord;
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitOptions, waitpid},
};

use super::{poll::tasks::TaskScan, selfcheck::Verdict, waits::procfs::Proc};
use crate::{clock, identity::process::TICK_NS, signal::calls::READ};

/// Kinds of sleep; beside them the kernel keeps how one may be disturbed (include/linux/sched.h).
const STATES: u32 = 0xff;
/// A child that does not come to rest in this time says nothing of the scan.
const PATIENCE: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(1);
/// The first pass meets the child, the second tells of it.
const PASSES: u32 = 3;
/// If healer is killed in between, its child must not stay.
const CHILD_SECONDS: u32 = 5;

/// What the scan makes of the truth; `None` if it cannot be told here.
pub(super) fn verdict(scan: &mut TaskScan) -> Option<Verdict> {
    let child = Sleeper::fork()?;
    let truth = at_rest(child.tgid())?;
    let mut said = None;
    for _pass in 0..PASSES {
        let records = scan.pass(Duration::ZERO).ok()?.records;
        said = said.or_else(|| records.into_iter().find(|record| record.pid == truth.pid));
    }
    scan.begin_anew();
    Some(match said {
        None => Verdict::Wrong("of a child of healer that waits it said nothing".to_owned()),
        Some(said) => difference(&said, &truth).map_or(Verdict::Truthful, Verdict::Wrong),
    })
}

/// What `/proc` says of the child once it waits.
fn at_rest(tgid: u32) -> Option<TaskRecord> {
    let (proc, began) = (Proc::new(Path::new("/proc")), clock::boot());
    while clock::boot().since(began) < PATIENCE {
        let start = proc.stat(tgid, tgid)?.start_boot_ns;
        let record = proc.record(tgid, tgid, start, 1)?;
        if record.state != 0 && record.syscall == READ {
            return Some(record);
        }
        std::thread::sleep(STEP);
    }
    None
}

/// The first thing that it says of the child and is not so. `/proc` tells starts in ticks.
fn difference(said: &TaskRecord, truth: &TaskRecord) -> Option<String> {
    let pairs = [
        ("process", said.tgid.into(), truth.tgid.into()),
        ("state", u64::from(said.state & STATES), truth.state.into()),
        ("threads", said.threads.into(), truth.threads.into()),
        ("start in ticks", said.leader_start_boot_ns / TICK_NS, truth.start_boot_ns / TICK_NS),
        ("call", said.syscall as u64, truth.syscall as u64),
        ("first argument", said.arg0, truth.arg0),
        ("second argument", said.arg1, truth.arg1),
        ("third argument", said.arg2, truth.arg2),
        ("fourth argument", said.arg3, truth.arg3),
        ("stack", said.sp, truth.sp),
        ("place", said.ip, truth.ip),
    ];
    let (name, said, truth) = pairs.into_iter().find(|(_, said, truth)| said != truth)?;
    Some(format!("of a child of healer that waits it said {name} {said:#x}, not {truth:#x}"))
}

/// A child that waits for the end of a pipe and then ends well: of that nobody is told.
struct Sleeper {
    pid: Pid,
    pipe: Option<OwnedFd>,
}

impl Sleeper {
    fn fork() -> Option<Self> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).ok().map(|(read, write)| (write, read))?;
        // SAFETY: the child of a program with threads may only make calls that are safe in a signal
        // handler (fork(2)): it makes system calls, and never returns.
        match unsafe { libc::fork() } {
            0 => wait_for_the_end(theirs.as_raw_fd(), ours.as_raw_fd()),
            pid => Some(Self { pid: Pid::from_raw(pid).filter(|_| 0 < pid)?, pipe: Some(ours) }),
        }
    }

    fn tgid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.pipe = None;
        waitpid(Some(self.pid), WaitOptions::empty()).ok();
    }
}

fn wait_for_the_end(theirs: RawFd, ours: RawFd) -> ! {
    let mut byte = 0_u8;
    // SAFETY: one byte is written to one byte; the rest takes numbers.
    unsafe {
        libc::alarm(CHILD_SECONDS);
        libc::close(ours);
        libc::read(theirs, (&raw mut byte).cast(), 1);
        libc::_exit(0)
    }
}

#[cfg(test)]
mod tests {
    use healer_common::event::wire::Wire as _;

    use super::*;

    #[test]
    fn what_differs_is_named_with_both_numbers() {
        let truth = TaskRecord { pid: 7, tgid: 7, threads: 1, state: 1, arg1: 0x7ffd, ..TaskRecord::ZERO };
        assert_eq!(difference(&truth, &truth), None);
        let said = TaskRecord { arg1: 0x16, ..truth };
        let says = difference(&said, &truth).unwrap();
        assert_eq!(says, "of a child of healer that waits it said second argument 0x16, not 0x7ffd");
        let late = TaskRecord { leader_start_boot_ns: 2 * TICK_NS, ..truth };
        assert!(difference(&late, &truth).unwrap().contains("start in ticks 0x2, not 0x0"));
    }

    #[test]
    fn a_child_comes_to_rest_and_ends_when_it_is_not_needed() {
        let child = Sleeper::fork().unwrap();
        let record = at_rest(child.tgid()).unwrap();
        assert_eq!((record.pid, record.syscall, record.arg2, record.state), (child.tgid(), READ, 1, 1));
        let tgid = child.tgid();
        drop(child);
        assert!(!Path::new(&format!("/proc/{tgid}")).exists());
    }
}
