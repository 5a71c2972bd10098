//! Waits on files: locks, pipes, unix sockets. Who holds the other end is found by the descriptors of all processes.

use std::collections::{BTreeMap, BTreeSet};

use healer_common::task_scan::TaskRecord;

use super::{
    children,
    peers::Peers,
    procfs::Proc,
    shared::{self, File, Place},
    table::Sleeper,
};
use crate::signal::{
    calls::{FCNTL, FLOCK, READ, READV, RECVFROM, RECVMSG, SENDMSG, SENDTO, WRITE, WRITEV},
    waits::{Owner, Source, Wait, WaitKind},
};

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
    fd: u32,
    /// Its own file, and its peer's if it is a socket.
    own: File,
    peer: Option<File>,
}

/// Stands for a descriptor where a file is mapped.
const MAPPED: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Flock,
    PosixLock,
    OfdLock,
    PipeWrite,
    PipeRead,
    SocketWrite,
    SocketRead,
    /// A wake-up in shared memory.
    Memory,
}

impl Want {
    fn kind(self) -> WaitKind {
        match self {
            Self::Flock => WaitKind::Flock,
            Self::PosixLock => WaitKind::PosixLock,
            Self::OfdLock => WaitKind::OfdLock,
            Self::PipeWrite => WaitKind::PipeWrite,
            Self::PipeRead => WaitKind::PipeRead,
            Self::SocketWrite => WaitKind::SocketWrite,
            Self::SocketRead => WaitKind::SocketRead,
            Self::Memory => WaitKind::Wakeup,
        }
    }

    /// A signal handler may write into its own pipe: an empty one stays empty in a closed world only.
    fn source(self) -> Source {
        match self {
            Self::PipeRead | Self::SocketRead | Self::Memory => Source::ClosedWorld,
            Self::Flock | Self::PosixLock | Self::OfdLock | Self::PipeWrite | Self::SocketWrite => {
                Source::Kernel
            }
        }
    }

    fn called(self, inode: u64) -> String {
        match self {
            Self::Flock | Self::PosixLock | Self::OfdLock => format!("inode {inode}"),
            Self::PipeWrite | Self::PipeRead => format!("pipe:[{inode}]"),
            Self::SocketWrite | Self::SocketRead => format!("socket:[{inode}]"),
            Self::Memory => format!("shared memory {inode}"),
        }
    }

    /// How it is known that somebody else is in the way.
    fn says(self) -> &'static str {
        match self {
            Self::Flock | Self::PosixLock | Self::OfdLock => "locked by processes",
            Self::PipeWrite => "open for reading in processes",
            Self::PipeRead => "open for writing in processes",
            Self::SocketWrite | Self::SocketRead => "one end of which, or the other, is open in processes",
            Self::Memory => "mapped or open in processes",
        }
    }

    /// Whether descriptor `fd` of `holder`, open on the same file, can be in the way of one of `tgid`'s.
    fn can_be_met_by(self, (tgid, own): (u32, u32), (holder, fd): (u32, u32)) -> bool {
        match self {
            // Never in each other's way: one process's POSIX locks, and the locks of one open file.
            Self::PosixLock => holder != tgid,
            Self::Flock | Self::OfdLock => (holder, fd) != (tgid, own),
            // Each end can be shut down by whoever has it.
            Self::PipeWrite | Self::PipeRead | Self::SocketWrite | Self::SocketRead | Self::Memory => true,
        }
    }

    fn may_have_a_name(self) -> bool {
        match self {
            // Whoever opens it anew through /proc has a file of no name too, and a FIFO has one.
            Self::Flock | Self::PosixLock | Self::OfdLock | Self::Memory => true,
            Self::PipeWrite | Self::PipeRead | Self::SocketWrite | Self::SocketRead => false,
        }
    }

    /// Where the waiter knows it from.
    fn known_as(self, fd: u32) -> String {
        match self {
            Self::Memory => "the word lies in".to_owned(),
            Self::Flock
            | Self::PosixLock
            | Self::OfdLock
            | Self::PipeWrite
            | Self::PipeRead
            | Self::SocketWrite
            | Self::SocketRead => format!("descriptor {fd} is"),
        }
    }

    fn is_held_by(self, info: &str, inode: u64) -> bool {
        match self {
            Self::PipeWrite => access(info).is_some_and(|access| access != WRITE_ONLY),
            Self::PipeRead => access(info).is_some_and(|access| access != READ_ONLY),
            Self::SocketWrite | Self::SocketRead | Self::Memory => true,
            Self::Flock => has_lock(info, "FLOCK", inode),
            Self::PosixLock | Self::OfdLock => {
                has_lock(info, "OFDLCK", inode) || has_lock(info, "POSIX", inode)
            }
        }
    }
}

/// Whether it is in a system call that can wait for a lock, a pipe, a socket or a child.
pub(crate) fn is_candidate(record: &TaskRecord) -> bool {
    const LOCKS: [i32; 2] = [FCNTL, FLOCK];
    LOCKS.contains(&record.syscall) || reads(record) || writes(record) || children::is_wait(record)
}

