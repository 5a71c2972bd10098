//! The figures of a process's cgroups: what it uses of what it may.

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use crate::{identity::process::Process, sense::waits::Proc, text::printable};

/// Of v2 and v1 (cgroup-v2.rst, cgroup-v1/*.rst); those that are there are shown.
const FILES: &[&str] = &[
    "memory.current",
    "memory.peak",
    "memory.high",
    "memory.max",
    "memory.swap.current",
    "memory.events",
    "memory.pressure",
    "memory.usage_in_bytes",
    "memory.limit_in_bytes",
    "memory.failcnt",
    "cpu.max",
    "cpu.pressure",
    "cpu.cfs_quota_us",
    "cpu.stat",
    "io.pressure",
    "pids.current",
    "pids.max",
    "cgroup.events",
    "freezer.state",
];
const VALUE_MAX: u64 = 600;

/// `mount` is the directory of the mounts or the mount itself; the dead are looked for by the path that is remembered.
pub(super) fn figures(mount: &Path, proc: &Proc, process: &Process, lives: bool) -> String {
    let lines = lives.then(|| proc.text(&format!("{}/cgroup", process.pid))).flatten();
    let lines = lines.unwrap_or_else(|| remembered(&process.cgroup));
    let mut text = String::new();
    for dir in lines.lines().filter_map(|line| dir(mount, line)).collect::<BTreeSet<_>>() {
        let found: Vec<String> = FILES.iter().filter_map(|file| figure(&dir, file)).collect();
        if !found.is_empty() {
            let named = dir.display().to_string();
            text += &format!("  cgroup {}\n{}", printable(&named), found.concat());
        }
    }
    text
}

/// As `/proc/PID/cgroup` would have it, whatever the hierarchy.
fn remembered(path: &str) -> String {
    ["", "memory", "cpu", "pids"].map(|controller| format!("0:{controller}:{path}\n")).concat()
}

/// Of a line `N:controllers:path`; nobody's own is the root.
fn dir(mount: &Path, line: &str) -> Option<PathBuf> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    let path = path.strip_prefix('/').filter(|path| !path.is_empty() && !path.contains(".."))?;
    let below = match controllers.split(',').next()? {
        "" if mount.join("unified").is_dir() => mount.join("unified"),
        "" => mount.to_owned(),
        controller => mount.join(controller),
    };
    Some(below.join(path)).filter(|dir| dir.is_dir())
}

fn figure(dir: &Path, file: &str) -> Option<String> {
    let mut value = String::new();
    fs::File::open(dir.join(file)).ok()?.take(VALUE_MAX).read_to_string(&mut value).ok()?;
    let value = value.trim_end().replace('\n', ", ");
    Some(format!("    {file} {}\n", printable(&value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::Scratch;

    #[test]
    fn the_dead_are_looked_for_where_they_were_in_either_version() {
        let scratch = Scratch::new("figures");
        let mount = scratch.path();
        let write = |path: &str, text: &str| {
            let path = mount.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("unified/web/cgroup.events", "populated 0\nfrozen 0\n");
        write("memory/web/memory.failcnt", "12\n");
        write("memory/memory.failcnt", "99\n");
        let process = Process { pid: 4_100_000, cgroup: "/web".into(), ..Process::default() };
        let text = figures(mount, &Proc::new(Path::new("/proc")), &process, false);
        assert!(text.contains("cgroup.events populated 0, frozen 0\n"), "{text}");
        assert!(text.contains("memory.failcnt 12\n") && !text.contains(" 99\n"), "{text}");
        let root = Process { cgroup: "/".into(), ..process };
        assert_eq!(figures(mount, &Proc::new(Path::new("/proc")), &root, false), "");
    }
}
