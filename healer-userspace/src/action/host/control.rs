//! Which file of which control group limits a process.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::Control;
use crate::{
    engine::lease::Knob,
    identity::{cgroup::view::View, procfs},
};

const MOUNT: &str = "/sys/fs/cgroup";
const UNIFY: &str = "boot with systemd.unified_cgroup_hierarchy=1";

impl Control {
    /// Controller, its file on v1 (none: v1 has no such thing), its file on v2.
    fn names(self) -> (&'static str, Option<&'static str>, &'static str) {
        match self {
            Self::Freezer => ("freezer", Some("freezer.state"), "cgroup.freeze"),
            Self::MemoryHigh => ("memory", None, "memory.high"),
            Self::MemoryMax => ("memory", Some("memory.limit_in_bytes"), "memory.max"),
            Self::CpuQuota => ("cpu", Some("cpu.cfs_quota_us"), "cpu.max"),
            Self::CpuWeight => ("cpu", Some("cpu.shares"), "cpu.weight"),
            Self::Pids => ("pids", Some("pids.max"), "pids.max"),
        }
    }

    /// Why no process of this machine can be controlled so.
    pub fn is_lacking(self) -> Option<String> {
        let (controller, v1, v2) = self.names();
        let mount = Path::new(MOUNT);
        if mount.join(controller).is_dir() {
            return v1.is_none().then(|| no_such_file_on_v1(v2));
        }
        let has = |dir: &Path| {
            let controllers = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
            controller == "freezer" && dir.join("cgroup.controllers").exists()
                || controllers.split_ascii_whitespace().any(|name| name == controller)
        };
        let is_there = has(mount) || has(&mount.join("unified"));
        (!is_there).then(|| format!("no cgroup hierarchy has the controller {controller}"))
    }

    /// # Errors
    /// Why this process cannot be controlled so, in words.
    pub(super) fn of(self, pid: u32) -> Result<Knob, String> {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .map_err(|error| format!("cannot read the cgroups of pid {pid}: {error}"))?;
        self.find(&cgroups, Path::new(MOUNT))
    }

    fn find(self, cgroups: &str, mount: &Path) -> Result<Knob, String> {
        let (controller, v1_file, v2_file) = self.names();
        let lines = cgroups.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some((fields.next()?, fields.next()?))
        });
        let v1 = lines.clone().find(|(names, _)| names.split(',').any(|name| name == controller));
        let v2 = lines.clone().find(|(names, _)| names.is_empty()).map(|(_, path)| path);
        // On a hybrid machine a process may be in a group of v2 by name alone; halting needs no controller there.
        let v1 = v1.filter(|(_, path)| self != Self::Freezer || own(&mount.join(controller), path).is_ok());
        let (dir, file) = match (v1, v2) {
            (Some((_, path)), _) => {
                let file = v1_file.ok_or_else(|| no_such_file_on_v1(v2_file))?;
                (own(&mount.join(controller), path)?, file)
            }
            (None, Some(path)) => {
                let unified = mount.join("unified");
                let mount = if unified.is_dir() { unified } else { mount.to_owned() };
                (own(&mount, path)?, v2_file)
            }
            (None, None) => return Err(format!("it is in no cgroup with the controller {controller}")),
        };
        let meta = fs::metadata(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        if !dir.join(file).exists() {
            return Err(format!(
                "{} has no {file}: its parent does not hand the controller {controller} down",
                dir.display()
            ));
        }
        let dir = dir.to_string_lossy().into_owned();
        Ok(Knob::Cgroup { dir, dev: meta.dev(), inode: meta.ino(), file: file.to_owned() })
    }
}

fn no_such_file_on_v1(file: &str) -> String {
    format!("cgroup v1 has no {file}: throttle by cpu, or {UNIFY}")
}

/// The group's directory, also if we live in a cgroup namespace of our own.
fn own(mount: &Path, path: &str) -> Result<PathBuf, String> {
    match View::of(mount).whole(path).as_deref() {
        None => Err(format!("its cgroup {path} lies outside of the tree mounted at {}", mount.display())),
        Some("/") => {
            Err(format!("in {} it lives in the root cgroup, and that is the whole machine", mount.display()))
        }
        Some(path) => Ok(mount.join(path.trim_start_matches('/'))),
    }
}

/// The smallest limit from here up; None: only the machine limits it.
pub(super) fn memory_limit(pid: u32) -> Option<u64> {
    let Ok(Knob::Cgroup { dir, file, .. }) = Control::MemoryMax.of(pid) else {
        return None;
    };
    let limit = |dir: &Path| fs::read_to_string(dir.join(&file)).ok()?.trim().parse::<u64>().ok();
    // v1 writes "none" as the greatest multiple of a page.
    Path::new(&dir).ancestors().filter_map(limit).filter(|limit| *limit < i64::MAX as u64 / 2).min()
}

pub(super) fn machine_memory() -> u64 {
    procfs::machine_memory(Path::new("/proc")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(control: Control, cgroups: &str) -> String {
        control.find(cgroups, Path::new("/no/such/mount")).unwrap_err()
    }

    #[test]
    fn what_cannot_be_limited_is_said() {
        let v1 = "4:memory,pids:/box/web\n0::/\n";
        assert!(refused(Control::MemoryHigh, v1).starts_with("cgroup v1 has no memory.high"));
        assert!(
            refused(Control::CpuQuota, v1).contains("root cgroup"),
            "v2 is asked, and it is the root there"
        );
        assert!(refused(Control::CpuQuota, "4:cpu:/\n").contains("the whole machine"));
        assert!(refused(Control::CpuQuota, "4:cpu:/../x\n").contains("outside of the tree"));
        assert!(refused(Control::Pids, v1).contains("/no/such/mount/pids/box/web"));
        assert!(refused(Control::Pids, "").contains("no cgroup with the controller pids"));
    }
}
