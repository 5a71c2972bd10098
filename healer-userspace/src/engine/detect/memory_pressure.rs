//! Programs of a cgroup (or the node) wait for memory instead of working.
//!
//! A limit that is hit says nothing: page cache hits it thousands of times a second, and even pressure is then only
//! the reclaim of files that are read once. What says something: reclaim that finds nothing where memory is taken for
//! good; pages of running programs that are dropped and read again; and waiting beyond what reclaim itself takes.

mod blame;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::{Context, Detector, DetectorEntry, Finding, Subject};
use crate::{
    engine::{
        certificate::{called, mebibytes},
        class::{Certainty, Class},
        diagnosis::{Detail, Diagnosis},
        time::{BootTime, Human},
    },
    identity::process::{Process, WorkloadKey},
    signal::{
        Fact, Signal,
        levels::share,
        memory::{CgroupMemory, MemoryUser, NodeMemory, Reclaim, most_grown},
    },
    text,
};
use blame::{blame, evidence, related};

pub(super) const ENTRY: DetectorEntry = DetectorEntry {
    name: "memory_pressure",
    classes: &[Class::MemoryPressure],
    build: || Box::new(MemoryPressure::default()),
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
/// Bad for two of the last three seconds.
const WINDOW: Duration = Duration::from_secs(3);
const BAD: Duration = Duration::from_millis(1900);
const OVER_AFTER: Duration = Duration::from_secs(5);
/// Of the limit, or of the node's memory: what somebody must have grown by to be the reason.
const GROWN_PART: u64 = 16;
/// Of the node's memory.
const NODE_SHORT_PERCENT: u64 = 10;
const CGROUPS_MAX: usize = 1024;
const NODE: &str = "node";

#[derive(Default)]
struct MemoryPressure {
    watched: BTreeMap<String, Pressed>,
}

#[derive(Default)]
struct Pressed {
    looks: VecDeque<(BootTime, Duration, Option<Sign>)>,
    seen_bad: BootTime,
    raised: Option<(Process, Sign)>,
}

/// Why this look is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    FindsNothing,
    Thrashes,
    Waits,
}

impl Detector for MemoryPressure {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        match (&signal.fact, &signal.process) {
            (Fact::Memory(snapshot), _) => {
                for memory in &snapshot.cgroups {
                    let look = Look::of_cgroup(memory);
                    self.looked(context, signal.at, &memory.cgroup, &look, found);
                }
                if let Some(node) = &snapshot.node {
                    self.looked(context, signal.at, NODE, &Look::of_node(node), found);
                }
                self.forget(context.now, found);
            }
            (Fact::Exited(_), Some(process)) => {
                let is_it = |pressed: &Pressed| {
                    pressed.raised.as_ref().is_some_and(|(raised, _)| raised.id() == process.id())
                };
                self.clear(is_it, "has ended", found);
            }
            _ => {}
        }
    }

    fn advance(&mut self, context: &Context<'_>, found: &mut Vec<Finding>) {
        self.forget(context.now, found);
    }

    fn deadline(&self) -> Option<BootTime> {
        let raised = self.watched.values().filter(|pressed| pressed.raised.is_some());
        raised.map(|pressed| pressed.seen_bad + OVER_AFTER).min()
    }
}

/// One look, of a cgroup or of the node.
struct Look<'a> {
    over: Duration,
    sign: Option<Sign>,
    /// In percent: of the limit, taken for good; of the time, waited for memory.
    taken: f64,
    waited: Option<f64>,
    users: &'a [MemoryUser],
    /// Whose growth has taken the room, if anybody's has.
    culprit: Option<&'a MemoryUser>,
    is_node: bool,
    /// `of /a` or `of the node`.
    whose: String,
    numbers: String,
}

