//! From a process to its group or cgroup, and to those who live there.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use super::Domain;
use crate::identity::{
    cgroup::view::View,
    procfs::{self, ProcDir, Stat},
};

const PROC: &str = "/proc";
/// Where cgroup hierarchies are mounted (cgroups(7)).
const MOUNT: &str = "/sys/fs/cgroup";

pub(super) fn stat_of(pid: u32) -> Option<Stat> {
    ProcDir::open(Path::new(PROC), pid)?.stat()
}

pub(super) fn group_of(pid: u32) -> io::Result<Domain> {
    let stat = stat_of(pid).ok_or(io::ErrorKind::NotFound)?;
    Ok(Domain::Group(stat.group))
}

/// The cgroup that separates the process from the rest: its v2 cgroup, or if that is the root, its memory cgroup.
pub(super) fn cgroup_of(pid: u32) -> io::Result<Domain> {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    find(&cgroups, Path::new(MOUNT)).ok_or_else(|| {
        let words = match cgroups.contains(":/..") {
            true => "its cgroup lies outside of what is mounted at /sys/fs/cgroup: mount the host's there",
            false => "it lives in the root cgroup, and that is the whole machine",
        };
        io::Error::new(io::ErrorKind::InvalidInput, words)
    })
}

fn find(cgroups: &str, mount: &Path) -> Option<Domain> {
    let lines = cgroups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let v2 = lines.clone().find(|(controllers, _)| controllers.is_empty());
    let memory = lines.clone().find(|(names, _)| names.split(',').any(|name| name == "memory"));
    let hybrid = mount.join("unified");
    let v2_mount = if hybrid.is_dir() { hybrid } else { mount.to_owned() };
    let candidates = [(v2, v2_mount), (memory, mount.join("memory"))];
    candidates.into_iter().find_map(|(line, mount)| {
        let (_, path) = line?;
        let path = View::of(&mount).whole(path).filter(|path| path != "/")?;
        let dir = mount.join(path.trim_start_matches('/'));
        Some(Domain::Cgroup { path, dir })
    })
}

/// Directories of a path that may exist in any hierarchy, for a process that is gone.
pub(super) fn directories(path: &str) -> Vec<PathBuf> {
    if path.is_empty() || path == "/" || path.split('/').any(|part| part == "..") {
        return Vec::new();
    }
    let path = path.trim_start_matches('/');
    let mounts = ["", "unified", "memory"].map(|mount| Path::new(MOUNT).join(mount).join(path));
    mounts.into_iter().filter(|dir| dir.join("cgroup.procs").is_file()).collect()
}

/// Pids of living members; of a cgroup with everything below it.
pub(crate) fn pids(domain: &Domain) -> io::Result<Vec<u32>> {
    let mut pids = match domain {
        Domain::Group(group) => in_group(*group),
        Domain::Cgroup { dir, .. } => {
            let mut pids = Vec::new();
            in_cgroup(dir, &mut pids)?;
            pids
        }
    };
    pids.retain(|pid| stat_of(*pid).is_some_and(|stat| !stat.is_over()));
    Ok(pids)
}

fn in_group(group: u32) -> Vec<u32> {
    let all = procfs::pids(Path::new(PROC));
    let of_group = |pid: &u32| stat_of(*pid).is_some_and(|stat| stat.group == group);
    all.filter(of_group).collect()
}

fn in_cgroup(dir: &Path, pids: &mut Vec<u32>) -> io::Result<()> {
    match std::fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(procs) => pids.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok())),
        // A cgroup that is gone holds nobody.
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(error),
    }
    for entry in std::fs::read_dir(dir)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            in_cgroup(&entry.path(), pids)?;
        }
    }
    Ok(())
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// False where there is no cgroup.kill: v1, and kernels before 5.14.
pub(crate) fn kill_at_once(domain: &Domain) -> io::Result<bool> {
    let Domain::Cgroup { dir, .. } = domain else {
        return Ok(false);
    };
    match std::fs::write(dir.join("cgroup.kill"), "1") {
        Ok(()) => Ok(true),
        // On v1 the file cannot be created either: EPERM or EACCES without a file of that name.
        Err(_) if !dir.join("cgroup.kill").exists() => Ok(false),
        Err(error) => Err(error),
    }
}

/// process_mrelease(2): of a process that is about to end, also of one that cannot because it is frozen.
pub(super) fn release_memory(pidfd: &OwnedFd) -> io::Result<()> {
    /// The same on every architecture (include/uapi/asm-generic/unistd.h).
    const PROCESS_MRELEASE: libc::c_long = 448;
    // SAFETY: two integers; the descriptor is open for as long as the call takes.
    match unsafe { libc::syscall(PROCESS_MRELEASE, pidfd.as_raw_fd(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir_of(cgroups: &str) -> Option<PathBuf> {
        match find(cgroups, Path::new("/no/such/mount"))? {
            Domain::Cgroup { dir, .. } => Some(dir),
            Domain::Group(_) => None,
        }
    }

    #[test]
    fn the_separating_cgroup_is_found() {
        let v2 = "0::/system.slice/web.service\n";
        let dir = dir_of(v2).unwrap();
        assert_eq!(dir, Path::new("/no/such/mount/system.slice/web.service"));
        let v1 = "9:name=systemd:/x\n4:memory,cpu:/box/web\n0::/\n";
        assert_eq!(dir_of(v1).unwrap(), Path::new("/no/such/mount/memory/box/web"));
        assert_eq!(dir_of("4:memory:/\n0::/\n"), None);
        assert_eq!(dir_of("0::/../other\n"), None);
    }
}
