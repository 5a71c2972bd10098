//! The file system behind an uninterruptible wait, told by lists alone: whoever asks one that hangs may hang too.

use std::{
    ffi::OsString,
    fs,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Path, PathBuf},
};

use healer_common::task_scan::TaskRecord;
use rustix::{
    fs::{Mode, OFlags, ResolveFlags, open, openat2},
    io::Errno,
};

use super::{memory, procfs::Proc};
use crate::{
    patience::FILES,
    sense::poll::levels::mounted,
    signal::{
        calls::{
            FALLOCATE, FDATASYNC, FSYNC, FTRUNCATE, MKDIR, MKDIRAT, OPEN, OPENAT, PWRITE64, READ, READV,
            RENAME, RENAMEAT, RENAMEAT2, UNLINK, UNLINKAT, WRITE, WRITEV,
        },
        waits::FileSystem,
    },
};

/// Where the kernel lets whoever wants to write wait for the thaw (`sb_start_write`, include/linux/fs.h). Others wait
/// there for cgroups and CPUs: they write to no file system of these.
const FROZEN_AT: &str = "percpu_rwsem_wait";
/// Those that FIFREEZE takes hold of, and what may lie on one of them.
const FREEZABLE: [&str; 12] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "bcachefs", "gfs2", "jfs", "nilfs2", "reiserfs",
    "overlay",
];

/// Whoever finds none may only have asked while nobody answered in time.
const LOOKS_MAX: u8 = 5;

/// What a system call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Open(u32),
    /// A name in memory, from a directory or from where the process is. What it opens may lie elsewhere than the name.
    Name {
        dir: Option<u32>,
        at: u64,
        opens: bool,
    },
}

/// What a look at a system call has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    On(FileSystem),
    /// It is about none, or about a name that is not to be asked after: so it stays while it sleeps.
    Nothing,
    /// Another look may find one.
    NoAnswer,
}

impl Found {
    /// Whether that is all that so many looks will find, and what it is.
    pub(super) fn after(self, looks: u8) -> (bool, Option<FileSystem>) {
        match self {
            Self::On(file_system) => (true, Some(file_system)),
            Self::Nothing => (true, None),
            Self::NoAnswer => (LOOKS_MAX <= looks, None),
        }
    }
}

/// The file system that its system call is about.
pub(super) fn of(proc: &Proc, record: &TaskRecord) -> Found {
    let Some(place) = place(record) else { return Found::Nothing };
    let wchan = proc.text(&format!("{}/task/{}/wchan", record.tgid, record.pid));
    let waits_to_write = wchan.as_deref().map(|wchan| wchan.trim_end() == FROZEN_AT);
    if let (Place::Name { .. }, Some(false)) = (&place, waits_to_write) {
        return Found::Nothing;
    }
    lies_on(proc, record, &place, waits_to_write.unwrap_or_default()).map_or(Found::NoAnswer, Found::On)
}

fn lies_on(proc: &Proc, record: &TaskRecord, place: &Place, waits_to_write: bool) -> Option<FileSystem> {
    let info = match *place {
        Place::Open(fd) => proc.fd_info(record.tgid, fd),
        // Whoever waits to write keeps nobody from looking names up.
        Place::Name { dir, at, opens } if waits_to_write => name_info(proc, record, dir, at, opens)?,
        Place::Name { .. } => return None,
    };
    let (kind, point) = mounted(&proc.text(&format!("{}/mountinfo", record.tgid))?, mount_id(&info)?)?;
    let is_frozen = waits_to_write && FREEZABLE.contains(&kind.as_str());
    Some(FileSystem { kind, point, is_frozen })
}

fn place(record: &TaskRecord) -> Option<Place> {
    let fd = u32::try_from(record.arg0 as i32).ok();
    match record.syscall {
        READ | READV | WRITE | WRITEV | PWRITE64 | FSYNC | FDATASYNC | FTRUNCATE | FALLOCATE => {
            fd.map(Place::Open)
        }
        OPEN | MKDIR | UNLINK | RENAME => {
            Some(Place::Name { dir: None, at: record.arg0, opens: record.syscall == OPEN })
        }
        OPENAT | MKDIRAT | UNLINKAT | RENAMEAT | RENAMEAT2 => {
            Some(Place::Name { dir: fd, at: record.arg1, opens: record.syscall == OPENAT })
        }
        _ => None,
    }
}

