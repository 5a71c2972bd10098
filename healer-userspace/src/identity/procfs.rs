//! What `/proc/PID` says, read through one directory handle: once the process is gone every read
//! fails, even if its pid has a new owner.

use std::{ffi::OsStr, os::fd::OwnedFd, os::unix::ffi::OsStrExt as _, path::Path};

use libc::RLIM_INFINITY;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, readlinkat, stat, statx};

use super::{cgroup::Membership, exe::ExeId};
use crate::{
    engine::time::BootTime,
    identity::process::{ARGS_MAX, TICK_NS},
    text::lossy,
};

/// `MemTotal` of `/proc/meminfo`, bytes.
pub fn machine_memory(proc: &Path) -> Option<u64> {
    let info = std::fs::read_to_string(proc.join("meminfo")).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

const STAT_MAX: usize = 4 << 10;
/// `Groups:` stands before `NSpid:` and may hold 65,536 numbers.
const STATUS_MAX: usize = 1 << 20;
const CGROUP_MAX: usize = 128 << 10;

/// One process directory, held open.
pub struct ProcDir(OwnedFd);

impl ProcDir {
    /// `None`: no such process, or it is hidden from us.
    pub fn open(proc: &Path, pid: u32) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = proc.join(pid.to_string());
        openat(CWD, &path, flags, Mode::empty()).ok().map(Self)
    }

    pub fn stat(&self) -> Option<Stat> {
        Stat::parse(&self.read("stat", STAT_MAX)?)
    }

    pub fn status(&self) -> Option<Status> {
        Status::parse(&self.read("status", STATUS_MAX)?)
    }

    pub fn cgroup(&self) -> Option<Membership> {
        Some(Membership::parse(&self.read("cgroup", CGROUP_MAX)?))
    }

    /// CPU time of all its threads, to the clock tick; of a zombie too.
    pub fn cpu_ms(&self) -> Option<u64> {
        cpu_ms(&self.read("stat", STAT_MAX)?)
    }

    /// A line of `limits` (getrlimit(2)); [`RLIM_INFINITY`]: there is none. `None`: nobody knows, as once it is gone.
    pub fn hard_limit(&self, name: &str) -> Option<u64> {
        hard_limit(&lossy(&self.read("limits", STAT_MAX)?), name)
    }

    /// The first [`ARGS_MAX`] bytes of the arguments; empty for kernel threads and zombies.
    pub fn args(&self) -> Vec<String> {
        split_args(&self.read("cmdline", ARGS_MAX).unwrap_or_default())
    }

    /// `None` for kernel threads, for zombies, and without the right to look (`ptrace(2)`).
    pub fn exe(&self) -> Option<Exe> {
        let link = readlinkat(&self.0, "exe", Vec::new()).ok()?;
        // What is known of it here is enough: a server that is gone is not asked (statx(2)).
        let known = statx(&self.0, "exe", AtFlags::STATX_DONT_SYNC, StatxFlags::INO);
        let id = known.ok().map(|file| ExeId::known(&file));
        let path = without_deleted_mark(link.as_bytes(), id);
        Some(Exe { path: lossy(path), deleted: path.len() != link.as_bytes().len(), id })
    }

    fn read(&self, name: &str, limit: usize) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.0, name, flags, Mode::empty()).ok()?;
        let mut bytes = Vec::with_capacity(limit.min(4 << 10));
        while bytes.len() < limit {
            let mut chunk = [0; 4 << 10];
            let want = chunk.len().min(limit - bytes.len());
            match rustix::io::read(&file, &mut chunk[..want]) {
                Ok(0) => break,
                Ok(got) => bytes.extend_from_slice(&chunk[..got]),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        Some(bytes)
    }
}

/// Pids in a procfs mount, in the kernel's order.
pub fn pids(proc: &Path) -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The executable behind `/proc/PID/exe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exe {
    /// Without the mark that the kernel adds to removed files.
    pub path: String,
    /// The path names another file now, or none.
    pub deleted: bool,
    pub id: Option<ExeId>,
}

/// A file may really be called "x (deleted)": then the link's text still leads to it.
fn without_deleted_mark(link: &[u8], id: Option<ExeId>) -> &[u8] {
    let Some(path) = link.strip_suffix(b" (deleted)") else {
        return link;
    };
    let there = stat(OsStr::from_bytes(link)).ok().map(|f| ExeId::of(&f));
    if there.is_some() && there == id { link } else { path }
}

/// Fields of `/proc/PID/stat` (`proc_pid_stat(5)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub comm: String,
    pub state: u8,
    pub parent: u32,
    /// Process group id.
    pub group: u32,
    pub kernel_thread: bool,
    /// Of all its threads.
    pub major_faults: u64,
    /// A dead leader counts.
    pub threads: u32,
    pub start: BootTime,
    /// Where the main thread's stack begins: an exec draws it anew, a fork keeps it. 0: not ours to see.
    pub stack: u64,
}

