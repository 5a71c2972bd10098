//! What an overlay writes to. It has a device of its own, but its upper directory lies on a disk, and that is what runs
//! full.

use std::{fs, path::Path};

use super::disks::{self, Mount};

/// A mount point and its device, as the first process has them.
type Disk = (String, String);

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
