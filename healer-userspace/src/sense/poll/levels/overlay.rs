//! What an overlay writes to. It has a device of its own, but its upper directory lies on a disk, and that is what runs
//! full.

use std::{cell::LazyCell, collections::BTreeMap, fs, path::Path};

use super::disks::{self, Mount};

/// What takes the files of an overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Below {
    /// The disk with this device.
    Disk(String),
    /// A quota of its own there.
    Quota,
}

/// Of the overlays that are mounted, by their own device and upper directory: the next overlay may get the same device
/// at once.
#[derive(Default)]
pub(super) struct Layers {
    known: BTreeMap<(String, String), Below>,
    /// What nobody could tell, with how often that was asked.
    unknown: BTreeMap<(String, String), u32>,
}

/// What could not be told so often is asked now and then only.
const TRIES_SOON: u32 = 3;
const TRIES_LATER: u32 = 12;

impl Layers {
    /// One mount of each disk for all overlays there: what they have written is looked for once.
    pub(super) fn merged(&mut self, proc: &Path, mounts: Vec<Mount>) -> Vec<Mount> {
        let is_of = |mount: &Mount, device: &str, upper: &str| {
            mount.device == device && mount.upper.as_deref() == Some(upper)
        };
        let is_there =
            |(device, upper): &(String, String)| mounts.iter().any(|mount| is_of(mount, device, upper));
        self.known.retain(|key, _| is_there(key));
        self.unknown.retain(|key, _| is_there(key));
        let seen = LazyCell::new(|| seen_by_the_first(proc));
        let find = |upper: &str| below(proc, &seen, upper);
        let mut mounts: Vec<Mount> = mounts.into_iter().map(|mount| self.placed(mount, find)).collect();
        mounts.sort_by_key(|mount| (mount.device.clone(), mount.upper.is_some(), mount.point.len()));
        mounts.dedup_by(|other, kept| {
            let is_same = other.device == kept.device;
            if is_same {
                kept.overlays.append(&mut other.overlays);
            }
            is_same
        });
        mounts
    }

    fn placed(&mut self, mut mount: Mount, find: impl Fn(&str) -> Option<Below>) -> Mount {
        let Some(upper) = mount.upper.clone().filter(|_| !mount.may_hang) else { return mount };
        let key = (mount.device.clone(), upper);
        let Some(below) = self.known.get(&key).cloned().or_else(|| self.found(&key, find)) else {
            return mount;
        };
        if let Below::Disk(device) = &below {
            mount.overlays.push(core::mem::replace(&mut mount.device, device.clone()));
        }
        self.known.insert(key, below);
        mount
    }

    fn found(&mut self, key: &(String, String), find: impl Fn(&str) -> Option<Below>) -> Option<Below> {
        let tries = self.unknown.entry(key.clone()).or_default();
        *tries = tries.saturating_add(1);
        if TRIES_SOON < *tries && !tries.is_multiple_of(TRIES_LATER) {
            return None;
        }
        let below = find(&key.1)?;
        self.unknown.remove(key);
        Some(below)
    }
}

/// With the disk's device, if the overlay has no quota of its own there.
pub(super) fn on_its_disk(proc: &Path, mut mount: Mount) -> Mount {
    let below = mount.upper.as_deref().and_then(|upper| below(proc, &seen_by_the_first(proc), upper));
    if let Some(Below::Disk(device)) = below {
        mount.device = device;
    }
    mount
}

fn seen_by_the_first(proc: &Path) -> Vec<Mount> {
    let text = fs::read_to_string(proc.join("1/mountinfo")).unwrap_or_default();
    disks::mounts(&text).collect()
}

/// `None`: nobody knows, or not now.
fn below(proc: &Path, mounts: &[Mount], upper: &str) -> Option<Below> {
    let disk = disk_of(mounts, upper)?;
    let root = proc.join("1/root");
    let blocks = |path: &str| {
        let disk = rustix::fs::statvfs(root.join(path.trim_start_matches('/')));
        disk.ok().map(|disk| disk.f_blocks)
    };
    // A project with a quota is told by its numbers (statvfs(2) of XFS and ext4).
    let has_all = blocks(upper)? == blocks(&disk.point)?;
    Some(if has_all { Below::Disk(disk.device.clone()) } else { Below::Quota })
}

