//! One cgroup with a limit.

use core::time::Duration;
use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use super::{CALM, JITTER, NEAR, ReclaimMap, beat, millis, tree::Tree, users::Users};
use crate::{
    engine::time::BootTime,
    sense::poll::cpu::{Kept, pressure_total_us},
    signal::memory::{CgroupMemory, Reclaim},
};

/// Of the limit, what must be in use (for `memory.stat`) or taken for good (for the processes) before more is read.
const MATTERS_PERCENT: u64 = 50;
/// From here on it is looked at four times a second.
const NEAR_PERCENT: u64 = 70;
/// Page cache fills every limit: full alone says nothing, and is looked at in detail now and then.
const FULL_PERCENT: u64 = 95;
/// Since the look before: then it is asked whose they are.
const FAULTS_MATTER: u64 = 20;
/// After the last look near the limit.
const FAREWELL: u8 = 4;
const IN_DETAIL: Duration = Duration::from_secs(1);
const IN_DETAIL_CALM: Duration = Duration::from_secs(2);
/// Whom the counters of a cgroup are summed over.
const DESCENDANTS_MAX: usize = 64;

/// What a look needs besides.
pub(super) struct Around<'a> {
    pub(super) proc: &'a Path,
    pub(super) tree: &'a Tree,
    pub(super) reclaim: Option<&'a ReclaimMap>,
}

pub(super) struct Group {
    path: String,
    pub(super) limit: u64,
    pub(super) due: BootTime,
    usage: Kept,
    stat: Option<Kept>,
    pressure: Option<Kept>,
    before: Before,
    users: Users,
    is_near: bool,
    /// So many looks more are told although there is room: whoever waits for that hears it.
    farewell: u8,
    /// Ids of itself and of the cgroups below, found when they begin to matter.
    family: Vec<u64>,
}

/// What stood there at the last look in detail.
#[derive(Default)]
struct Before {
    looked: Option<BootTime>,
    stat: MemoryStat,
    pressed_us: Option<u64>,
    reclaim: Option<Reclaim>,
    hits: u64,
}

impl Group {
    pub(super) fn open(tree: &Tree, path: &str, limit: u64) -> Option<Self> {
        Some(Self {
            path: path.to_owned(),
            limit,
            due: BootTime(0),
            usage: Kept::open(&tree.dir(path).join(tree.usage_file()))?,
            stat: None,
            pressure: None,
            before: Before::default(),
            users: Users::default(),
            is_near: false,
            farewell: 0,
            family: Vec::new(),
        })
    }

    pub(super) fn is_near(&self) -> bool {
        self.is_near
    }

    /// `None` once it is gone; else what there is to say.
    pub(super) fn look(&mut self, now: BootTime, around: &Around<'_>) -> Option<Option<CgroupMemory>> {
        let usage = self.usage.number()?;
        if usage < self.limit * MATTERS_PERCENT / 100 && self.farewell == 0 {
            self.due = beat(now, CALM);
            self.calm_down();
            return Some(None);
        }
        let is_full = self.limit * FULL_PERCENT / 100 <= usage;
        let pause = if is_full || self.is_near { IN_DETAIL } else { IN_DETAIL_CALM };
        let is_due = self.is_watched() || self.before.looked.is_none_or(|at| pause <= now.since(at) + JITTER);
        if !is_due {
            self.due = beat(now, CALM);
            return Some(None);
        }
        Some(self.in_detail(now, usage, is_full, around))
    }

    fn is_watched(&self) -> bool {
        self.is_near || 0 < self.farewell
    }

