//! The node's own memory: looked at, told, and nothing more.

use core::time::Duration;
use std::path::{Path, PathBuf};

use super::{ReclaimMap, millis, users::Users};
use crate::{
    engine::time::BootTime,
    sense::poll::cpu::{Kept, pressure_total_us},
    signal::memory::{NodeMemory, Reclaim},
};

/// Of the memory, what must be left before processes are looked at, and before anything is said.
const WATCHED_PERCENT: u64 = 20;
const TOLD_PERCENT: u64 = 10;
/// Of the time, for how much some task must have waited for memory.
const PRESSED_PERCENT: u64 = 10;

pub(super) struct Node {
    proc: PathBuf,
    meminfo: Option<Kept>,
    pressure: Option<Kept>,
    pressed_us: Option<u64>,
    reclaim: Option<Reclaim>,
    looked: Option<BootTime>,
    users: Users,
}

impl Node {
    pub(super) fn new(proc: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            meminfo: Kept::open(&proc.join("meminfo")),
            pressure: Kept::open(&proc.join("pressure/memory")),
            pressed_us: None,
            reclaim: None,
            looked: None,
            users: Users::default(),
        }
    }

    pub(super) fn look(&mut self, now: BootTime, reclaim: Option<&ReclaimMap>) -> Option<NodeMemory> {
        let (total, available) = meminfo(&self.meminfo.as_ref()?.read()?)?;
        let over = self.looked.replace(now).map_or(Duration::ZERO, |at| now.since(at));
        let pressed_ms = self.pressed();
        if total * WATCHED_PERCENT / 100 <= available {
            self.users = Users::default();
            self.reclaim = None;
        } else {
            self.users.look_around(now, &self.proc, total.saturating_sub(available));
        }
        let is_pressed =
            pressed_ms.is_some_and(|pressed| over.as_millis() as u64 * PRESSED_PERCENT / 100 < pressed);
        let is_short = available < total * TOLD_PERCENT / 100;
        if over == Duration::ZERO || !(is_pressed || is_short) {
            return None;
        }
        let counted = reclaim.map(ReclaimMap::of_node);
        Some(NodeMemory {
            over_ms: millis(over),
            total,
            available,
            pressed_ms,
            reclaim: counted.map(|now| now.since(self.reclaim.replace(now).unwrap_or(now))),
            users: self.users.told(),
            grown: self.users.grown(),
        })
    }

    fn pressed(&mut self) -> Option<u64> {
        let total = pressure_total_us(&self.pressure.as_ref()?.read()?)?;
        let before = self.pressed_us.replace(total).unwrap_or(total);
        Some(total.saturating_sub(before) / 1000)
    }
}

/// `MemTotal` and `MemAvailable`, bytes.
pub(super) fn meminfo(text: &str) -> Option<(u64, u64)> {
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kib << 10)
    };
    Some((of("MemTotal:")?, of("MemAvailable:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:       24684092 kB\nMemFree:          1 kB\nMemAvailable:   23826000 kB\n";
        assert_eq!(meminfo(text), Some((24_684_092 << 10, 23_826_000 << 10)));
        assert_eq!(meminfo("MemTotal: 5\n"), None);
    }
}
