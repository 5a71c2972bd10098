//! Who has the CPU, while somebody lacks it: one pass over /proc, 10 µs a process.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{engine::time::BootTime, identity::procfs, signal::work::Consumer, text};

/// Told at most.
const TOLD: usize = 3;
/// Older numbers say nothing of now.
const STALE: Duration = Duration::from_secs(4);

pub(super) struct CpuUsers {
    proc: PathBuf,
    looked: Option<BootTime>,
    /// Clock ticks by pid.
    ticks: BTreeMap<u32, u64>,
    tick_ms: u64,
}

impl CpuUsers {
    pub(super) fn new(proc: &Path) -> Self {
        let tick_ms = 1000 / rustix::param::clock_ticks_per_second().max(1);
        Self { proc: proc.to_owned(), looked: None, ticks: BTreeMap::new(), tick_ms }
    }

    /// Heaviest first; empty if there was no look shortly before.
    pub(super) fn look(&mut self, now: BootTime) -> Vec<Consumer> {
        let ticks: BTreeMap<u32, u64> =
            procfs::pids(&self.proc).filter_map(|pid| Some((pid, self.ticks_of(pid)?))).collect();
        let before = core::mem::replace(&mut self.ticks, ticks);
        let is_fresh = self.looked.replace(now).is_some_and(|before| now.since(before) < STALE);
        if !is_fresh {
            return Vec::new();
        }
        let used = |(pid, now): (&u32, &u64)| (now.saturating_sub(*before.get(pid).unwrap_or(now)), *pid);
        let mut users: Vec<(u64, u32)> = self.ticks.iter().map(used).filter(|(used, _)| 0 < *used).collect();
        users.sort_unstable_by(|one, other| other.cmp(one));
        users.truncate(TOLD);
        users.into_iter().map(|(used, pid)| self.consumer(pid, used)).collect()
    }

    /// utime + stime of all threads (proc_pid_stat(5)).
    fn ticks_of(&self, pid: u32) -> Option<u64> {
        let text = fs::read(self.proc.join(format!("{pid}/stat"))).ok()?;
        let text = text::lossy(&text);
        let (_, tail) = text.rsplit_once(')')?;
        let mut fields = tail.split_ascii_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(user + system)
    }

    fn consumer(&self, pid: u32, ticks: u64) -> Consumer {
        let read = |name: &str| fs::read(self.proc.join(format!("{pid}/{name}"))).unwrap_or_default();
        let groups = text::lossy(&read("cgroup"));
        // The line of the cpu controller, or else that of v2.
        let is_cpu = |line: &&str| {
            line.split(':').nth(1).is_some_and(|names| names.split(',').any(|name| name == "cpu"))
        };
        let line =
            groups.lines().find(is_cpu).or_else(|| groups.lines().find(|line| line.starts_with("0::")));
        Consumer {
            pid,
            comm: text::lossy(read("comm").trim_ascii_end()),
            cgroup: line.and_then(|line| line.splitn(3, ':').nth(2)).unwrap_or_default().to_owned(),
            ran_ms: ticks * self.tick_ms,
        }
    }
}
