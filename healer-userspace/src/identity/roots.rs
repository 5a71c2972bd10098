use std::path::PathBuf;

/// Where the kernel shows processes and cgroups. Tests give a made-up tree, an agent in a
/// container the host's own.
#[derive(Clone, Debug)]
pub struct Roots {
    /// A procfs mount of the host's pid namespace (`proc(5)`).
    pub proc: PathBuf,
    /// The directory that holds the cgroup mounts, or the cgroup2 mount itself (`cgroups(7)`).
    pub cgroup: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: PathBuf::from("/proc"), cgroup: PathBuf::from("/sys/fs/cgroup") }
    }
}
