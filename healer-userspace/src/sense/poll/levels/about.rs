//! What a failed system call was about: read at once, for a second later it may be another.

use core::net::SocketAddr;
use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use super::{descriptors, disks, pids};
use crate::signal::{
    levels::{Level, Resource},
    syscall_error::{File, SyscallError},
};

/// A limit that is used so far refuses.
const FULL_PERCENT: u64 = 95;

/// Where to look.
pub struct About {
    proc: PathBuf,
    cgroup: PathBuf,
}

impl About {
    /// `proc` is `/proc`, `cgroup` is `/sys/fs/cgroup`.
    #[must_use]
    pub fn new(proc: &Path, cgroup: &Path) -> Self {
        Self { proc: proc.to_owned(), cgroup: cgroup.to_owned() }
    }

    /// Adds what can be seen now.
    pub fn complete(&self, pid: u32, error: &mut SyscallError) {
        match error.errno {
            libc::EMFILE => error.level = self.descriptors(pid),
            libc::ENFILE => error.level = descriptors::files(&self.proc),
            libc::EAGAIN => error.level = self.fullest_of_tasks(pid),
            libc::EADDRNOTAVAIL => error.level = self.ports(pid, error.address),
            libc::ENOSPC | libc::EDQUOT | libc::EIO | libc::EROFS => self.file(pid, error),
            _ => {}
        }
    }

    fn descriptors(&self, pid: u32) -> Option<Level> {
        let used = descriptors::open_files(&self.proc, pid)?;
        let limit = descriptors::soft_limit(&self.proc, pid, "Max open files")?;
        Some(Level { pid, ..Level::new(Resource::Descriptors { pid }, used, limit) })
    }

    /// Which they are; how many are left is looked at beside the line, for it takes long.
    fn ports(&self, pid: u32, peer: Option<SocketAddr>) -> Option<Level> {
        let peer = peer?;
        let netns = fs::metadata(self.proc.join(format!("{pid}/ns/net"))).ok()?.ino();
        Some(Level::new(Resource::Ports { netns, peer: peer.ip(), port: peer.port() }, 0, 0))
    }

    fn fullest_of_tasks(&self, pid: u32) -> Option<Level> {
        let limits = pids::limits_of(&self.proc, &self.cgroup, pid);
        limits.into_iter().filter(|level| FULL_PERCENT <= level.percent()).max_by_key(Level::percent)
    }

    fn file(&self, pid: u32, error: &mut SyscallError) {
        let fd = error.arg0.filter(|_| error.is_by_descriptor());
        if fd.is_none() && error.errno == libc::ENOSPC {
            error.level = disks::fullest(&self.proc, pid);
        }
        let Some(fd) = fd.map(|fd| fd as u32 as i32).filter(|fd| 0 <= *fd) else {
            return;
        };
        let link = self.proc.join(format!("{pid}/fd/{fd}"));
        let Ok(path) = fs::read_link(&link) else { return };
        let path = path.display().to_string();
        let mount = disks::mount_behind(&self.proc, pid, fd);
        if let Some(far) = mount.as_ref().filter(|mount| mount.is_far()) {
            // Whoever asks it more may wait for ever.
            error.file = Some(file_on(far.clone(), path, true));
            return;
        }
        let Ok(meta) = fs::metadata(&link) else { return };
        let kind = meta.file_type();
        // An inherited descriptor may be of a mount of another mount namespace.
        let mount = mount.or_else(|| disks::mount_of(&self.proc, pid, &path, meta.dev()));
        let stored = kind.is_file() || kind.is_dir() || kind.is_block_device();
        let mut file = mount.map_or_else(File::default, |mount| file_on(mount, String::new(), stored));
        (file.path, file.stored) = (path, stored);
        if error.errno == libc::ENOSPC && stored {
            let levels = disks::levels_of(&link, &file.mount, &file.device).into_iter().flatten();
            error.level = levels.max_by_key(Level::percent);
        }
        if kind.is_block_device() {
            "block device".clone_into(&mut file.filesystem);
        }
        error.file = Some(file);
    }
}

fn file_on(mount: disks::Mount, path: String, stored: bool) -> File {
    let disks::Mount { point, filesystem, device, source, .. } = mount;
    File { path, mount: point, filesystem, device, source, stored }
}