    fn in_detail(
        &mut self,
        now: BootTime,
        usage: u64,
        is_full: bool,
        around: &Around<'_>,
    ) -> Option<CgroupMemory> {
        let dir = around.tree.dir(&self.path);
        self.wake_up(&dir, around.proc, around.tree);
        let stat = MemoryStat::parse(&self.stat.as_ref().and_then(Kept::read)?);
        let over = self.before.looked.replace(now).map_or(Duration::ZERO, |at| now.since(at));
        let taken = stat.anon + stat.shmem;
        self.is_near = self.limit * NEAR_PERCENT / 100 <= taken;
        self.due = if self.is_watched() { now + NEAR } else { beat(now, CALM) };
        let faults = stat.major_faults.saturating_sub(self.before.stat.major_faults);
        let matters = self.limit * MATTERS_PERCENT / 100 <= taken || (is_full && FAULTS_MATTER <= faults);
        if matters {
            self.users.look(now, around.proc, &dir, taken);
        }
        let before = core::mem::replace(&mut self.before.stat, stat);
        let counted = around.reclaim.map(|map| map.of_cgroups(&self.family));
        let told = CgroupMemory {
            cgroup: self.path.clone(),
            over_ms: millis(over),
            usage,
            anon: taken,
            limit: self.limit,
            hits: self.hits(&dir, around.tree.is_v2),
            pressed_ms: self.pressed(),
            major_faults: stat.major_faults.saturating_sub(before.major_faults),
            refaults: stat.refaults.saturating_sub(before.refaults),
            reclaim: counted.map(|now| now.since(self.before.reclaim.replace(now).unwrap_or(now))),
            users: if matters { self.users.told() } else { Vec::new() },
            families: if matters { self.users.families(now) } else { Vec::new() },
            grown: self.users.grown().filter(|_| matters),
        };
        let is_last_word = 0 < self.farewell;
        self.farewell = if self.is_near { FAREWELL } else { self.farewell.saturating_sub(1) };
        // The first look has nothing to compare with.
        (over != Duration::ZERO && (matters || is_full || is_last_word)).then_some(told)
    }

    fn wake_up(&mut self, dir: &Path, proc: &Path, tree: &Tree) {
        if self.stat.is_some() {
            return;
        }
        self.stat = Kept::open(&dir.join("memory.stat"));
        self.pressure = tree.pressure_of(proc, &self.path).and_then(|path| Kept::open(&path));
        self.family = family(dir);
    }

    /// It has room again: what was opened for the look in detail is closed.
    fn calm_down(&mut self) {
        if self.stat.is_some() {
            self.stat = None;
            self.pressure = None;
            self.before = Before::default();
            self.users = Users::default();
            self.is_near = false;
            self.family.clear();
        }
    }

    fn pressed(&mut self) -> Option<u64> {
        let total = pressure_total_us(&self.pressure.as_ref()?.read()?)?;
        let before = self.before.pressed_us.replace(total).unwrap_or(total);
        Some(total.saturating_sub(before) / 1000)
    }

    fn hits(&mut self, dir: &Path, is_v2: bool) -> u64 {
        let file = if is_v2 { "memory.events" } else { "memory.failcnt" };
        let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
        let max = || text.lines().find_map(|line| line.strip_prefix("max "));
        let hits = if is_v2 { max() } else { Some(text.as_str()) };
        let hits = hits.and_then(|hits| hits.trim().parse().ok()).unwrap_or(0);
        let before = core::mem::replace(&mut self.before.hits, hits);
        // At the first look: all since it was made.
        if before == 0 { 0 } else { hits.saturating_sub(before) }
    }
}

impl Reclaim {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(before.calls),
            poor: self.poor.saturating_sub(before.poor),
            pages: self.pages.saturating_sub(before.pages),
            took_ms: self.took_ms.saturating_sub(before.took_ms),
        }
    }
}

/// Of `memory.stat`, what v1 and v2 both say of a cgroup and all below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MemoryStat {
    pub(super) anon: u64,
    pub(super) shmem: u64,
    pub(super) major_faults: u64,
    pub(super) refaults: u64,
}

impl MemoryStat {
    pub(super) fn parse(text: &str) -> Self {
        let mut stat = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(' ') else {
                continue;
            };
            let value = value.trim().parse().unwrap_or(0);
            match key {
                // v1's own `anon` does not exist, its `shmem` is of this cgroup alone and stands before the total.
                "anon" | "total_rss" => stat.anon = value,
                "shmem" | "total_shmem" => stat.shmem = value,
                "pgmajfault" | "total_pgmajfault" => stat.major_faults = value,
                "workingset_refault_file" | "total_workingset_refault_file" => stat.refaults = value,
                _ => {}
            }
        }
        stat
    }
}

fn family(dir: &Path) -> Vec<u64> {
    let mut waiting = vec![dir.to_owned()];
    let mut ids = Vec::new();
    while let Some(dir) = waiting.pop().filter(|_| ids.len() < DESCENDANTS_MAX) {
        ids.extend(fs::metadata(&dir).map(|meta| meta.ino()));
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        waiting.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    ids
}
