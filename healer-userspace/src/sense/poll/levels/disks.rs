//! Space and inodes of the file systems that processes write to, and who writes.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::StatVfs;

use super::{
    overlay::{Layers, on_its_disk},
    writers::Writers,
};
use crate::{
    engine::time::BootTime,
    patience::Patience,
    signal::levels::{Level, Resource, User},
};

/// What is mounted is read again so often.
const MOUNTS_HOLD: Duration = Duration::from_secs(5);
/// Who writes is asked of a disk that fills up, once it is so full.
const WRITERS_PERCENT: u64 = 85;
const FULL_PERCENT: u64 = 99;
/// Local file systems that do not hang when asked.
const ASKED: [&str; 12] =
    ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "overlay", "vfat", "zfs", "bcachefs", "ramfs"];

/// A file system that waits for its pool, if that is suspended.
pub(super) const WAITS: &str = "zfs";
/// File systems that wait for somebody else, by the beginnings of their names.
const FAR: [&str; 16] = [
    "nfs",
    "fuse",
    "cifs",
    "smb",
    "ceph",
    "9p",
    "afs",
    "gfs2",
    "ocfs2",
    "lustre",
    "virtiofs",
    "autofs",
    "beegfs",
    "orangefs",
    "coda",
    "glusterfs",
];

pub(super) struct Disks {
    patience: Patience,
    /// What those that may hang have answered; they are asked when the mounts are read.
    answered: BTreeMap<String, [Option<Level>; 2]>,
    proc: PathBuf,
    read: Option<BootTime>,
    mounts: Vec<Mount>,
    layers: Layers,
    /// By mount point and what of it is counted.
    used: BTreeMap<(String, Resource), u64>,
    writers: BTreeMap<u64, Writers>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: String,
    pub(super) filesystem: String,
    /// `8:1`, the same in every mount namespace.
    pub(super) device: String,
    /// `/dev/sda1`, or whatever a file system without a device is called.
    pub(super) source: String,
    /// Of an overlay: what is written to it lies there, as whoever mounted it sees it.
    pub(super) upper: Option<String>,
    /// Devices of the overlays whose files are its own.
    pub(super) overlays: Vec<String>,
    is_read_only: bool,
    /// Whoever asks it, or walks there, may have to wait.
    pub(super) may_hang: bool,
}

impl Mount {
    /// As files tell it; that of btrfs is another one than the mount's.
    fn device_number(&self) -> Option<u64> {
        if !self.may_hang {
            return fs::metadata(&self.point).ok().map(|point| point.dev());
        }
        number(&self.device)
    }

    /// Of the files that take room on it, its own first.
    fn device_numbers(&self) -> Vec<u64> {
        let overlays = self.overlays.iter().filter_map(|device| number(device));
        self.device_number().into_iter().chain(overlays).collect()
    }

    /// It is on another machine, or some process serves it.
    pub(super) fn is_far(&self) -> bool {
        FAR.iter().any(|far| self.filesystem.starts_with(far))
    }
}

impl Disks {
    pub(super) fn new(proc: &Path) -> Self {
        Self {
            patience: Patience::new(),
            answered: BTreeMap::new(),
            proc: proc.to_owned(),
            read: None,
            mounts: Vec::new(),
            layers: Layers::default(),
            used: BTreeMap::new(),
            writers: BTreeMap::new(),
        }
    }

    pub(super) fn look(&mut self, now: BootTime, levels: &mut Vec<Level>) {
        if self.read.is_none_or(|at| MOUNTS_HOLD <= now.since(at)) {
            self.read = Some(now);
            let text = fs::read_to_string(self.proc.join("self/mountinfo")).unwrap_or_default();
            self.mounts = self.layers.merged(&self.proc, worth_asking(&text));
            self.answered = self.doubtful();
            let mounts = &self.mounts;
            self.used.retain(|(point, _), _| mounts.iter().any(|mount| mount.point == *point));
        }
        for mount in self.mounts.clone() {
            let point = Path::new(&mount.point);
            let told = if mount.may_hang {
                self.answered.get(&mount.point).cloned().unwrap_or_default()
            } else {
                levels_of(point, &mount.point, &mount.device)
            };
            for mut level in told.into_iter().flatten() {
                let key = (mount.point.clone(), level.of.clone());
                let before = self.used.insert(key, level.used).unwrap_or(level.used);
                if WRITERS_PERCENT <= level.percent() {
                    level.users = self.writers_of(now, &mount, before, &level);
                    level.pid = level.users.first().map_or(0, |user| user.pid);
                }
                levels.push(level);
            }
        }
    }

    fn doubtful(&mut self) -> BTreeMap<String, [Option<Level>; 2]> {
        let doubtful = self.mounts.iter().filter(|mount| mount.may_hang);
        let answers = doubtful.filter_map(|mount| {
            let point = mount.point.clone();
            let asked = self.patience.ask(&mount.point, move || rustix::fs::statvfs(&point));
            let disk = asked?.ok()?;
            Some((mount.point.clone(), counted(&disk, &mount.point, &mount.device)))
        });
        answers.collect()
    }

