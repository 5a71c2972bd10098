//! Who: process, cgroup, unit, container, pod. Roots of /proc and /sys/fs/cgroup are injected.

pub mod process;
