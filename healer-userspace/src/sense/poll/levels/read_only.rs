//! Whether a file system is read-only now, by the list of mounts alone: asking the file system may hang.

use std::{fs, path::Path};

/// ext4 may leave `rw` there after an error and add the second (fs/ext4/super.c).
const READ_ONLY: [&str; 2] = ["ro", "emergency_ro"];

/// By its device, as the first process has it mounted, or else `pid`. `None`: neither has.
#[must_use]
pub fn is_read_only(proc: &Path, pid: u32, device: &str) -> Option<bool> {
    let mounts = |pid: u32| fs::read_to_string(proc.join(format!("{pid}/mountinfo"))).unwrap_or_default();
    told_by(&mounts(1), device).or_else(|| told_by(&mounts(pid), device))
}

/// Behind the source stand the options of the file system itself, before the dash those of one mount of it
/// (proc_pid_mountinfo(5)).
fn told_by(mountinfo: &str, device: &str) -> Option<bool> {
    let line = mountinfo.lines().find(|line| line.split(' ').nth(2) == Some(device))?;
    let (_, theirs) = line.split_once(" - ")?;
    let options = theirs.split(' ').nth(2)?;
    Some(options.split(',').any(|option| READ_ONLY.contains(&option)))
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
        let told = ["8:1", "8:17", "8:33", "8:49", "8:65"].map(|device| told_by(text, device));
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
}
