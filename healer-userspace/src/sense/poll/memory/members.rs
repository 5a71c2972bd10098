//! The processes of a cgroup.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Of one cgroup: 10 µs each.
pub(super) const PROCESSES_MAX: usize = 256;
const DIRS_MAX: usize = 64;

/// Of the cgroup and all below it.
pub(in crate::sense::poll) fn members(cgroup: &Path) -> Vec<u32> {
    let mut waiting: Vec<PathBuf> = vec![cgroup.to_owned()];
    let (mut pids, mut dirs) = (Vec::new(), 0);
    while let Some(dir) = waiting.pop().filter(|_| dirs < DIRS_MAX && pids.len() < PROCESSES_MAX) {
        dirs += 1;
        let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        waiting.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    pids
}