fn reads(record: &TaskRecord) -> bool {
    matches!(record.syscall, READ | READV | RECVFROM | RECVMSG)
}

fn writes(record: &TaskRecord) -> bool {
    matches!(record.syscall, WRITE | WRITEV | SENDTO | SENDMSG)
}

impl FileWait {
    /// `None` for a sleeper that waits for no file, or for one that anybody may open by its name.
    pub(crate) fn of(proc: &Proc, sleeper: &Sleeper, peers: &mut Peers) -> Option<Self> {
        let record = &sleeper.record;
        let tgid = record.tgid;
        if let Some(call) = sleeper.call {
            return match shared::place(proc, record.pid, call.address)? {
                Place::Nameless(own) => Some(Self { want: Want::Memory, fd: MAPPED, own, peer: None }),
                Place::Own => None,
            };
        }
        let fd = u32::try_from(record.arg0).ok()?;
        let own = proc.fd_inode(tgid, fd)?;
        let wait = |want, peer| Some(Self { want, fd, own, peer });
        match (record.syscall, record.arg1) {
            (FLOCK, _) => return wait(Want::Flock, None),
            (FCNTL, F_SETLKW) => return wait(Want::PosixLock, None),
            (FCNTL, F_OFD_SETLKW) => return wait(Want::OfdLock, None),
            _ => {}
        }
        let target = proc.fd_target(tgid, fd)?;
        let is_write = writes(record);
        if target.starts_with("pipe:[") {
            return wait(if is_write { Want::PipeWrite } else { Want::PipeRead }, None);
        }
        if !target.starts_with("socket:[") || !is_write && !reads(record) {
            return None;
        }
        let peer = peers.of(proc, tgid, fd, own.1, is_write)?;
        wait(if is_write { Want::SocketWrite } else { Want::SocketRead }, Some((own.0, u64::from(peer))))
    }

    /// The files whose holders matter.
    fn files(&self) -> impl Iterator<Item = File> + use<> {
        [Some(self.own), self.peer].into_iter().flatten()
    }
}

/// Who has which of the wanted files open, by device and inode.
pub(crate) struct Holders {
    open: BTreeMap<File, Vec<(u32, u32)>>,
    /// Of somebody the files with a name could not be seen, for their file system hangs: any may be held there.
    has_unseen: bool,
}

impl Holders {
    /// Looks through the descriptors of these processes: some microseconds each.
    pub(crate) fn find(proc: &Proc, among: Vec<u32>, waits: &[FileWait]) -> Self {
        let wanted: BTreeSet<File> = waits.iter().flat_map(FileWait::files).collect();
        let memory = waits.iter().filter(|wait| wait.want == Want::Memory).map(|wait| wait.own).collect();
        let mut open: BTreeMap<File, Vec<(u32, u32)>> = BTreeMap::new();
        let mut has_unseen = false;
        let named = waits.iter().any(|wait| wait.want.may_have_a_name());
        for tgid in among {
            for file in has_mapped(proc, tgid, &memory) {
                open.entry(file).or_default().push((tgid, MAPPED));
            }
            let found = proc.open_among(tgid, &wanted, named);
            has_unseen |= !found.is_whole;
            for (fd, file) in found.files {
                open.entry(file).or_default().push((tgid, fd));
            }
        }
        Self { open, has_unseen }
    }

    /// The wait of a thread of `tgid`; `None` if nobody is known to hold what it wants.
    pub(crate) fn wait(&self, proc: &Proc, tgid: u32, wait: &FileWait) -> Option<Wait> {
        let FileWait { want, fd, own, peer } = *wait;
        let is_unseen = self.has_unseen && want.may_have_a_name();
        if is_unseen || peer.is_some_and(|peer| !self.open.contains_key(&peer)) {
            return None;
        }
        let holders = wait.files().filter_map(|file| self.open.get(&file)).flatten().copied();
        let holders = holders
            .filter(|holder| want.can_be_met_by((tgid, fd), *holder))
            .filter(|(holder, fd)| want.is_held_by(&proc.fd_info(*holder, *fd), own.1));
        let owners: BTreeSet<u32> = holders.map(|(holder, _)| holder).collect();
        if owners.is_empty() {
            return None;
        }
        let lock = want.called(own.1);
        Some(Wait {
            kind: want.kind(),
            source: want.source(),
            says: format!("{} {lock}, {} {owners:?}", want.known_as(fd), want.says()),
            lock,
            word: None,
            owners: owners.into_iter().map(Owner::Process).collect(),
        })
    }
}

/// Those of `wanted` that `tgid` has mapped; all, if its mappings are too many to be read.
fn has_mapped(proc: &Proc, tgid: u32, wanted: &BTreeSet<File>) -> BTreeSet<File> {
    if wanted.is_empty() {
        return BTreeSet::new();
    }
    match proc.maps(tgid) {
        Some((maps, true)) => shared::mapped(&maps).filter(|file| wanted.contains(file)).collect(),
        Some((_, false)) => wanted.clone(),
        None => BTreeSet::new(),
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
