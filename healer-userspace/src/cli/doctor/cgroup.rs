//! Which hierarchy of control groups this node has, and what its groups can do.

use super::{Check, Root};

const UNIFY: &str = "boot with systemd.unified_cgroup_hierarchy=1";

pub(super) fn checks(root: Root<'_>) -> Vec<Check> {
    let mounts = root.read("/proc/self/mountinfo").unwrap_or_default();
    let (v1, v2) = found(&mounts);
    let files = v2.as_deref().and_then(|v2| files(root, v2, v1.is_empty()));
    [version(&v1, v2.as_deref())].into_iter().chain(files).collect()
}

/// What healer wants of a v2 group: the file, since when it is there, and what is not to be had without it
/// (Documentation/admin-guide/cgroup-v2.rst).
const FILES: &[(&str, &str)] = &[
    ("cgroup.kill", "no kill of a whole group at one blow (Linux 5.14)"),
    ("cgroup.freeze", "no halt of a whole group (Linux 5.2)"),
    ("memory.events", "no count of a group's OOM kills"),
    ("memory.high", "no limit that slows a group before it is killed"),
    ("memory.oom.group", "whether a group dies as one is not known (Linux 4.19)"),
    ("memory.pressure", "no memory pressure per group (psi=1)"),
];

/// The root has none of them: its children are looked at. `None` while there are none.
fn files(root: Root<'_>, v2: &str, is_pure: bool) -> Option<Check> {
    const NAME: &str = "cgroup files";
    let entries = std::fs::read_dir(root.at(v2)).ok()?.flatten();
    let groups: Vec<_> = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).collect();
    if groups.is_empty() {
        return None;
    }
    let is_there = |file: &str| groups.iter().any(|group| group.path().join(file).exists());
    let (there, lacking): (Vec<_>, Vec<_>) = FILES.iter().partition(|(file, _)| is_there(file));
    let names = |files: &[&(&str, &str)]| files.iter().map(|(file, _)| *file).collect::<Vec<_>>().join(", ");
    if lacking.is_empty() {
        return Some(Check::ok(NAME, names(&there)));
    }
    let costs: Vec<_> = lacking.iter().map(|(_, costs)| *costs).collect();
    // On a pure machine a controller is only not handed down.
    let fix =
        if is_pure { "echo '+memory +cpu +pids +io' > /sys/fs/cgroup/cgroup.subtree_control" } else { UNIFY };
    Some(Check::degraded(NAME, format!("no {}", names(&lacking)), &costs.join("; "), fix))
}

fn version(v1: &[String], v2: Option<&str>) -> Check {
    const NAME: &str = "cgroups";
    match (v1.is_empty(), v2) {
        (true, Some(path)) => Check::ok(NAME, format!("v2 at {path}")),
        (false, Some(path)) => Check::degraded(
            NAME,
            format!("hybrid: v2 at {path}, v1 for {}", v1.join(", ")),
            "memory and CPU limits are read from v1",
            UNIFY,
        ),
        (false, None) => Check::degraded(
            NAME,
            format!("v1 only: {}", v1.join(", ")),
            "no cgroup.kill, cgroup.freeze, memory.high, memory.oom.group; no pressure per workload",
            UNIFY,
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
