//! Waits on files: locks, pipes. Who holds the other end is found by the descriptors of all processes.

use std::collections::{BTreeMap, BTreeSet};

use healer_common::task_scan::TaskRecord;

use super::{procfs::Proc, table::Sleeper};
use crate::signal::waits::{Owner, Source, Wait, WaitKind};

/// Numbers of the x86-64 table.
const SYS_READ: i32 = 0;
const SYS_WRITE: i32 = 1;
const SYS_READV: i32 = 19;
const SYS_WRITEV: i32 = 20;
const SYS_FCNTL: i32 = 72;
const SYS_FLOCK: i32 = 73;
const F_SETLKW: u64 = 7;
const F_OFD_SETLKW: u64 = 38;
/// `O_ACCMODE` of open(2), and its values.
const ACCESS: u32 = 3;
const READ_ONLY: u32 = 0;
const WRITE_ONLY: u32 = 1;

/// What a sleeper wants of the file behind one of its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileWait {
    want: Want,
    pub(crate) fd: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Flock,
    PosixLock,
    OfdLock,
    PipeWrite,
    PipeRead,
}

impl Want {
    fn kind(self) -> WaitKind {
        match self {
            Self::Flock => WaitKind::Flock,
            Self::PosixLock => WaitKind::PosixLock,
            Self::OfdLock => WaitKind::OfdLock,
            Self::PipeWrite => WaitKind::PipeWrite,
            Self::PipeRead => WaitKind::PipeRead,
        }
    }

    fn is_of_pipe(self) -> bool {
        matches!(self, Self::PipeWrite | Self::PipeRead)
    }

    /// How it is known that somebody else is in the way.
    fn says(self) -> &'static str {
        match self {
            Self::Flock | Self::PosixLock | Self::OfdLock => "locked by processes",
            Self::PipeWrite => "open for reading in processes",
            Self::PipeRead => "open for writing in processes",
        }
    }

    /// Whether descriptor `fd` of `holder`, open on the same file, can be in the way of one of `tgid`'s.
    fn can_be_met_by(self, (tgid, own): (u32, u32), (holder, fd): (u32, u32)) -> bool {
        match self {
            // Never in each other's way: one process's POSIX locks, and the locks of one open file.
            Self::PosixLock => holder != tgid,
            Self::Flock | Self::OfdLock => (holder, fd) != (tgid, own),
            Self::PipeWrite | Self::PipeRead => true,
        }
    }

    fn is_held_by(self, info: &str, inode: u64) -> bool {
        match self {
            Self::PipeWrite => access(info).is_some_and(|access| access != WRITE_ONLY),
            Self::PipeRead => access(info).is_some_and(|access| access != READ_ONLY),
            Self::Flock => has_lock(info, "FLOCK", inode),
            Self::PosixLock | Self::OfdLock => {
                has_lock(info, "OFDLCK", inode) || has_lock(info, "POSIX", inode)
            }
        }
    }
}

/// Whether it is in a system call that can wait for a lock or a pipe.
pub(crate) fn is_candidate(record: &TaskRecord) -> bool {
    matches!(record.syscall, SYS_READ | SYS_WRITE | SYS_READV | SYS_WRITEV | SYS_FCNTL | SYS_FLOCK)
}

impl FileWait {
    /// `None` for a sleeper that waits for no file, or for one that anybody may open by its name.
    pub(crate) fn of(proc: &Proc, sleeper: &Sleeper) -> Option<Self> {
        let record = &sleeper.record;
        let want = match (record.syscall, record.arg1) {
            (SYS_FLOCK, _) => Want::Flock,
            (SYS_FCNTL, F_SETLKW) => Want::PosixLock,
            (SYS_FCNTL, F_OFD_SETLKW) => Want::OfdLock,
            (SYS_WRITE | SYS_WRITEV, _) => Want::PipeWrite,
            (SYS_READ | SYS_READV, _) => Want::PipeRead,
            _ => return None,
        };
        let fd = u32::try_from(record.arg0).ok()?;
        let is_anonymous =
            || proc.fd_target(record.tgid, fd).is_some_and(|target| target.starts_with("pipe:["));
        (!want.is_of_pipe() || is_anonymous()).then_some(Self { want, fd })
    }
}

/// Who has which of the wanted files open, by device and inode.
pub(crate) struct Holders {
    open: BTreeMap<(u64, u64), Vec<(u32, u32)>>,
}

impl Holders {
    /// Looks through the descriptors of all processes: some microseconds each.
    pub(crate) fn find(proc: &Proc, wanted: &BTreeSet<(u64, u64)>) -> Self {
        let mut open: BTreeMap<(u64, u64), Vec<(u32, u32)>> = BTreeMap::new();
        for tgid in proc.pids() {
            for fd in proc.fds(tgid) {
                if let Some(file) = proc.fd_inode(tgid, fd).filter(|file| wanted.contains(file)) {
                    open.entry(file).or_default().push((tgid, fd));
                }
            }
        }
        Self { open }
    }

    /// The wait of a thread of `tgid`; `None` if nobody is known to hold what it wants.
    pub(crate) fn wait(&self, proc: &Proc, tgid: u32, FileWait { want, fd }: FileWait) -> Option<Wait> {
        let file = proc.fd_inode(tgid, fd)?;
        let inode = file.1;
        let open = self.open.get(&file)?.iter().copied();
        let holders = open
            .filter(|holder| want.can_be_met_by((tgid, fd), *holder))
            .filter(|(holder, fd)| want.is_held_by(&proc.fd_info(*holder, *fd), inode));
        let owners: BTreeSet<u32> = holders.map(|(holder, _)| holder).collect();
        if owners.is_empty() {
            return None;
        }
        let lock = if want.is_of_pipe() { format!("pipe:[{inode}]") } else { format!("inode {inode}") };
        Some(Wait {
            kind: want.kind(),
            // A signal handler may write into its own pipe: an empty one stays empty in a closed world only.
            source: if want == Want::PipeRead { Source::ClosedWorld } else { Source::Kernel },
            says: format!("descriptor {fd} is {lock}, {} {owners:?}", want.says()),
            lock,
            word: None,
            owners: owners.into_iter().map(Owner::Process).collect(),
        })
    }
}

fn access(info: &str) -> Option<u32> {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    Some(u32::from_str_radix(flags.trim(), 8).ok()? & ACCESS)
}

/// `lock:\t1: FLOCK  ADVISORY  WRITE 123 08:01:4242 0 EOF`; with `->` it is waited for, not held.
fn has_lock(info: &str, kind: &str, inode: u64) -> bool {
    let suffix = format!(":{inode}");
    info.lines().filter(|line| line.starts_with("lock:") && !line.contains("->")).any(|line| {
        let mut words = line.split_ascii_whitespace().skip(2);
        words.next() == Some(kind) && words.any(|word| word.ends_with(&suffix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_read_from_fdinfo() {
        let info = "pos:\t0\nflags:\t0100002\nlock:\t1: FLOCK  ADVISORY  WRITE 4242 fe:00:77 0 EOF\n";
        assert!(has_lock(info, "FLOCK", 77));
        assert!(!has_lock(info, "FLOCK", 7));
        assert!(!has_lock(info, "POSIX", 77));
        let waiting = "lock:\t1: -> FLOCK  ADVISORY  WRITE 4242 fe:00:77 0 EOF\n";
        assert!(!has_lock(waiting, "FLOCK", 77));
        assert_eq!(access(info), Some(2));
        assert_eq!(access("flags:\t01\n"), Some(1));
    }
}