impl<'a> Look<'a> {
    fn of_cgroup(memory: &'a CgroupMemory) -> Self {
        Self {
            over: Duration::from_millis(memory.over_ms),
            sign: sign(memory),
            taken: share(memory.anon, memory.limit),
            waited: memory.pressed_ms.map(|pressed| share(pressed, memory.over_ms)),
            users: &memory.users,
            culprit: to_blame(memory.most_grown(MemoryUser::grown_of_late), memory.limit),
            is_node: false,
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

    fn of_node(node: &'a NodeMemory) -> Self {
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
            culprit: to_blame(most_grown(&node.users, MemoryUser::grown_of_late), node.total),
            is_node: true,
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
    fn level(&self, sign: Sign) -> f64 {
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

impl MemoryPressure {
    fn looked(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        name: &str,
        look: &Look<'_>,
        found: &mut Vec<Finding>,
    ) {
        let has_room = self.watched.len() < CGROUPS_MAX || self.watched.contains_key(name);
        if !has_room || (look.sign.is_none() && !self.watched.contains_key(name)) {
            return;
        }
        let pressed = self.watched.entry(name.to_owned()).or_default();
        if look.sign.is_some() {
            pressed.seen_bad = at;
        }
        pressed.looks.push_back((at, look.over, look.sign));
        while pressed.looks.front().is_some_and(|(when, ..)| WINDOW < at.since(*when)) {
            pressed.looks.pop_front();
        }
        let bad: Duration =
            pressed.looks.iter().filter(|(.., sign)| sign.is_some()).map(|(_, over, _)| *over).sum();
        if let (Some(sign), None) = (look.sign, &pressed.raised)
            && BAD <= bad
            && let Some(target) = target(look, sign)
        {
            pressed.raised = Some((target.clone(), sign));
            found.push(raise(context, at, bad, target, sign, look));
        } else if let Some((raised, sign)) = &pressed.raised {
            let (subject, level) = (subject(raised), Some(look.level(*sign)));
            found.push(Finding::Level { subject, class: Class::MemoryPressure, level });
        }
    }

    fn forget(&mut self, now: BootTime, found: &mut Vec<Finding>) {
        let is_over = |pressed: &Pressed| OVER_AFTER <= now.since(pressed.seen_bad);
        self.clear(is_over, "has memory again", found);
    }

    fn clear(&mut self, is_over: impl Fn(&Pressed) -> bool, what: &str, found: &mut Vec<Finding>) {
        self.watched.retain(|_, pressed| {
            let is_over = is_over(pressed);
            if let Some((raised, _)) = pressed.raised.as_ref().filter(|_| is_over) {
                found.push(Finding::Cleared {
                    subject: subject(raised),
                    class: Class::MemoryPressure,
                    says: format!("{} {what}", called(raised)),
                });
            }
            !is_over
        });
    }
}

/// A heap that fills what it had reserved becomes as big as it was meant to be: that is nobody's fault.
fn to_blame(most: Option<&MemoryUser>, of: u64) -> Option<&MemoryUser> {
    let is_much = |user: &&MemoryUser| of / GROWN_PART <= user.grown_of_late();
    most.filter(is_much).filter(|user| user.process.pid != 0 && !user.fills_its_own())
}

/// Whose growth has taken the room; where nobody's has, who suffers most by what shows it. The node is nobody: where
/// it has no culprit, it is only told.
fn target(look: &Look<'_>, sign: Sign) -> Option<Process> {
    if let Some(culprit) = look.culprit {
        return Some(culprit.process.clone());
    }
    if look.is_node {
        let workload = WorkloadKey(NODE.to_owned());
        return Some(Process { comm: NODE.to_owned(), workload, ..Process::default() });
    }
    let by = |user: &&MemoryUser| match sign {
        Sign::Thrashes | Sign::Waits => (user.major_faults, user.anon),
        Sign::FindsNothing => (user.grown_lately, user.anon),
    };
    look.users.iter().max_by_key(by).map(|user| user.process.clone())
}

fn subject(target: &Process) -> Subject {
    Subject::Process(target.id(), Class::MemoryPressure)
}

fn raise(
    context: &Context<'_>,
    at: BootTime,
    bad: Duration,
    target: Process,
    sign: Sign,
    look: &Look<'_>,
) -> Finding {
    let (kind, what) = match sign {
        Sign::FindsNothing => ("exhausted", "reclaim finds nothing any more"),
        Sign::Thrashes => ("thrashing", "pages of running programs are dropped and read again"),
        Sign::Waits => ("waiting", "programs wait for memory"),
    };
    let kind = if look.is_node { NODE } else { kind };
    let biggest: Vec<_> = look.users.iter().take(3).collect();
    let users: Vec<_> =
        biggest.iter().map(|user| format!("{} {}", called(&user.process), mebibytes(user.anon))).collect();
    let users = if users.is_empty() { String::new() } else { format!("; it has {}", users.join(", ")) };
    let sentence = format!(
        "memory of {} is short for {}: {what}: {}{users}{}",
        look.whose,
        Human(bad),
        look.numbers,
        blame(look)
    );
    Finding::Raised {
        subject: subject(&target),
        diagnosis: Box::new(Diagnosis {
            class: Class::MemoryPressure,
            certainty: Certainty::Probable,
            related: related(&target, look),
            target,
            fault_at: at - bad,
            detected_at: context.now,
            evidence: evidence(context, at, &sentence, look),
            sentence,
            lost: 0,
            from_absence: false,
            detail: Detail {
                evidence_count: 1,
                kind: Some(kind.to_owned()),
                level: Some(look.level(sign)),
                ..Detail::default()
            },
        }),
    }
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

#[cfg(test)]
mod tests;
