//! Space and inodes of the file systems that processes write to, and who writes.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    engine::time::BootTime,
    identity::procfs,
    signal::levels::{Level, Resource, User},
};

/// What is mounted is read again so often.
const MOUNTS_HOLD: Duration = Duration::from_secs(5);
/// Who writes is asked of a disk that fills up, once it is so full, and so often: some 20 ms.
const WRITERS_PERCENT: u64 = 85;
const WRITERS_EVERY: Duration = Duration::from_secs(3);
const WRITERS_MAX: usize = 3;
const FULL_PERCENT: u64 = 99;
/// Local file systems that do not hang when asked.
const ASKED: [&str; 12] =
    ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "overlay", "vfat", "zfs", "bcachefs", "ramfs"];

pub(super) struct Disks {
    proc: PathBuf,
    read: Option<BootTime>,
    mounts: Vec<Mount>,
    used: BTreeMap<String, u64>,
    writers: BTreeMap<u64, Writers>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: String,
    pub(super) filesystem: String,
    device: String,
    is_read_only: bool,
}

#[derive(Default)]
struct Writers {
    asked: Option<BootTime>,
    /// Bytes that each had written at the last look.
    written: BTreeMap<u32, u64>,
    users: Vec<User>,
}

impl Disks {
    pub(super) fn new(proc: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            read: None,
            mounts: Vec::new(),
            used: BTreeMap::new(),
            writers: BTreeMap::new(),
        }
    }

    pub(super) fn look(&mut self, now: BootTime, levels: &mut Vec<Level>) {
        if self.read.is_none_or(|at| MOUNTS_HOLD <= now.since(at)) {
            self.read = Some(now);
            let text = fs::read_to_string(self.proc.join("self/mountinfo")).unwrap_or_default();
            self.mounts = worth_asking(&text);
        }
        for mount in self.mounts.clone() {
            for mut level in levels_of(Path::new(&mount.point), &mount.point).into_iter().flatten() {
                let key = format!("{:?}", level.of);
                let before = self.used.insert(key, level.used).unwrap_or(level.used);
                if WRITERS_PERCENT <= level.percent() {
                    level.users = self.writers_of(now, &mount, before < level.used);
                    level.pid = level.users.first().map_or(0, |user| user.pid);
                }
                levels.push(level);
            }
        }
    }

    fn writers_of(&mut self, now: BootTime, mount: &Mount, grows: bool) -> Vec<User> {
        let Ok(device) = fs::metadata(&mount.point).map(|point| point.dev()) else {
            return Vec::new();
        };
        let writers = self.writers.entry(device).or_default();
        if grows && writers.asked.is_none_or(|at| WRITERS_EVERY <= now.since(at)) {
            writers.asked = Some(now);
            writers.look(&self.proc, device);
        }
        writers.users.clone()
    }
}

impl Writers {
    fn look(&mut self, proc: &Path, device: u64) {
        let mut written = BTreeMap::new();
        let mut users = Vec::new();
        for pid in procfs::pids(proc).filter(|pid| holds_file_on(proc, *pid, device)) {
            let Some(bytes) = written_by(proc, pid) else { continue };
            let before = self.written.get(&pid).copied().unwrap_or(0);
            written.insert(pid, bytes);
            let comm = fs::read_to_string(proc.join(format!("{pid}/comm"))).unwrap_or_default();
            let used = bytes.saturating_sub(before);
            users.push(User { pid, comm: comm.trim_end().to_owned(), used });
        }
        users.retain(|user| 0 < user.used);
        users.sort_by_key(|user| core::cmp::Reverse(user.used));
        users.truncate(WRITERS_MAX);
        self.written = written;
        if !users.is_empty() {
            self.users = users;
        }
    }
}

fn holds_file_on(proc: &Path, pid: u32, device: u64) -> bool {
    let fds = fs::read_dir(proc.join(format!("{pid}/fd"))).into_iter().flatten().flatten();
    fds.take(256).any(|fd| fs::metadata(fd.path()).is_ok_and(|file| file.is_file() && file.dev() == device))
}

/// `wchar` of `/proc/PID/io`: bytes given to write(2), also to file systems in memory.
fn written_by(proc: &Path, pid: u32) -> Option<u64> {
    let text = fs::read_to_string(proc.join(format!("{pid}/io"))).ok()?;
    text.lines().find_map(|line| line.strip_prefix("wchar: "))?.parse().ok()
}

