//! Whether a file system is read-only now, by the list of mounts alone: asking the file system may hang.

use std::{fs, path::Path};

use super::{
    disks::{self, Mount},
    overlay::disk_of,
};

/// ext4 may leave `rw` there after an error and add the second (fs/ext4/super.c).
const READ_ONLY: [&str; 2] = ["ro", "emergency_ro"];

/// By its device, as the first process has it mounted, or else `pid`. `None`: neither has, or it is an overlay on
/// nobody knows which disk.
#[must_use]
pub fn is_read_only(proc: &Path, pid: u32, device: &str) -> Option<bool> {
    let mounts = |pid: u32| fs::read_to_string(proc.join(format!("{pid}/mountinfo"))).unwrap_or_default();
    let first = mounts(1);
    match line_of(&first, device) {
        Some(line) => told_by(line, |upper| below(&first, upper)),
        None => {
            let own = mounts(pid);
            // Whose name the upper directory goes by there, nobody knows.
            told_by(line_of(&own, device)?, |_| None)
        }
    }
}

fn line_of<'a>(mountinfo: &'a str, device: &str) -> Option<&'a str> {
    mountinfo.lines().find(|line| line.split(' ').nth(2) == Some(device))
}

/// Behind the source stand the options of the file system itself, before the dash those of one mount of it
/// (proc_pid_mountinfo(5)). Those of an overlay stay `rw` whatever becomes of the disk `below` its upper directory.
fn told_by(line: &str, below: impl FnOnce(&str) -> Option<bool>) -> Option<bool> {
    let (_, theirs) = line.split_once(" - ")?;
    let mut theirs = theirs.split(' ');
    let (filesystem, options) = (theirs.next()?, theirs.nth(1)?);
    let is_read_only = options.split(',').any(|option| READ_ONLY.contains(&option));
    if is_read_only || filesystem != "overlay" {
        return Some(is_read_only);
    }
    let upper = disks::mounts(line).next()?.upper?;
    below(&upper)
}

/// The disk that a directory lies on; not of one that a server may have made read-only, which no list tells.
fn below(mountinfo: &str, dir: &str) -> Option<bool> {
    let mounts: Vec<Mount> = disks::mounts(mountinfo).collect();
    let disk = disk_of(&mounts, dir)?;
    told_by(line_of(mountinfo, &disk.device)?, |_| None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_itself_is_meant_and_not_one_mount_of_it() {
        let text = "36 35 8:1 / / rw,noatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
                    37 36 8:17 / /data rw shared:2 - ext4 /dev/sdb1 ro,errors=remount-ro\n\
                    38 36 8:33 / /ro ro - ext4 /dev/sdc1 rw\n\
                    39 36 8:49 / /new rw - ext4 /dev/sdd1 rw,emergency_ro\n";
        let told = ["8:1", "8:17", "8:33", "8:49", "8:65"]
            .map(|device| line_of(text, device).and_then(|line| told_by(line, |_| None)));
        assert_eq!(told, [Some(false), Some(true), Some(false), Some(true), None]);
    }

    #[test]
    fn what_the_first_process_does_not_see_its_own_may() {
        let tree = crate::identity::fixture::Tree::new();
        tree.file("proc/1/mountinfo", "36 35 8:1 / / rw - ext4 /dev/sda1 rw\n");
        tree.file("proc/7/mountinfo", "36 35 8:17 / /data rw - ext4 /dev/sdb1 ro\n");
        let proc = tree.roots().proc;
        let told = ["8:1", "8:17"].map(|device| is_read_only(&proc, 7, device));
        assert_eq!(told, [Some(false), Some(true)]);
        assert_eq!(is_read_only(&proc, 8, "8:17"), None);
    }

    fn overlay(device: &str, upper: &str) -> String {
        format!("41 36 {device} / /c rw - overlay overlay rw,lowerdir=/l,upperdir={upper},workdir=/w\n")
    }

    #[test]
    fn an_overlay_with_a_quota_of_its_own_is_as_writable_as_the_disk_below() {
        let tree = crate::identity::fixture::Tree::new();
        let disks = "36 35 8:1 / / rw - ext4 /dev/sda1 rw\n\
                     37 36 8:17 / /data rw - ext4 /dev/sdb1 rw,emergency_ro,prjquota\n\
                     38 36 0:50 / /far rw - nfs4 host:/ rw\n\
                     39 36 0:51 / /pool rw - zfs pool rw\n\
                     40 36 0:64 / /view ro - overlay overlay rw,lowerdir=/a:/b\n";
        let uppers = [("0:60", "/u"), ("0:61", "/data/u"), ("0:62", "/far/u"), ("0:63", "/pool/u")];
        let overlays: String = uppers.iter().map(|(device, upper)| overlay(device, upper)).collect();
        tree.file("proc/1/mountinfo", &(disks.to_owned() + &overlays));
        let proc = tree.roots().proc;
        let told = ["0:60", "0:61", "0:62", "0:63", "0:64"].map(|device| is_read_only(&proc, 7, device));
        assert_eq!(told, [Some(false), Some(true), None, None, None]);
    }

    #[test]
    fn an_overlay_that_only_its_own_process_sees_is_not_taken_for_writable() {
        let tree = crate::identity::fixture::Tree::new();
        tree.file("proc/1/mountinfo", "36 35 8:1 / / rw - ext4 /dev/sda1 rw\n");
        tree.file("proc/7/mountinfo", &overlay("0:60", "/u"));
        tree.file("proc/8/mountinfo", "41 36 0:60 / /c rw - overlay overlay ro,upperdir=/u,workdir=/w\n");
        let proc = tree.roots().proc;
        assert_eq!([7, 8].map(|pid| is_read_only(&proc, pid, "0:60")), [None, Some(true)]);
    }
}
