//! Control groups of the test's own in every hierarchy that a lease may turn, v1 or v2.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::scratch::unique_name;

/// One group under one name; killed empty and removed on drop.
pub struct Group {
    dirs: Vec<PathBuf>,
    is_v2: bool,
}

impl Group {
    /// # Panics
    /// If cgroups cannot be made here: the test needs root.
    #[must_use]
    pub fn new() -> Self {
        let mount = Path::new("/sys/fs/cgroup");
        let is_v2 = mount.join("cgroup.controllers").exists();
        if is_v2 {
            // Handed down already, or a controller is missing: the test that needs it says so.
            for controller in ["+cpu", "+memory", "+pids"] {
                fs::write(mount.join("cgroup.subtree_control"), controller).ok();
            }
        }
        Self::of(if is_v2 { &[""] } else { &["cpu", "freezer", "memory", "pids"] })
    }

    /// Only of these controllers; on v2 they are where the memory is.
    ///
    /// # Panics
    /// As `new`.
    #[must_use]
    pub fn of(hierarchies: &[&str]) -> Self {
        let mount = Path::new("/sys/fs/cgroup");
        let name = unique_name();
        let is_v2 = mount.join("cgroup.controllers").exists();
        let dirs: Vec<_> = hierarchies.iter().map(|hierarchy| mount.join(hierarchy).join(&name)).collect();
        for dir in &dirs {
            fs::create_dir(dir).expect("this test needs root, to make cgroups");
        }
        Self { dirs, is_v2 }
    }

    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.is_v2
    }

    /// Moves a process there.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn take(&self, pid: u32) {
        for dir in &self.dirs {
            fs::write(dir.join("cgroup.procs"), pid.to_string()).expect("the process can be moved");
        }
    }

    fn file(&self, v1: &str, v2: &str) -> PathBuf {
        let file = if self.is_v2 { v2 } else { v1 };
        let found = self.dirs.iter().map(|dir| dir.join(file)).find(|path| path.exists());
        found.expect("the controller is there")
    }

    /// How much CPU it may have: the first word of `cpu.max`, or the quota of v1.
    ///
    /// # Panics
    /// Without the controller.
    #[must_use]
    pub fn quota(&self) -> String {
        let text = read(&self.file("cpu.cfs_quota_us", "cpu.max"));
        text.split(' ').next().unwrap_or_default().replace("max", "-1")
    }

    /// # Panics
    /// Without the controller.
    pub fn set_quota(&self, microseconds: u32) {
        let path = self.file("cpu.cfs_quota_us", "cpu.max");
        fs::write(path, microseconds.to_string()).expect("the quota is taken");
    }

    /// As it was made.
    ///
    /// # Panics
    /// Without the controller.
    pub fn set_quota_free(&self) {
        let path = self.file("cpu.cfs_quota_us", "cpu.max");
        fs::write(path, if self.is_v2 { "max" } else { "-1" }).expect("the quota is taken");
    }

    /// # Panics
    /// Without a freezer.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        let state = read(&self.file("freezer.state", "cgroup.freeze"));
        matches!(state.as_str(), "FROZEN" | "FREEZING" | "1")
    }

    /// Its weight against others: `cpu.weight`, or the shares of v1.
    ///
    /// # Panics
    /// Without the controller.
    #[must_use]
    pub fn weight(&self) -> String {
        read(&self.file("cpu.shares", "cpu.weight"))
    }

    /// # Panics
    /// Without the controller.
    #[must_use]
    pub fn pids_max(&self) -> String {
        read(&self.file("pids.max", "pids.max"))
    }

    /// A delegated one: its files are another user's, who alone may write them.
    ///
    /// # Panics
    /// If it is gone.
    pub fn belongs_to(&self, uid: u32) {
        let own = |path: &Path| std::os::unix::fs::chown(path, Some(uid), Some(uid));
        for dir in &self.dirs {
            own(dir).expect("this test needs root");
            for file in fs::read_dir(dir).expect("the group is there").flatten() {
                own(&file.path()).expect("this test needs root");
            }
        }
    }

    /// # Panics
    /// Without the controller.
    pub fn set_pids_max(&self, max: u32) {
        fs::write(self.file("pids.max", "pids.max"), max.to_string()).expect("the limit is taken");
    }

    /// Its memory limit in bytes.
    ///
    /// # Panics
    /// Without the controller.
    #[must_use]
    pub fn memory(&self) -> u64 {
        read(&self.file("memory.limit_in_bytes", "memory.max")).parse().unwrap_or(u64::MAX)
    }

    /// # Panics
    /// Without the controller.
    pub fn set_memory(&self, bytes: u64) {
        let path = self.file("memory.limit_in_bytes", "memory.max");
        fs::write(path, bytes.to_string()).expect("the limit is taken");
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

impl Default for Group {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for dir in &self.dirs {
            // The frozen of v1 do not die.
            fs::write(dir.join("freezer.state"), "THAWED").ok();
            for _attempt in 0..200 {
                if fs::remove_dir(dir).is_ok() {
                    break;
                }
                let left = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
                for pid in left.lines().filter_map(|line| line.parse().ok()) {
                    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
                    }
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
