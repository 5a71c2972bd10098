//! The limits on CPU time that a process is under.

use core::time::Duration;
use std::path::{Path, PathBuf};

use crate::{
    engine::time::BootTime,
    sense::poll::cpu::{CpuStat, Kept, cpu_cgroups},
    signal::work::Throttled,
};

/// A process may be moved to another cgroup.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Its cgroups of the cpu controller, the innermost first.
pub(super) struct Limits {
    groups: Vec<(PathBuf, Kept, Option<CpuStat>)>,
    mount: PathBuf,
    looked_up: BootTime,
}

impl Limits {
    pub(super) fn of(now: BootTime, proc: &Path, cgroup: &Path, pid: u32) -> Self {
        let open = |dir: PathBuf| Kept::open(&dir.join("cpu.stat")).map(|file| (dir, file, None));
        let groups = cpu_cgroups(proc, cgroup, pid).into_iter().filter_map(open).collect();
        Self { groups, mount: cgroup.to_owned(), looked_up: now }
    }

    pub(super) fn refresh(&mut self, now: BootTime, proc: &Path, pid: u32) {
        if now.since(self.looked_up) < LOOK_UP {
            return;
        }
        self.looked_up = now;
        let dirs = cpu_cgroups(proc, &self.mount, pid);
        let is_same = dirs.iter().eq(self.groups.iter().map(|(dir, ..)| dir));
        if !is_same {
            *self = Self::of(now, proc, &self.mount.clone(), pid);
        }
    }

    /// The limit that held it back most since the look before; `None` if none did.
    pub(super) fn look(&mut self) -> Option<Throttled> {
        let mut worst: Option<(CpuStat, &Path)> = None;
        for (dir, file, before) in &mut self.groups {
            let Some(stat) = file.read().map(|text| CpuStat::parse(&text)) else {
                continue;
            };
            let since = before.replace(stat).map(|before| stat.since(before)).unwrap_or_default();
            if 0 < since.throttled && worst.is_none_or(|(worst, _)| worst.throttled < since.throttled) {
                worst = Some((since, dir.as_path()));
            }
        }
        worst.map(|(stat, dir)| Throttled {
            cgroup: format!("/{}", dir.strip_prefix(&self.mount).unwrap_or(dir).display()),
            periods: stat.periods,
            throttled: stat.throttled,
            throttled_ms: stat.throttled_ns / 1_000_000,
        })
    }
}
