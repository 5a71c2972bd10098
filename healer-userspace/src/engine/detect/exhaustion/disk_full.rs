//! A file system has no space or no inodes left: which, and who writes.

use super::{Exhaustion, Failed, Kind, words::bytes};
use crate::{
    engine::{class::Class, detect::DetectorEntry},
    signal::{
        levels::{Level, Resource},
        syscall_error::SyscallError,
    },
};

pub(in crate::engine::detect) const ENTRY: DetectorEntry = DetectorEntry {
    name: "disk_full",
    classes: &[Class::DiskFull],
    build: || Box::new(Exhaustion::<Disk>::default()),
};

/// Not every ENOSPC is a disk: inotify watches and System V objects run out with it, too.
const WRITES: [&str; 31] = [
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "pwritev2",
    "open",
    "openat",
    "openat2",
    "creat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "symlink",
    "symlinkat",
    "link",
    "linkat",
    "rename",
    "renameat",
    "renameat2",
    "fallocate",
    "ftruncate",
    "truncate",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "msync",
    "copy_file_range",
    "sendfile",
    "splice",
    "setxattr",
];
/// A write that fails may still leave less than a block, or than what was to be written.
const NEARLY_FULL_PERCENT: u64 = 90;

struct Disk;

impl Kind for Disk {
    const CLASS: Class = Class::DiskFull;
    /// Logs and caches are let grow far before they are cut.
    const FORETOLD_PERCENT: u64 = 95;

    fn is_of(resource: &Resource) -> bool {
        matches!(resource, Resource::Space { .. } | Resource::Inodes { .. })
    }

    fn failed(error: &SyscallError, fullest: Option<&Level>) -> Option<Failed> {
        let is_quota = error.errno == libc::EDQUOT;
        if !(error.errno == libc::ENOSPC || is_quota) || !WRITES.contains(&error.call.as_str()) {
            return None;
        }
        let is_stored = error.file.as_ref().is_none_or(|file| file.stored);
        if !is_stored {
            return None;
        }
        if is_quota {
            let file = error.file.clone().unwrap_or_default();
            // Each has its own quota of one disk.
            let device = match file.device.as_str() {
                "" => String::new(),
                device => format!("{device}, the quota at {}", file.mount),
            };
            let resource = Resource::Space { mount: file.mount, device };
            return Some(Failed { resource, is_seen: true, level: None });
        }
        // Where nobody knows which file it was, the level is that of the fullest disk that the process uses.
        let is_guess = error.file.is_none() && error.is_by_descriptor();
        let is_full = |level: &&Level| NEARLY_FULL_PERCENT <= level.percent();
        if let Some(level) = error.level.as_ref().filter(is_full) {
            let (resource, level) = (level.of.clone(), Some(level.clone()));
            return Some(Failed { resource, is_seen: !is_guess, level });
        }
        // A file that could not be made has no descriptor: the fullest disk is meant.
        let guess = fullest.filter(|level| 99 <= level.percent());
        Some(Failed {
            resource: guess.map_or_else(unknown, |level| level.of.clone()),
            is_seen: guess.is_some() && !is_guess,
            level: guess.cloned(),
        })
    }

    fn over() -> &'static str {
        "can write again"
    }

    fn rate(amount: u64) -> String {
        bytes(amount)
    }
}

fn unknown() -> Resource {
    Resource::Space { mount: String::new(), device: String::new() }
}