/// Space and inodes, as df(1) counts them: what root keeps for itself is not there for others.
pub(super) fn levels_of(path: &Path, mount: &str) -> [Option<Level>; 2] {
    let Ok(disk) = rustix::fs::statvfs(path) else {
        return [None, None];
    };
    let used = disk.f_blocks.saturating_sub(disk.f_bfree);
    let of = Resource::Space { mount: mount.to_owned() };
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let space = Level::new(of, bytes(used), bytes(used.saturating_add(disk.f_bavail)));
    let of = Resource::Inodes { mount: mount.to_owned() };
    let inodes = Level::new(of, disk.f_files.saturating_sub(disk.f_ffree), disk.f_files);
    [Some(space), Some(inodes)].map(|level| level.filter(|level| 0 < level.limit))
}

/// One mount point of each device.
fn worth_asking(mountinfo: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = mountinfo.lines().filter_map(mount).collect();
    mounts.retain(|mount| !mount.is_read_only && ASKED.contains(&mount.filesystem.as_str()));
    mounts.sort_by_key(|mount| (mount.device.clone(), mount.point.len()));
    mounts.dedup_by(|one, other| one.device == other.device);
    mounts
}

/// `36 35 98:0 /root /point opts shared:1 - ext4 source super` (proc_pid_mountinfo(5)).
fn mount(line: &str) -> Option<Mount> {
    let (mine, theirs) = line.split_once(" - ")?;
    let mut fields = mine.split(' ').skip(2);
    let (device, point) = (fields.next()?, fields.nth(1)?);
    let options = fields.next()?;
    Some(Mount {
        point: unescaped(point),
        filesystem: theirs.split(' ').next()?.to_owned(),
        device: device.to_owned(),
        is_read_only: options.split(',').any(|option| option == "ro"),
    })
}

fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

/// The fullest disk that `pid` sees, if it is full: where a file that could not be made was to be.
pub(super) fn fullest(proc: &Path, pid: u32) -> Option<Level> {
    let text = fs::read_to_string(proc.join(format!("{pid}/mountinfo"))).ok()?;
    let root = proc.join(format!("{pid}/root"));
    let levels = worth_asking(&text).into_iter().flat_map(|mount| {
        let inside = root.join(mount.point.trim_start_matches('/'));
        levels_of(&inside, &mount.point).into_iter().flatten()
    });
    levels.filter(|level| FULL_PERCENT <= level.percent()).max_by_key(Level::percent)
}

/// Where `path` of `pid` is mounted: the longest mount point of its device.
pub(super) fn mount_of(proc: &Path, pid: u32, path: &str, device: u64) -> Option<Mount> {
    let text = fs::read_to_string(proc.join(format!("{pid}/mountinfo"))).ok()?;
    let wanted = format!("{}:{}", libc::major(device), libc::minor(device));
    let mounts = text.lines().filter_map(mount);
    let holds = |mount: &Mount| mount.device == wanted && Path::new(path).starts_with(&mount.point);
    mounts.filter(holds).max_by_key(|mount| mount.point.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_is_asked_once_and_those_that_may_hang_never() {
        let text = "25 30 0:23 / /proc rw - proc proc rw\n\
                    36 35 98:0 / / rw,noatime shared:1 - ext4 /dev/vda rw\n\
                    37 36 98:0 /x /var/lib/x\\040y rw - ext4 /dev/vda rw\n\
                    38 36 0:50 / /mnt rw - nfs4 host:/ rw\n\
                    39 36 0:51 / /small rw - tmpfs tmpfs rw,size=4096k\n\
                    40 36 7:0 / /snap ro - ext4 /dev/loop0 ro\n";
        let points: Vec<_> = worth_asking(text).into_iter().map(|mount| mount.point).collect();
        assert_eq!(points, ["/small", "/"]);
        assert_eq!(unescaped("/a\\040b"), "/a b");
    }

    #[test]
    fn a_real_file_system_has_space() {
        let [space, _] = levels_of(Path::new("/"), "/");
        assert!(space.is_some_and(|space| space.used <= space.limit));
    }
}