    fn writers_of(&mut self, now: BootTime, mount: &Mount, before: u64, level: &Level) -> Vec<User> {
        let devices = mount.device_numbers();
        let Some(disk) = devices.first() else { return Vec::new() };
        let (growth, left) = (level.used.saturating_sub(before), level.limit.saturating_sub(level.used));
        self.writers.entry(*disk).or_default().of(now, &self.proc, &devices, growth, left)
    }
}

/// `8:1`
fn number(device: &str) -> Option<u64> {
    let (major, minor) = device.split_once(':')?;
    Some(libc::makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// Space and inodes, as df(1) counts them: what root keeps for itself is not there for others.
pub(super) fn levels_of(path: &Path, mount: &str, device: &str) -> [Option<Level>; 2] {
    rustix::fs::statvfs(path).map_or([None, None], |disk| counted(&disk, mount, device))
}

fn counted(disk: &StatVfs, mount: &str, device: &str) -> [Option<Level>; 2] {
    let used = disk.f_blocks.saturating_sub(disk.f_bfree);
    let of = Resource::Space { mount: mount.to_owned(), device: device.to_owned() };
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let space = Level::new(of, bytes(used), bytes(used.saturating_add(disk.f_bavail)));
    let of = Resource::Inodes { mount: mount.to_owned(), device: device.to_owned() };
    let inodes = Level::new(of, disk.f_files.saturating_sub(disk.f_ffree), disk.f_files);
    [Some(space), Some(inodes)].map(|level| level.filter(|level| 0 < level.limit))
}

/// One mount point of each device.
fn worth_asking(mountinfo: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = mountinfo.lines().filter_map(mount).collect();
    let far: Vec<String> = mounts.iter().filter(|it| it.is_far()).map(|it| it.point.clone()).collect();
    for mount in &mut mounts {
        let lies_below = |far: &String| Path::new(&mount.point).starts_with(far);
        mount.may_hang = mount.filesystem == WAITS || far.iter().any(lies_below);
    }
    mounts.retain(|mount| !mount.is_read_only && ASKED.contains(&mount.filesystem.as_str()));
    mounts.sort_by_key(|mount| (mount.device.clone(), mount.point.len()));
    mounts.dedup_by(|one, other| one.device == other.device);
    mounts
}

pub(super) fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount> {
    mountinfo.lines().filter_map(mount)
}

/// `36 35 98:0 /root /point opts shared:1 - ext4 source super` (proc_pid_mountinfo(5)).
fn mount(line: &str) -> Option<Mount> {
    let (mine, theirs) = line.split_once(" - ")?;
    let mut fields = mine.split(' ').skip(2);
    let (device, point) = (fields.next()?, fields.nth(1)?);
    let options = fields.next()?;
    let mut theirs = theirs.split(' ');
    let (filesystem, source) = (theirs.next()?, theirs.next());
    let upper = theirs.next().filter(|_| filesystem == "overlay").and_then(|all| {
        let dir = all.split(',').find_map(|option| option.strip_prefix("upperdir="));
        dir.map(unescaped)
    });
    Some(Mount {
        point: unescaped(point),
        filesystem: filesystem.to_owned(),
        source: source.map_or(String::new(), unescaped),
        upper,
        overlays: Vec::new(),
        device: device.to_owned(),
        is_read_only: options.split(',').any(|option| option == "ro"),
        may_hang: false,
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
    let asked = worth_asking(&text).into_iter().filter(|mount| !mount.may_hang);
    let answers = asked.filter_map(|mount| {
        let disk = rustix::fs::statvfs(root.join(mount.point.trim_start_matches('/'))).ok()?;
        Some((mount, disk))
    });
    fullest_of(answers, |mount| on_its_disk(proc, mount))
}

/// An overlay's disk takes long to find: only the one that is told has it looked up.
fn fullest_of(
    answers: impl Iterator<Item = (Mount, StatVfs)>,
    on_its_disk: impl FnOnce(Mount) -> Mount,
) -> Option<Level> {
    let full = answers.filter_map(|(mount, disk)| {
        let percent = fuller(&disk, &mount)?.percent();
        (FULL_PERCENT <= percent).then_some((percent, mount, disk))
    });
    let (_, mount, disk) = full.max_by_key(|(percent, _, _)| *percent)?;
    fuller(&disk, &on_its_disk(mount))
}

/// Its space or its inodes, whichever there is less of.
fn fuller(disk: &StatVfs, mount: &Mount) -> Option<Level> {
    counted(disk, &mount.point, &mount.device).into_iter().flatten().max_by_key(Level::percent)
}

/// The ids of mounts that wait for somebody else, in the mount namespace of `pid`.
pub(super) fn far_ids(proc: &Path, pid: u32) -> Vec<String> {
    let text = fs::read_to_string(proc.join(format!("{pid}/mountinfo"))).unwrap_or_default();
    let is_far = |line: &&str| mount(line).is_some_and(|mount| mount.is_far());
    text.lines().filter(is_far).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// The mount that a descriptor is of (proc_pid_fdinfo(5)).
pub(super) fn mount_id(proc: &Path, pid: u32, fd: &str) -> Option<String> {
    let info = fs::read_to_string(proc.join(format!("{pid}/fdinfo/{fd}"))).ok()?;
    info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(|id| id.trim().to_owned())
}

/// File system and mount point of the mount with this id.
pub(in crate::sense) fn mounted(mountinfo: &str, id: &str) -> Option<(String, String)> {
    let line = mountinfo.lines().find(|line| line.split(' ').next() == Some(id))?;
    mount(line).map(|mount| (mount.filesystem, mount.point))
}

/// What the descriptor is of, without asking the file system.
pub(super) fn mount_behind(proc: &Path, pid: u32, fd: i32) -> Option<Mount> {
    let id = mount_id(proc, pid, &fd.to_string())?;
    let text = fs::read_to_string(proc.join(format!("{pid}/mountinfo"))).ok()?;
    let line = text.lines().find(|line| line.split(' ').next() == Some(id.as_str()))?;
    mount(line).map(|mount| on_its_disk(proc, mount))
}

/// Where `path` of `pid` is mounted: the longest mount point of its device.
pub(super) fn mount_of(proc: &Path, pid: u32, path: &str, device: u64) -> Option<Mount> {
    let text = fs::read_to_string(proc.join(format!("{pid}/mountinfo"))).ok()?;
    let wanted = format!("{}:{}", libc::major(device), libc::minor(device));
    let mounts = text.lines().filter_map(mount);
    let holds = |mount: &Mount| mount.device == wanted && Path::new(path).starts_with(&mount.point);
    let nearest = mounts.filter(holds).max_by_key(|mount| mount.point.len());
    nearest.map(|mount| on_its_disk(proc, mount))
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
        let text = "36 35 98:0 / / rw - ext4 /dev/vda rw\n\
                    38 36 0:50 / /mnt rw - nfs4 host:/ rw\n\
                    41 38 98:16 / /mnt/disk rw - ext4 /dev/vdb rw\n\
                    42 36 0:60 / /pool rw - zfs pool rw\n";
        let doubtful = worth_asking(text).into_iter().filter(|mount| mount.may_hang);
        assert_eq!(doubtful.map(|mount| mount.point).collect::<Vec<_>>(), ["/pool", "/mnt/disk"]);
        assert_eq!(unescaped("/a\\040b"), "/a b");
    }

    #[test]
    fn a_descriptor_tells_its_file_system_by_itself() {
        let file = fs::File::open("/proc/self/status").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        let mount = mount_behind(Path::new("/proc"), std::process::id(), fd).unwrap();
        assert_eq!((mount.filesystem.as_str(), mount.is_far()), ("proc", false));
    }

    #[test]
    fn a_mount_tells_its_device_and_what_is_mounted() {
        let line = "41 38 8:17 / /mnt/a\\040disk rw - ext4 /dev/sdb1 rw,errors=remount-ro";
        let told = mount(line).map(|mount| (mount.device, mount.source, mount.point)).unwrap();
        assert_eq!(told, ("8:17".to_owned(), "/dev/sdb1".to_owned(), "/mnt/a disk".to_owned()));
    }

    fn overlay(point: &str, used_percent: u64) -> (Mount, StatVfs) {
        let line = format!("41 36 0:60 / {point} rw - overlay overlay rw,upperdir=/u{point},workdir=/w");
        let mut disk = rustix::fs::statvfs("/").unwrap();
        (disk.f_blocks, disk.f_bfree, disk.f_bavail) = (100, 100 - used_percent, 100 - used_percent);
        (disk.f_files, disk.f_ffree) = (0, 0);
        (mount(&line).unwrap(), disk)
    }

    #[test]
    fn of_many_overlays_only_the_fullest_has_its_disk_looked_up() {
        let all = [overlay("/a", 50), overlay("/b", 100), overlay("/c", 99)];
        let mut looked_up = Vec::new();
        let found = fullest_of(all.into_iter(), |mount| {
            looked_up.push(mount.point.clone());
            Mount { device: "8:17".to_owned(), ..mount }
        });
        let of = Resource::Space { mount: "/b".to_owned(), device: "8:17".to_owned() };
        assert_eq!(found.map(|level| (level.of.clone(), level.percent())), Some((of, 100)));
        assert_eq!(looked_up, ["/b"]);
    }

    #[test]
    fn where_no_overlay_is_full_no_disk_is_looked_up() {
        let all = [overlay("/a", 50), overlay("/b", 98)];
        assert_eq!(fullest_of(all.into_iter(), |mount| panic!("{mount:?} is not full")), None);
    }

    #[test]
    fn a_real_file_system_has_space() {
        let [space, _] = levels_of(Path::new("/"), "/", "");
        assert!(space.is_some_and(|space| space.used <= space.limit));
    }
}
