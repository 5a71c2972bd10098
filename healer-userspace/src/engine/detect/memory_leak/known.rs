//! A leak that was seen, and rests: its program is throttled, or idle. Whether it goes on need not be learned anew.

use core::time::Duration;

use super::{
    NEAR_PERCENT,
    floor::{AGAIN, Floor, Rise},
};
use crate::{
    engine::time::BootTime,
    identity::process::ProcessId,
    signal::memory::{CgroupMemory, MemoryUser},
};

/// What was lent to it comes back within that, as a rule.
const HOLDS: Duration = Duration::from_secs(900);
/// Of the limit: whoever gives back so much begins from the start.
const FALL_PERCENT: u64 = 10;
/// Of its pace, what is enough to know it by.
const PACE_PART: f64 = 2.0;

pub(super) struct Known {
    culprit: ProcessId,
    /// The quickest that was seen: whatever slows it may slow it bit by bit.
    bytes_per_second: f64,
    highest: u64,
    seen: BootTime,
}

impl Known {
    pub(super) fn of(at: BootTime, culprit: ProcessId, rise: &Rise, before: Option<Self>) -> Self {
        let before = before.filter(|before| before.culprit == culprit);
        let (pace, highest) = before.map_or((0.0, 0), |before| (before.bytes_per_second, before.highest));
        Self { culprit, bytes_per_second: rise.bytes_per_second.max(pace), highest, seen: at }
    }

    pub(super) fn holds(&mut self, at: BootTime, memory: &CgroupMemory) -> bool {
        self.highest = self.highest.max(memory.anon);
        let has_fallen = memory.anon + memory.limit * FALL_PERCENT / 100 < self.highest;
        !has_fallen && at.since(self.seen) < HOLDS
    }

    /// The same process grows again, near the limit, and about as fast.
    pub(super) fn goes_on<'a>(
        &self,
        floor: &Floor,
        at: BootTime,
        memory: &'a CgroupMemory,
    ) -> Option<(&'a MemoryUser, Rise)> {
        let rise = floor.goes_on(at)?;
        let user = memory.most_grown(|user| user.grown_lately)?;
        let is_near = memory.limit * NEAR_PERCENT / 100 <= memory.anon;
        let is_its_pace = self.bytes_per_second <= PACE_PART * rise.bytes_per_second;
        let grown = rise.bytes_per_second * AGAIN.as_secs_f64();
        let is_its = user.process.id() == self.culprit && grown <= 2.0 * user.grown_lately as f64;
        (is_near && is_its_pace && is_its && !user.fills_its_own()).then_some((user, rise))
    }
}
