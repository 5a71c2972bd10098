//! Which hierarchy of control groups this node has.

use super::{Check, Root};

pub(super) fn checks(root: Root<'_>) -> Vec<Check> {
    vec![version(root)]
}

fn version(root: Root<'_>) -> Check {
    const NAME: &str = "cgroups";
    let mounts = root.read("/proc/self/mountinfo").unwrap_or_default();
    let (v1, v2) = found(&mounts);
    match (v1.is_empty(), v2) {
        (true, Some(path)) => Check::ok(NAME, format!("v2 at {path}")),
        (false, Some(path)) => Check::degraded(
            NAME,
            format!("hybrid: v2 at {path}, v1 for {}", v1.join(", ")),
            "memory and CPU limits are read from v1; no memory.high, no pressure per workload",
            "boot with systemd.unified_cgroup_hierarchy=1",
        ),
        (false, None) => Check::degraded(
            NAME,
            format!("v1 only: {}", v1.join(", ")),
            "no kill of a whole group at once, no freeze, no pressure per workload",
            "boot with systemd.unified_cgroup_hierarchy=1",
        ),
        (true, None) => Check::degraded(
            NAME,
            "no cgroup file system is mounted",
            "units and containers cannot be told apart",
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        ),
    }
}

/// v1 mount points by name, and where v2 is mounted.
fn found(mountinfo: &str) -> (Vec<String>, Option<String>) {
    let mut v1 = Vec::new();
    let mut v2 = None;
    for (path, kind) in mountinfo.lines().filter_map(mount) {
        match kind {
            "cgroup2" => v2 = v2.or_else(|| Some(path.to_owned())),
            "cgroup" => v1.extend(path.rsplit('/').next().map(str::to_owned)),
            _ => {}
        }
    }
    (v1, v2)
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw` (proc(5)): mount point and type.
fn mount(line: &str) -> Option<(&str, &str)> {
    let (left, right) = line.split_once(" - ")?;
    Some((left.split(' ').nth(4)?, right.split(' ').next()?))
}