/// `PF_KTHREAD` (include/linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;

impl Stat {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let open = bytes.iter().position(|byte| *byte == b'(')?;
        // The name may hold parentheses, spaces and newlines; the numbers after it cannot.
        let close = bytes.iter().rposition(|byte| *byte == b')')?;
        let comm = bytes.get(open + 1..close)?;
        let rest = str::from_utf8(&bytes[close + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let flags: u64 = fields.nth(3)?.parse().ok()?;
        let major_faults = fields.nth(2)?.parse().ok()?;
        let threads = fields.nth(7)?.parse().ok()?;
        let ticks: u64 = fields.nth(1)?.parse().ok()?;
        let stack = fields.nth(5).and_then(|field| field.parse().ok()).unwrap_or(0);
        Some(Self {
            comm: lossy(comm),
            state,
            parent,
            group,
            kernel_thread: flags & KERNEL_THREAD != 0,
            major_faults,
            threads,
            start: BootTime(ticks.saturating_mul(TICK_NS)),
            stack,
        })
    }

    /// Of its main thread.
    pub fn waits_uninterruptibly(&self) -> bool {
        self.state == b'D'
    }

    /// Dead, not yet reaped: arguments, exe and v1 cgroups are gone.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// The whole process is dead. A zombie leader whose threads go on is not.
    pub fn is_over(&self) -> bool {
        self.is_zombie() && self.threads <= 1
    }
}

/// Fields of `/proc/PID/status` (`proc_pid_status(5)`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub tgid: u32,
    /// Real user id.
    pub uid: u32,
    /// Pid in each pid namespace, the innermost last.
    pub ns_pids: Vec<u32>,
    /// Bit N-1: signal N is ignored.
    pub ignored: u64,
    /// Bit N-1: signal N has a handler.
    pub caught: u64,
}

impl Status {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut status = Self::default();
        for line in bytes.split(|byte| *byte == b'\n') {
            let Some((name, value)) = str::from_utf8(line).ok().and_then(|l| l.split_once(':')) else {
                continue;
            };
            let value = value.trim_ascii();
            match name {
                "Tgid" => status.tgid = value.parse().ok()?,
                "Uid" => status.uid = numbers(value).next()?,
                "NSpid" => status.ns_pids = numbers(value).collect(),
                "SigIgn" => status.ignored = u64::from_str_radix(value, 16).ok()?,
                "SigCgt" => status.caught = u64::from_str_radix(value, 16).ok()?,
                _ => {}
            }
        }
        (status.tgid != 0).then_some(status)
    }

    /// PID 1 of a pid namespace below the host's.
    pub fn is_namespace_init(&self) -> bool {
        self.ns_pids.len() > 1 && self.ns_pids.last() == Some(&1)
    }

    pub fn ignores(&self, signal: i32) -> bool {
        has_signal(self.ignored, signal)
    }

    pub fn catches(&self, signal: i32) -> bool {
        has_signal(self.caught, signal)
    }
}

fn has_signal(set: u64, signal: i32) -> bool {
    (1..=64).contains(&signal) && set >> (signal - 1) & 1 == 1
}

fn numbers(text: &str) -> impl Iterator<Item = u32> {
    text.split_ascii_whitespace().filter_map(|number| number.parse().ok())
}

/// `utime` and `stime` of `/proc/PID/stat`.
fn cpu_ms(stat: &[u8]) -> Option<u64> {
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = str::from_utf8(&stat[close + 1..]).ok()?.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()?.saturating_add(ticks()?).saturating_mul(TICK_NS / 1_000_000))
}

/// `NAME SOFT HARD UNIT`
fn hard_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_ascii_whitespace().nth(1)? {
        "unlimited" => Some(RLIM_INFINITY),
        number => number.parse().ok(),
    }
}

/// `argv[0] NUL argv[1] NUL …`; the last may be cut.
pub(crate) fn split_args(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(lossy).collect()
}

#[cfg(test)]
mod tests;