/// The fdinfo of the directory of a name; `None` also where nobody can tell that the call waits for its mount.
fn name_info(proc: &Proc, record: &TaskRecord, dir: Option<u32>, at: u64, opens: bool) -> Option<String> {
    let name = PathBuf::from(OsString::from_vec(memory::text_patiently(record.pid, at)?));
    let of_thread = proc.path(&format!("{}/task/{}", record.tgid, record.pid));
    let base = match dir.filter(|_| !name.has_root()) {
        Some(fd) => of_thread.join(format!("fd/{fd}")),
        None => of_thread.join(if name.has_root() { "root" } else { "cwd" }),
    };
    FILES.ask(&record.tgid.to_string(), move || info_of(&base, &name, opens)).flatten()
}

/// No link is followed: where one leads in another root, the kernel would tell that root alone. Whoever opens a file
/// waits for the mount of its directory or for its own (`open_last_lookups`, `handle_truncate`, fs/namei.c): where the
/// two differ, nobody can tell.
fn info_of(base: &Path, name: &Path, opens: bool) -> Option<String> {
    let base = open(base, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let directory = info(&below(&base, name.parent()?, OFlags::DIRECTORY).ok()?)?;
    if opens {
        match below(&base, name, OFlags::empty()) {
            Ok(file) if mount_id(&info(&file)?) == mount_id(&directory) => {}
            Err(Errno::NOENT) => {}
            Ok(_) | Err(_) => return None,
        }
    }
    Some(directory)
}

fn below(base: &OwnedFd, name: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let (name, resolve) = match name.strip_prefix("/") {
        Ok(name) => (name, ResolveFlags::NO_SYMLINKS | ResolveFlags::IN_ROOT),
        Err(_) => (name, ResolveFlags::NO_SYMLINKS),
    };
    let name = if name.as_os_str().is_empty() { Path::new(".") } else { name };
    openat2(base, name, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn info(file: &OwnedFd) -> Option<String> {
    fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()
}

/// The mount that a descriptor is of (proc_pid_fdinfo(5)).
fn mount_id(info: &str) -> Option<&str> {
    info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim)
}

#[cfg(test)]
mod tests {
    use healer_common::event::wire::Wire as _;

    use super::{super::table::Table, *};
    use crate::{identity::fixture::Tree, sense::poll::tasks::Pass};

    const MOUNTS: &str = "45 27 7:0 / /mnt/a\\040disk rw shared:9 - ext4 /dev/loop0 rw\n\
                          46 27 0:5 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

    fn write_to(fd: u64) -> TaskRecord {
        TaskRecord { pid: 7, tgid: 7, syscall: WRITE, arg0: fd, state: 2, ..TaskRecord::ZERO }
    }

    fn tree(wchan: &str) -> Tree {
        let tree = Tree::new();
        tree.file("proc/7/task/7/wchan", wchan);
        tree.file("proc/7/mountinfo", MOUNTS);
        tree.file("proc/7/fdinfo/3", "pos:\t0\nflags:\t0100001\nmnt_id:\t45\nino:\t12\n");
        tree.file("proc/7/fdinfo/4", "pos:\t0\nflags:\t0100001\nmnt_id:\t46\nino:\t1\n");
        tree
    }

    #[test]
    fn who_waits_for_the_thaw_is_told_from_who_waits_for_a_disk() {
        let of = |wchan: &str, fd| {
            let tree = tree(wchan);
            super::of(&Proc::new(&tree.root().join("proc")), &write_to(fd))
        };
        let disk = |is_frozen| FileSystem { kind: "ext4".into(), point: "/mnt/a disk".into(), is_frozen };
        assert_eq!(of("percpu_rwsem_wait", 3), Found::On(disk(true)));
        assert_eq!(of("folio_wait_bit_common", 3), Found::On(disk(false)));
        assert_eq!(of("0", 3), Found::On(disk(false)), "a kernel that hides its names");
        assert_eq!(of("percpu_rwsem_wait", 9), Found::NoAnswer, "it is closed");
        let Found::On(moves_a_process) = of("percpu_rwsem_wait", 4) else { panic!("a mount") };
        assert!(!moves_a_process.is_frozen, "it waits for others that begin and end");
    }

    #[test]
    fn who_waits_for_no_file_system_is_known_by_one_look() {
        let of = |wchan: &str, syscall| {
            let tree = tree(wchan);
            super::of(&Proc::new(&tree.root().join("proc")), &TaskRecord { syscall, ..write_to(3) })
        };
        assert_eq!(of("wait_woken", 202), Found::Nothing, "no call about a file");
        assert_eq!(of("folio_wait_bit_common", OPENAT), Found::Nothing, "a name is not to be asked after");
        assert_eq!(of("percpu_rwsem_wait", OPENAT), Found::NoAnswer, "nobody's memory has the name");
    }

    #[test]
    fn a_name_is_where_the_call_has_it() {
        let call = |syscall, arg0| TaskRecord { syscall, arg0, arg1: 0x10, ..TaskRecord::ZERO };
        let here = u64::from(libc::AT_FDCWD.cast_unsigned());
        assert_eq!(place(&call(OPENAT, here)), Some(Place::Name { dir: None, at: 0x10, opens: true }));
        assert_eq!(place(&call(UNLINKAT, 5)), Some(Place::Name { dir: Some(5), at: 0x10, opens: false }));
        assert_eq!(place(&call(OPEN, 0x20)), Some(Place::Name { dir: None, at: 0x20, opens: true }));
        assert_eq!(place(&call(FSYNC, 5)), Some(Place::Open(5)));
        assert_eq!(place(&call(202, 5)), None);
    }

    #[test]
    fn a_name_lies_on_the_mount_of_its_directory() {
        let tree = Tree::new();
        tree.file("own/base/data/kept", "");
        std::os::unix::fs::symlink("data", tree.root().join("own/base/link")).unwrap();
        let base = tree.root().join("own/base");
        let of = |name: &str, opens| {
            info_of(&base, Path::new(name), opens).as_deref().and_then(mount_id).map(str::to_owned)
        };
        let expected = of("new", false).expect("the directory itself");
        for opens in [false, true] {
            for name in ["/data/new", "data/new", "/new", "/../new", "data/../new", "data/kept"] {
                assert_eq!(of(name, opens).as_ref(), Some(&expected), "{name}");
            }
            for name in ["link/new", "nowhere/new", "data/kept/new", "/"] {
                assert_eq!(of(name, opens), None, "{name}");
            }
        }
    }

    #[test]
    fn a_file_that_is_opened_through_a_link_may_lie_anywhere() {
        let tree = Tree::new();
        tree.file("own/base/data/kept", "");
        let base = tree.root().join("own/base");
        for (to, link) in [("/data/kept", "absolute"), ("data/kept", "relative"), ("/data/new", "dangling")] {
            std::os::unix::fs::symlink(to, base.join(link)).unwrap();
            assert_eq!(info_of(&base, Path::new(link), true), None, "{link}");
            assert!(
                info_of(&base, Path::new(link), false).is_some(),
                "{link}: it is the link that is removed"
            );
        }
        // Of another file system, as a file that is mounted into a container.
        let root = Path::new("/");
        assert!(info_of(root, Path::new("/proc"), false).is_some());
        assert_eq!(info_of(root, Path::new("/proc"), true), None);
    }

    #[test]
    fn what_was_not_found_is_looked_for_some_times_and_not_for_ever() {
        let mut table = Table::default();
        let records = [7, 8, 9].map(|pid| TaskRecord { pid, ..write_to(3) }).into();
        table.apply(&Pass { is_full: true, records });
        let placed = |table: &Table| [7, 8, 9].map(|tid| table.get(tid).is_some_and(|one| one.is_placed));
        table.lies_on(9, Found::Nothing);
        for _ in 1..LOOKS_MAX {
            [7, 8].into_iter().for_each(|tid| table.lies_on(tid, Found::NoAnswer));
        }
        assert_eq!(placed(&table), [false, false, true]);
        let disk = FileSystem { kind: "ext4".into(), point: "/".into(), is_frozen: true };
        table.lies_on(7, Found::On(disk));
        table.lies_on(8, Found::NoAnswer);
        assert_eq!(placed(&table), [true, true, true]);
        let is_told = |tid| table.get(tid).is_some_and(|one| one.file_system.is_some());
        assert_eq!([7, 8, 9].map(is_told), [true, false, false]);
    }
}
