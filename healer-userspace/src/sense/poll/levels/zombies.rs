//! Children that ended and that nobody waits for.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    clock,
    engine::time::BootTime,
    identity::{
        process::ProcessId,
        procfs::{self, ProcDir},
    },
    signal::levels::Zombies,
};

/// Fewer are no news.
const WORTH_SAYING: u64 = 5;
/// All processes are looked at when there are so many more than at the last look, or after so long.
const GROWN: u64 = 5;
const AT_LEAST_EVERY: Duration = Duration::from_secs(60);
const WHILE_KNOWN: Duration = Duration::from_secs(4);
/// While they become more, a look may use a fortieth of a percent of a CPU, but comes at least so often.
const SPARE: u32 = 4000;
const SPARED_FOR: Duration = Duration::from_secs(5);

pub(super) struct ZombieWatch {
    proc: PathBuf,
    looked: Option<BootTime>,
    took: Duration,
    processes: u64,
    has_some: bool,
}

impl ZombieWatch {
    pub(super) fn new(proc: &Path) -> Self {
        Self { proc: proc.to_owned(), looked: None, took: Duration::ZERO, processes: 0, has_some: false }
    }

    /// `None`: nobody was counted this time.
    pub(super) fn look(&mut self, now: BootTime) -> Option<Vec<Zombies>> {
        let processes = self.count();
        if !self.is_due(now, processes) {
            // Those that were waited for make room for new ones.
            self.processes = self.processes.min(processes);
            return None;
        }
        let began = clock::boot();
        let found = self.scan();
        self.took = clock::boot().since(began);
        (self.looked, self.processes, self.has_some) = (Some(now), processes, !found.is_empty());
        Some(found)
    }

    fn is_due(&self, now: BootTime, processes: u64) -> bool {
        let Some(looked) = self.looked else { return true };
        let since = now.since(looked);
        let is_spared = since < (self.took * SPARE).min(SPARED_FOR);
        let wanted = self.processes + GROWN <= processes || (self.has_some && WHILE_KNOWN <= since);
        AT_LEAST_EVERY <= since || (wanted && !is_spared)
    }

    /// Links of `/proc` are its processes, the dead ones that nobody waited for among them (fs/proc/root.c).
    fn count(&self) -> u64 {
        fs::metadata(&self.proc).map_or(0, |root| root.nlink())
    }

    fn scan(&self) -> Vec<Zombies> {
        let mut by_parent: BTreeMap<u32, Zombies> = BTreeMap::new();
        for pid in procfs::pids(&self.proc) {
            let stat = ProcDir::open(&self.proc, pid).and_then(|dir| dir.stat());
            if let Some(stat) = stat.filter(|stat| stat.state == b'Z') {
                let parent = by_parent.entry(stat.parent).or_default();
                add(parent, stat.parent, ProcessId { pid, start: stat.start });
            }
        }
        by_parent.into_values().filter(|parent| WORTH_SAYING <= parent.count).collect()
    }
}

fn add(parent: &mut Zombies, pid: u32, child: ProcessId) {
    parent.pid = pid;
    parent.count += 1;
    let is_elder = |known: ProcessId| (child.start, child.pid) < (known.start, known.pid);
    if parent.eldest.is_none_or(is_elder) {
        parent.eldest = Some(child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eldest_is_whoever_began_first() {
        let mut parent = Zombies::default();
        for (pid, start) in [(30, 9), (31, 7), (32, 7), (5, 8)] {
            add(&mut parent, 3, ProcessId { pid, start: BootTime(start) });
        }
        assert_eq!((parent.pid, parent.count), (3, 4));
        assert_eq!(parent.eldest, Some(ProcessId { pid: 31, start: BootTime(7) }));
    }
}
