//! Cgroups of the test's own: one with memory, on v1 below the one the test runs in, on v2 at the root; and one of v2.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::{machine::hierarchies, scratch::unique_name};

/// Killed empty and removed on drop.
pub struct MemoryCgroup {
    path: PathBuf,
    is_v2: bool,
}

impl MemoryCgroup {
    /// # Panics
    /// If cgroups cannot be made here: the test needs root and a memory controller.
    #[must_use]
    pub fn new() -> Self {
        let (parent, is_v2) = memory_home().expect("this test needs a memory controller");
        let path = parent.join(unique_name());
        fs::create_dir(&path).expect("this test needs root, to make a memory cgroup");
        Self { path, is_v2 }
    }

    /// Its id, as kernel records have it.
    ///
    /// # Panics
    /// If it is gone.
    #[must_use]
    pub fn id(&self) -> u64 {
        fs::metadata(&self.path).expect("the cgroup exists").ino()
    }

    /// # Panics
    /// If the kernel refuses the limit.
    pub fn set_limit(&self, bytes: u64) {
        let file = if self.is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(self.path.join(file), bytes.to_string()).expect("the limit is taken");
    }

    /// The file that a process writes its pid to.
    #[must_use]
    pub fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// `sh -c` words that join this cgroup and become `program`.
    #[must_use]
    pub fn run(&self, program: &Path) -> String {
        format!("echo $$ > {}; exec {}", self.procs().display(), program.display())
    }
}

impl Default for MemoryCgroup {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        for _attempt in 0..200 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            let left = fs::read_to_string(self.procs()).unwrap_or_default();
            for pid in left.lines().filter_map(|line| line.parse().ok()) {
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A v2 cgroup, as pure v2 and hybrid machines have; killed empty and removed on drop.
pub struct V2Cgroup(PathBuf);

impl V2Cgroup {
    /// # Panics
    /// If cgroups cannot be made here: the test needs root and cgroup v2, mounted where systemd mounts it.
    #[must_use]
    pub fn new() -> Self {
        let path = hierarchies()[0].join(unique_name());
        fs::create_dir(&path).expect("this test needs root and cgroup v2");
        Self(path)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    #[must_use]
    pub fn has(&self, pid: u32) -> bool {
        let members = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        members.lines().any(|line| line == pid.to_string())
    }

    /// Kills all members at one blow (kernel 5.14).
    ///
    /// # Panics
    /// If the kernel has no `cgroup.kill`.
    pub fn kill(&self) {
        fs::write(self.0.join("cgroup.kill"), "1").expect("the kernel has cgroup.kill");
    }
}

impl Default for V2Cgroup {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for V2Cgroup {
    fn drop(&mut self) {
        for _attempt in 0..200 {
            fs::write(self.0.join("cgroup.kill"), "1").ok();
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Where memory is accounted for of a fault's cgroup: below our own on v1, at the root on v2.
#[must_use]
pub fn memory_dir(leaf: &OsStr) -> Option<PathBuf> {
    let (home, _) = memory_home()?;
    [home, PathBuf::from("/sys/fs/cgroup")]
        .map(|parent| parent.join(leaf))
        .into_iter()
        .find(|dir| dir.is_dir())
}

/// Where the test's own memory cgroup lies; on v2 only the root may have members and hand controllers down (cgroups(7)).
fn memory_home() -> Option<(PathBuf, bool)> {
    let mount = Path::new("/sys/fs/cgroup");
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let of_memory = own.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == "memory").then(|| path.trim_start_matches('/'))
    });
    if let Some(path) = of_memory {
        return Some((mount.join("memory").join(path), false));
    }
    mount.join("cgroup.controllers").exists().then(|| (mount.to_owned(), true))
}
