//! A leak that was seen, and rests: its program is throttled, or idle. Whether it goes on need not be learned anew.

use core::time::Duration;
use std::collections::VecDeque;

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
pub(super) const PACE_PART: u32 = 2;
/// Of a climb, what must be higher than ever: a heap climbs as quickly after each collection.
const NEWS_PART: f64 = 2.0;

pub(super) struct Known {
    culprit: ProcessId,
    /// The quickest that was seen: whatever slows it may slow it bit by bit.
    bytes_per_second: f64,
    /// The highest before the looks of `lately`.
    before: u64,
    lately: VecDeque<(BootTime, u64)>,
    seen: BootTime,
}

impl Known {
    pub(super) fn of(at: BootTime, culprit: ProcessId, rise: &Rise, before: Option<Self>) -> Self {
        let before = before.filter(|before| before.culprit == culprit);
        let (pace, highest, lately) = before
            .map_or((0.0, 0, VecDeque::new()), |known| (known.bytes_per_second, known.before, known.lately));
        Self { culprit, bytes_per_second: rise.bytes_per_second.max(pace), before: highest, lately, seen: at }
    }

    pub(super) fn holds(&mut self, at: BootTime, memory: &CgroupMemory) -> bool {
        self.lately.push_back((at, memory.anon));
        while let Some((_, taken)) = self.lately.front().filter(|(when, _)| AGAIN < at.since(*when)) {
            self.before = self.before.max(*taken);
            self.lately.pop_front();
        }
        let highest = self.lately.iter().map(|(_, taken)| *taken).max().unwrap_or(0).max(self.before);
        let has_fallen = memory.anon + memory.limit * FALL_PERCENT / 100 < highest;
        !has_fallen && at.since(self.seen) < HOLDS
    }

    /// The same process grows again, near the limit, about as fast, and beyond what it ever had.
    pub(super) fn goes_on<'a>(
        &self,
        floor: &Floor,
        at: BootTime,
        memory: &'a CgroupMemory,
    ) -> Option<(&'a MemoryUser, Rise)> {
        let rise = floor.goes_on(at)?;
        let user = memory.most_grown(|user| user.grown_lately)?;
        let is_near = memory.limit * NEAR_PERCENT / 100 <= memory.anon;
        let is_its_pace = self.bytes_per_second <= f64::from(PACE_PART) * rise.bytes_per_second;
        let grown = rise.bytes_per_second * AGAIN.as_secs_f64();
        let is_its = user.process.id() == self.culprit && grown <= 2.0 * user.grown_lately as f64;
        let is_news = self.before as f64 + grown / NEWS_PART <= memory.anon as f64;
        (is_near && is_its_pace && is_its && is_news && !user.fills_its_own()).then_some((user, rise))
    }
}
