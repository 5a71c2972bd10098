//! Where the agent keeps what it must not forget, and how much memory it may lock.

use std::{io, os::unix::fs::MetadataExt as _, path::Path};

use rustix::{
    fs::{Access, access, statvfs},
    process::{Resource, getrlimit},
};

use super::{Check, Root, oldest};

/// The journal and the audit's files, before rotation.
const ROOM: u64 = 100 << 20;
/// Both rings and the maps; kernels before 5.11 count them against this limit.
const LOCKED: u64 = 8 << 20;

pub(super) fn checks(root: Root<'_>, state_dir: &Path) -> Vec<Check> {
    vec![state(state_dir), memlock(root)]
}

fn state(dir: &Path) -> Check {
    const NAME: &str = "state directory";
    const COSTS: &str = "nothing is acted on (no journal, no act), nothing is audited";
    let shown = dir.display().to_string();
    let found = match std::fs::metadata(dir) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return state_to_be(dir),
        Err(error) => {
            return Check::missing(NAME, format!("{shown}: {error}"), COSTS, "run as root");
        }
    };
    if !found.is_dir() {
        let fix = "choose another with --state-dir";
        return Check::missing(NAME, format!("{shown} is no directory"), COSTS, fix);
    }
    if access(dir, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let fix = "run as root, or choose another with --state-dir";
        return Check::missing(NAME, format!("{shown} cannot be written"), COSTS, fix);
    }
    if found.mode() & 0o077 != 0 {
        let says = format!("{shown} has mode {:04o}", found.mode() & 0o7777);
        let costs = "other users may look into the audit or reach the sockets";
        return Check::degraded(NAME, says, costs, &format!("chmod 0700 {shown}"));
    }
    match free(dir) {
        Some(free) if free < ROOM => {
            let says = format!("{shown} has {} MiB free", free >> 20);
            let fix = "free some space: 100 MiB are enough";
            Check::degraded(NAME, says, "acts stop when the disk is full", fix)
        }
        Some(free) => Check::ok(NAME, format!("{shown}, {} MiB free", free >> 20)),
        None => Check::ok(NAME, shown),
    }
}

/// It is made at the first start, if the nearest directory above allows.
fn state_to_be(dir: &Path) -> Check {
    let above = dir.ancestors().skip(1).find(|above| above.exists()).unwrap_or(Path::new("."));
    let shown = dir.display();
    if access(above, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
        return Check::ok("state directory", format!("{shown} will be made at the first start"));
    }
    Check::missing(
        "state directory",
        format!("{shown} is not there and cannot be made in {}", above.display()),
        "nothing is acted on (no journal, no act), nothing is audited",
        "run as root, or choose another with --state-dir",
    )
}

fn free(dir: &Path) -> Option<u64> {
    let found = statvfs(dir).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

fn memlock(root: Root<'_>) -> Check {
    const NAME: &str = "locked memory";
    let Some(limit) = getrlimit(Resource::Memlock).current else {
        return Check::ok(NAME, "unlimited");
    };
    let says = format!("limit {} KiB", limit / 1024);
    if limit >= LOCKED || !counts_maps(root) {
        return Check::ok(NAME, says);
    }
    let costs = "kernel programs may fail to load on this kernel";
    Check::degraded(NAME, says, costs, "ulimit -l unlimited, or CAP_SYS_RESOURCE")
}

/// Since 5.11 maps are charged to the memory cgroup and not to RLIMIT_MEMLOCK.
fn counts_maps(root: Root<'_>) -> bool {
    let release = root.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    oldest::numbers(&release).is_none_or(|numbers| numbers < (5, 11))
}
