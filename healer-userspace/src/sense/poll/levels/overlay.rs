//! What an overlay writes to. It has a device of its own, but its upper directory lies on a disk, and that is what runs
//! full.

use std::{collections::BTreeMap, fs, path::Path};

use super::disks::{self, Mount};

/// A mount point and its device, as the first process has them.
type Disk = (String, String);

/// The disks of the overlays that are mounted, by the overlay's own device; `None`: it has a quota, or nobody knows.
#[derive(Default)]
pub(super) struct Layers(BTreeMap<String, Option<String>>);

impl Layers {
    /// One mount of each disk for all overlays there: what they have written is looked for once.
    pub(super) fn merged(&mut self, proc: &Path, mounts: Vec<Mount>) -> Vec<Mount> {
        self.0.retain(|device, _| mounts.iter().any(|mount| mount.device == *device));
        let mut mounts: Vec<Mount> = mounts.into_iter().map(|mount| self.placed(proc, mount)).collect();
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

    fn placed(&mut self, proc: &Path, mut mount: Mount) -> Mount {
        let Some(upper) = mount.upper.as_deref().filter(|_| !mount.may_hang) else { return mount };
        let disk = self.0.entry(mount.device.clone()).or_insert_with(|| device_below(proc, upper));
        if let Some(disk) = disk.clone() {
            mount.overlays.push(core::mem::replace(&mut mount.device, disk));
        }
        mount
    }
}

/// With the disk's device, if the overlay has no quota of its own there.
pub(super) fn on_its_disk(proc: &Path, mut mount: Mount) -> Mount {
    if let Some(device) = mount.upper.as_deref().and_then(|upper| device_below(proc, upper)) {
        mount.device = device;
    }
    mount
}

fn device_below(proc: &Path, upper: &str) -> Option<String> {
    let mounts = fs::read_to_string(proc.join("1/mountinfo")).ok()?;
    let (point, device) = disk_of(&mounts, upper)?;
    let root = proc.join("1/root");
    let blocks = |path: &str| {
        let disk = rustix::fs::statvfs(root.join(path.trim_start_matches('/')));
        disk.ok().map(|disk| disk.f_blocks)
    };
    // A project with a quota is told by its numbers (statvfs(2) of XFS and ext4).
    (blocks(upper)? == blocks(&point)?).then_some(device)
}

/// The disk that a directory lies on; `None` if whoever asks for it may have to wait.
fn disk_of(mountinfo: &str, dir: &str) -> Option<Disk> {
    let above = |mount: &Mount| Path::new(dir).starts_with(&mount.point);
    let mounts: Vec<Mount> = disks::mounts(mountinfo).filter(above).collect();
    let may_wait = mounts.iter().any(|mount| mount.is_far() || mount.filesystem == disks::WAITS);
    let nearest = mounts.into_iter().max_by_key(|mount| mount.point.len());
    nearest.filter(|_| !may_wait).map(|mount| (mount.point, mount.device))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "36 35 8:1 / / rw - ext4 /dev/sda1 rw\n\
                          37 36 8:17 / /var/lib/docker rw - xfs /dev/sdb1 rw\n\
                          38 36 0:50 / /far rw - nfs4 host:/ rw\n";

    #[test]
    fn a_directory_lies_on_the_disk_that_is_mounted_nearest() {
        let of = |dir: &str| disk_of(MOUNTS, dir).map(|(_, device)| device);
        assert_eq!(of("/var/lib/docker/overlay2/x/diff").as_deref(), Some("8:17"));
        assert_eq!(of("/srv/x").as_deref(), Some("8:1"));
        assert_eq!(of("/far/x"), None, "it may hang");
    }

    fn overlay(device: &str, point: &str) -> String {
        format!("41 36 {device} / {point} rw - overlay overlay rw,upperdir=/u{point},workdir=/w\n")
    }

    fn merged(known: &[(&str, Option<&str>)], mountinfo: &str) -> Vec<(String, Vec<String>)> {
        let known = known.iter().map(|(device, disk)| ((*device).to_owned(), disk.map(str::to_owned)));
        let mut layers = Layers(known.collect());
        let merged = layers.merged(Path::new("/none"), disks::mounts(mountinfo).collect());
        merged.into_iter().map(|mount| (mount.point, mount.overlays)).collect()
    }

    #[test]
    fn a_hundred_overlays_on_one_disk_are_asked_as_that_disk() {
        let on = |number: u32| format!("0:{}", 100 + number);
        let overlays: String = (0..100).map(|number| overlay(&on(number), &format!("/c{number}"))).collect();
        let devices: Vec<String> = (0..100).map(on).collect();
        let known: Vec<_> = devices.iter().map(|device| (device.as_str(), Some("8:17"))).collect();
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
        let known = [("0:60", None), ("0:61", Some("8:17")), ("0:62", Some("8:33"))];
        let told = merged(&known, &mounts);
        let told: Vec<_> = told.iter().map(|(point, of)| (point.as_str(), of.join(" "))).collect();
        let wanted = [("/quota", ""), ("/disk", "0:61"), ("/there", "0:62")];
        assert_eq!(told, wanted.map(|(point, of)| (point, of.to_owned())));
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
