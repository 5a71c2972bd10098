//! One look: is it bad, and whose growth has taken the room?

use core::time::Duration;

use crate::{
    engine::{certificate::mebibytes, time::Human},
    signal::{
        levels::share,
        memory::{CgroupMemory, Grown, MemoryUser, NodeMemory, Reclaim, most_grown},
    },
    text,
};

/// Of the limit.
const FULL_PERCENT: u64 = 95;
/// Of the limit, taken for good: then poor reclaim has no way out.
const TAKEN_PERCENT: u64 = 80;
const POOR_PAGES: u64 = 32;
const CALLS: u64 = 4;
/// Of the time, waited for memory beyond reclaim.
const PRESSED_PERCENT: u64 = 10;
/// A second: of a program whose own pages are dropped.
const FAULTS_PER_SECOND: u64 = 100;
/// Of the major faults, how many must be of pages dropped shortly before.
const REFAULT_PART: u64 = 5;
/// Of the limit, or of the node's memory: what somebody must have grown by to be the reason.
const GROWN_PART: u64 = 16;
/// Of the node's memory.
const NODE_SHORT_PERCENT: u64 = 10;

/// Why this look is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    FindsNothing,
    Thrashes,
    Waits,
}

/// One look, of a cgroup or of the node.
pub(super) struct Look<'a> {
    pub(super) over: Duration,
    pub(super) sign: Option<Sign>,
    /// In percent: of the limit, taken for good; of the time, waited for memory.
    pub(super) taken: f64,
    pub(super) waited: Option<f64>,
    pub(super) users: &'a [MemoryUser],
    /// Whose growth has taken the room, if anybody's has.
    pub(super) culprit: Option<&'a MemoryUser>,
    /// `None`: it is of the node.
    pub(super) cgroup: Option<&'a str>,
    /// `of /a` or `of the node`.
    pub(super) whose: String,
    pub(super) numbers: String,
}

impl<'a> Look<'a> {
    pub(super) fn of_cgroup(memory: &'a CgroupMemory) -> Self {
        Self {
            over: Duration::from_millis(memory.over_ms),
            sign: sign(memory),
            taken: share(memory.anon, memory.limit),
            waited: memory.pressed_ms.map(|pressed| share(pressed, memory.over_ms)),
            users: &memory.users,
            culprit: to_blame(memory.most_grown(MemoryUser::grown_of_late), memory.limit, memory.grown),
            cgroup: Some(&memory.cgroup),
            whose: text::printable(&memory.cgroup).into_owned(),
            numbers: format!(
                "{} of {} in use, {} taken for good; in {}: {} major faults, {} file pages read again, {}{}",
                mebibytes(memory.usage),
                mebibytes(memory.limit),
                mebibytes(memory.anon),
                Human(Duration::from_millis(memory.over_ms)),
                memory.major_faults,
                memory.refaults,
                reclaimed(memory.reclaim),
                waited(memory.pressed_ms),
            ),
        }
    }

    pub(super) fn of_node(node: &'a NodeMemory) -> Self {
        let is_short = node.available < node.total * NODE_SHORT_PERCENT / 100;
        let waits = is_beyond(node.pressed_ms, Some(Reclaim::default()), node.over_ms);
        let poor = node.reclaim.is_some_and(is_poor);
        let sign = if waits { Some(Sign::Waits) } else { poor.then_some(Sign::FindsNothing) };
        Self {
            over: Duration::from_millis(node.over_ms),
            sign: sign.filter(|_| is_short),
            taken: share(node.total - node.available.min(node.total), node.total),
            waited: node.pressed_ms.map(|pressed| share(pressed, node.over_ms)),
            users: &node.users,
            culprit: to_blame(most_grown(&node.users, MemoryUser::grown_of_late), node.total, node.grown),
            cgroup: None,
            whose: "the node".to_owned(),
            numbers: format!(
                "{} of {} available; in {}: {}{}",
                mebibytes(node.available),
                mebibytes(node.total),
                Human(Duration::from_millis(node.over_ms)),
                reclaimed(node.reclaim),
                waited(node.pressed_ms),
            ),
        }
    }
}

impl Look<'_> {
    /// How bad it is of that kind.
    pub(super) fn level(&self, sign: Sign) -> f64 {
        match (sign, self.waited) {
            (Sign::Thrashes | Sign::Waits, Some(waited)) => waited,
            (Sign::FindsNothing | Sign::Thrashes | Sign::Waits, _) => self.taken,
        }
    }
}

fn sign(memory: &CgroupMemory) -> Option<Sign> {
    if memory.usage < memory.limit * FULL_PERCENT / 100 {
        return None;
    }
    let is_taken = memory.limit * TAKEN_PERCENT / 100 <= memory.anon;
    if is_taken && memory.reclaim.is_some_and(is_poor) {
        return Some(Sign::FindsNothing);
    }
    let enough = FAULTS_PER_SECOND * memory.over_ms / 1000;
    if 0 < enough && enough <= memory.major_faults && memory.major_faults <= REFAULT_PART * memory.refaults {
        return Some(Sign::Thrashes);
    }
    is_beyond(memory.pressed_ms, memory.reclaim, memory.over_ms).then_some(Sign::Waits)
}

fn is_poor(reclaim: Reclaim) -> bool {
    CALLS <= reclaim.calls && reclaim.pages < POOR_PAGES * reclaim.calls
}

/// Without the count of reclaim nobody can tell whether it is more than page cache.
fn is_beyond(pressed_ms: Option<u64>, reclaim: Option<Reclaim>, over_ms: u64) -> bool {
    let beyond = pressed_ms.zip(reclaim).map(|(pressed, reclaim)| pressed.saturating_sub(reclaim.took_ms));
    beyond.is_some_and(|beyond| 0 < over_ms && over_ms * PRESSED_PERCENT / 100 < beyond)
}

/// Whose growth explains what was taken, by all processes and by nobody's own (files in memory, the kernel). A heap
/// that fills what it had reserved becomes as big as it was meant to be, and so does whoever has just begun: that is
/// nobody's fault.
fn to_blame(most: Option<&MemoryUser>, of: u64, grown: Option<Grown>) -> Option<&MemoryUser> {
    let least = of / GROWN_PART;
    let is_much = |user: &&MemoryUser| {
        let of_age = user.of_age.filter(|taken| !taken.fills_its_own());
        of_age.is_some_and(|taken| least <= taken.anon.min(user.grown_of_late()))
    };
    let explains = |user: &&MemoryUser| grown.is_some_and(|grown| user.explains(&grown));
    most.filter(is_much).filter(explains).filter(|user| user.process.pid != 0 && !user.fills_its_own())
}

fn reclaimed(reclaim: Option<Reclaim>) -> String {
    let Some(Reclaim { calls, poor, pages, took_ms }) = reclaim else {
        return "reclaim is not counted".to_owned();
    };
    format!("{calls} reclaims of {} pages each, {poor} in vain, {took_ms} ms", pages / calls.max(1))
}

fn waited(pressed_ms: Option<u64>) -> String {
    pressed_ms.map_or(String::new(), |pressed| format!(", {pressed} ms waited for memory"))
}