/// The disk that a directory lies on, as the first process has it; `None` if whoever asks for it may have to wait.
pub(super) fn disk_of<'a>(mounts: &'a [Mount], dir: &str) -> Option<&'a Mount> {
    let above: Vec<&Mount> = mounts.iter().filter(|mount| Path::new(dir).starts_with(&mount.point)).collect();
    let nearest = above.iter().max_by_key(|mount| mount.point.len())?;
    // A pool of ZFS that is suspended lets everybody wait who asks for its room, and nobody who only passes.
    let may_wait = nearest.filesystem == disks::WAITS || above.iter().any(|mount| mount.is_far());
    (!may_wait).then_some(*nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "36 35 8:1 / / rw - ext4 /dev/sda1 rw\n\
                          37 36 8:17 / /var/lib/docker rw - xfs /dev/sdb1 rw\n\
                          38 36 0:50 / /far rw - nfs4 host:/ rw\n";

    #[test]
    fn a_directory_lies_on_the_disk_that_is_mounted_nearest() {
        let mounts: Vec<Mount> = disks::mounts(MOUNTS).collect();
        let of = |dir: &str| disk_of(&mounts, dir).map(|mount| mount.device.clone());
        assert_eq!(of("/var/lib/docker/overlay2/x/diff").as_deref(), Some("8:17"));
        assert_eq!(of("/srv/x").as_deref(), Some("8:1"));
        assert_eq!(of("/far/x"), None, "it may hang");
        let mixed =
            "36 35 0:30 / / rw - zfs tank/root rw\n37 36 8:17 / /var/lib/docker rw - xfs /dev/sdb1 rw\n";
        let mounts: Vec<Mount> = disks::mounts(mixed).collect();
        let of = |dir: &str| disk_of(&mounts, dir).map(|mount| mount.device.clone());
        assert_eq!((of("/var/lib/docker/x").as_deref(), of("/srv/x")), (Some("8:17"), None));
    }

    fn overlay(device: &str, point: &str) -> String {
        format!("41 36 {device} / {point} rw - overlay overlay rw,upperdir=/u{point},workdir=/w\n")
    }

    /// What is known of the overlay with this device at this point; no disk: it has a quota.
    type Known<'a> = (&'a str, &'a str, Option<&'a str>);

    fn layers(known: &[Known<'_>]) -> Layers {
        let known = known.iter().map(|(device, point, disk)| {
            let below = disk.map_or(Below::Quota, |disk| Below::Disk(disk.to_owned()));
            (((*device).to_owned(), format!("/u{point}")), below)
        });
        Layers { known: known.collect(), ..Layers::default() }
    }

    fn merged(known: &[Known<'_>], mountinfo: &str) -> Vec<(String, Vec<String>)> {
        let merged = layers(known).merged(Path::new("/none"), disks::mounts(mountinfo).collect());
        merged.into_iter().map(|mount| (mount.point, mount.overlays)).collect()
    }

    #[test]
    fn a_hundred_overlays_on_one_disk_are_asked_as_that_disk() {
        let on = |number: u32| format!("0:{}", 100 + number);
        let overlays: String = (0..100).map(|number| overlay(&on(number), &format!("/c{number}"))).collect();
        let names: Vec<_> = (0..100).map(|number| (on(number), format!("/c{number}"))).collect();
        let known: Vec<Known<'_>> =
            names.iter().map(|(device, point)| (device.as_str(), point.as_str(), Some("8:17"))).collect();
        let disk = "37 36 8:17 / /var/lib/docker rw - xfs /dev/sdb1 rw\n";
        let counted = |mountinfo: &str| -> Vec<(String, usize)> {
            merged(&known, mountinfo).into_iter().map(|(point, of)| (point, of.len())).collect()
        };
        assert_eq!(counted(&(overlays.clone() + disk)), [("/var/lib/docker".to_owned(), 100)]);
        assert_eq!(counted(&overlays), [("/c0".to_owned(), 100)], "the disk itself is not mounted here");
    }

    #[test]
    fn an_overlay_with_a_quota_and_one_on_another_disk_stay_apart() {
        let mounts = "36 35 8:17 / /disk rw - xfs /dev/sdb1 rw\n".to_owned()
            + &overlay("0:60", "/quota")
            + &overlay("0:61", "/here")
            + &overlay("0:62", "/there");
        let known =
            [("0:60", "/quota", None), ("0:61", "/here", Some("8:17")), ("0:62", "/there", Some("8:33"))];
        let told = merged(&known, &mounts);
        let told: Vec<_> = told.iter().map(|(point, of)| (point.as_str(), of.join(" "))).collect();
        let wanted = [("/quota", ""), ("/disk", "0:61"), ("/there", "0:62")];
        assert_eq!(told, wanted.map(|(point, of)| (point, of.to_owned())));
    }

    #[test]
    fn who_gets_the_device_of_another_overlay_is_looked_up_anew() {
        let known = [("0:60", "/old", Some("8:17"))];
        let apart = [("/new".to_owned(), Vec::<String>::new())];
        assert_eq!(merged(&known, &overlay("0:60", "/new")), apart, "nobody knows its disk");
        let on_its_disk = [("/old".to_owned(), vec!["0:60".to_owned()])];
        assert_eq!(merged(&known, &overlay("0:60", "/old")), on_its_disk);
        let mut layers = layers(&known);
        layers.merged(Path::new("/none"), disks::mounts(&overlay("0:60", "/new")).collect());
        assert!(layers.known.is_empty(), "the old one is gone");
    }

    #[test]
    fn what_nobody_knew_is_looked_up_again_and_what_is_known_is_not() {
        let tree = crate::identity::fixture::Tree::new();
        tree.file("proc/1/root/u/c/file", "");
        let (proc, overlay) = (tree.roots().proc, overlay("0:60", "/c"));
        let mut layers = Layers::default();
        let mut device = || {
            let merged = layers.merged(&proc, disks::mounts(&overlay).collect());
            merged.first().map(|mount| mount.device.clone())
        };
        assert_eq!(device().as_deref(), Some("0:60"));
        tree.file("proc/1/mountinfo", "36 35 8:17 / /u rw - xfs /dev/sdb1 rw\n");
        assert_eq!(device().as_deref(), Some("8:17"));
        tree.file("proc/1/mountinfo", "");
        assert_eq!(device().as_deref(), Some("8:17"));
    }

    #[test]
    fn what_nobody_can_tell_is_asked_less_often() {
        let mut layers = Layers::default();
        let asked = core::cell::Cell::new(0);
        let find = |_: &str| {
            asked.set(asked.get() + 1);
            None
        };
        let key = ("0:60".to_owned(), "/u/c".to_owned());
        assert!((0..36).all(|_| layers.found(&key, find).is_none()));
        assert_eq!(asked.get(), 6);
        assert_eq!(
            layers.found(&("0:61".to_owned(), "/u/d".to_owned()), |_| Some(Below::Quota)),
            Some(Below::Quota)
        );
        assert_eq!(layers.unknown.len(), 1);
    }

    #[test]
    fn what_has_no_upper_directory_keeps_its_device() {
        let mount = disks::mounts(MOUNTS).next().unwrap();
        assert_eq!(on_its_disk(Path::new("/none"), mount.clone()), mount);
        let overlay =
            "41 36 0:60 / / rw - overlay overlay rw,lowerdir=/a:/b,upperdir=/u/diff,workdir=/u/work";
        let mount = disks::mounts(overlay).next().unwrap();
        assert_eq!((mount.upper.as_deref(), mount.device.as_str()), (Some("/u/diff"), "0:60"));
        assert_eq!(on_its_disk(Path::new("/none"), mount.clone()), mount, "nobody knows its disk");
    }
}
