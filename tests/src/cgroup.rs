//! A memory cgroup of the test's own, below the one the test runs in; v1 or v2.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::scratch::unique_name;

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

/// Where the test's own memory cgroup lies.
fn memory_home() -> Option<(PathBuf, bool)> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let of = |controller: &str| {
        own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let controllers = parts.nth(1)?;
            let path = parts.next()?;
            controllers
                .split(',')
                .any(|name| name == controller)
                .then(|| path.trim_start_matches('/').to_owned())
        })
    };
    if let Some(path) = of("memory") {
        return Some((Path::new("/sys/fs/cgroup/memory").join(path), false));
    }
    let root = Path::new("/sys/fs/cgroup").join(of("")?);
    root.join("cgroup.controllers").exists().then_some((root, true))
}
