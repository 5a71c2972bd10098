//! A cgroup is on its way to its memory limit, and one process is the reason.
//!
//! Two tiers. Growth that lasts is a word in the log and a count. Near the limit, and soon there, it is a diagnosis:
//! its target is who grew, not who is biggest, and beside it stands whom the OOM killer would choose.

mod floor;
mod known;
mod words;

use core::time::Duration;
use std::collections::BTreeMap;

use super::{Context, Detector, DetectorEntry, Finding, Subject};
use crate::{
    engine::{
        class::Class,
        policy::{
            PolicySet,
            choose::{self, Owner},
        },
        time::BootTime,
    },
    identity::process::{Process, ProcessId},
    signal::{
        Fact, Signal,
        levels::share,
        memory::{CgroupMemory, LONG_MS, MemoryUser, RECENT_MS},
    },
};
use floor::{Floor, Rise};
use known::{Known, PACE_PART};

pub(super) const ENTRY: DetectorEntry = DetectorEntry {
    name: "memory_leak",
    classes: &[Class::MemoryLeak],
    build: || Box::new(MemoryLeak::default()),
};

/// Of the limit, taken for good.
const NEAR_PERCENT: u64 = 85;
/// From here on reclaim that gives nothing is enough.
const DOOMED_PERCENT: u64 = 95;
/// Of the time, waited for memory: then there is no room yet.
const PRESSED_PERCENT: f64 = 10.0;
/// The kernel asks for 32 pages a call.
const POOR_PAGES: u64 = 32;
/// Without a policy that wants to know it earlier.
const HORIZON: Duration = Duration::from_secs(20);
/// Looks in a row.
const STEADY: u32 = 4;
/// A program that has just begun is allowed to grow.
const WARM_UP: Duration = Duration::from_secs(10);
/// Of the limit, what the culprit must have grown by before a cgroup that is full is its fault.
const GROWN_PERCENT: u64 = 3;
/// Not seen, or not growing, for so long: it is over.
const OVER_AFTER: Duration = Duration::from_secs(4);
/// After a neighbour was killed there is room for a while.
const NEIGHBOUR_HOLDS: Duration = Duration::from_secs(15);
/// One word in the log about one cgroup.
const WATCH_EVERY: Duration = Duration::from_secs(60);
const WATCH_HORIZON: Duration = Duration::from_secs(600);
/// The poller tells of no more.
const CGROUPS_MAX: usize = 1024;

#[derive(Default)]
struct MemoryLeak {
    cgroups: BTreeMap<String, Growing>,
}

#[derive(Default)]
struct Growing {
    floor: Floor,
    known: Option<Known>,
    seen: BootTime,
    /// The biggest at the last look: if it goes, the fall is no collection of garbage.
    biggest: Option<ProcessId>,
    steady: u32,
    raised: Option<Raised>,
    /// Of whom was raised last, also once it is over: how full the cgroup is goes on being told.
    subject: Option<Subject>,
    watched: Option<BootTime>,
}

struct Raised {
    culprit: Process,
    held: BootTime,
    /// The culprit is gone. Whether that helped, the next look says.
    ended: Option<BootTime>,
}

impl Detector for MemoryLeak {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        match (&signal.fact, &signal.process) {
            (Fact::Memory(snapshot), _) => {
                for memory in &snapshot.cgroups {
                    self.looked(context, signal.at, memory, found);
                }
                self.forget(context.now, found);
            }
            (Fact::OomKilled(kill), Some(victim)) => {
                self.killed(context, signal.at, victim, &kill.memcg, found);
            }
            (Fact::Exited(_), Some(process)) => self.ended(signal.at, process.id()),
            _ => {}
        }
    }

    fn advance(&mut self, context: &Context<'_>, found: &mut Vec<Finding>) {
        self.forget(context.now, found);
    }

    fn deadline(&self) -> Option<BootTime> {
        self.cgroups.values().filter_map(Growing::over_at).min()
    }
}

impl MemoryLeak {
    fn looked(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        memory: &CgroupMemory,
        found: &mut Vec<Finding>,
    ) {
        if CGROUPS_MAX <= self.cgroups.len() && !self.cgroups.contains_key(&memory.cgroup) {
            return;
        }
        let growing = self.cgroups.entry(memory.cgroup.clone()).or_default();
        growing.follow(at, memory);
        growing.settle(at, memory, found);
        let rise = growing.floor.rise(at, memory.limit);
        let is_soon = |(user, why): &(&MemoryUser, Why), slower: u32| {
            why.time_to(memory.limit) < horizon(context.policies, &user.process).saturating_mul(slower)
        };
        let leaks = culprit(at, memory, rise.as_ref()).filter(|found| is_soon(found, 1));
        // As slow as it may be to be known again, it has so much longer.
        let goes_on = || growing.goes_on(at, memory).filter(|found| is_soon(found, PACE_PART));
        match leaks.or_else(goes_on) {
            Some((user, why)) => {
                growing.steady += 1;
                if STEADY <= growing.steady {
                    growing.raise(context, at, memory, user, &why, found);
                }
            }
            None => {
                growing.steady = 0;
                growing.watch(at, memory, found);
            }
        }
        growing.tell(Some(share(memory.anon, memory.limit)), found);
    }

    /// Somebody was killed for want of memory: perhaps for the growth of another.
    fn killed(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        victim: &Process,
        cgroup: &str,
        found: &mut Vec<Finding>,
    ) {
        let is_another = |it: &&MemoryUser| it.process.id() != victim.id();
        let is_grown_up = |it: &&MemoryUser| WARM_UP <= at.since(it.process.start) && !it.fills_its_own();
        let leaker = context.memory.leaker(at, cgroup).filter(is_another).filter(is_grown_up);
        let Some(leaker) = leaker else { return };
        let leaker = leaker.clone();
        if let Some(growing) = self.cgroups.get_mut(cgroup) {
            growing.floor = Floor::default();
            growing.clear_if(|raised| raised.culprit.id() != leaker.process.id(), "is not it", found);
            growing.hold(&leaker.process, at + NEIGHBOUR_HOLDS);
            found.push(words::neighbour(context, at, victim, cgroup, &leaker));
        }
    }

    fn ended(&mut self, at: BootTime, id: ProcessId) {
        let raised = self.cgroups.values_mut().filter_map(|growing| growing.raised.as_mut());
        for raised in raised.filter(|raised| raised.culprit.id() == id) {
            raised.ended.get_or_insert(at);
        }
    }

    fn forget(&mut self, now: BootTime, found: &mut Vec<Finding>) {
        for growing in self.cgroups.values_mut() {
            if growing.over_at().is_some_and(|at| at <= now) {
                growing.clear_if(
                    |raised| raised.ended.is_some(),
                    "has ended, and there is room again",
                    found,
                );
                growing.clear_if(|_| true, "no longer grows towards its limit", found);
            }
        }
        // What the poller no longer tells of has room again.
        self.cgroups.retain(|_, growing| {
            let unseen = now.since(growing.seen);
            if OVER_AFTER <= unseen && growing.raised.is_none() {
                growing.tell(None, found);
                growing.subject = None;
            }
            growing.raised.is_some() || unseen < 10 * OVER_AFTER
        });
    }
}

impl Growing {
    fn follow(&mut self, at: BootTime, memory: &CgroupMemory) {
        self.seen = at;
        let is_gone = |id: &ProcessId| memory.users.iter().all(|user| user.process.id() != *id);
        if !memory.users.is_empty() {
            if self.biggest.as_ref().is_some_and(is_gone) {
                self.floor = Floor::default();
            }
            self.biggest = memory.users.iter().max_by_key(|user| user.anon).map(|user| user.process.id());
        }
        self.floor.add(at, memory.anon, memory.limit);
        if self.known.as_mut().is_some_and(|known| !known.holds(at, memory)) {
            self.known = None;
        }
    }

    /// Who was seen to leak does so again.
    fn goes_on<'a>(&self, at: BootTime, memory: &'a CgroupMemory) -> Option<(&'a MemoryUser, Why)> {
        let (user, rise) = self.known.as_ref()?.goes_on(&self.floor, at, memory)?;
        Some((user, Why::Rises(rise)))
    }

    fn raise(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        memory: &CgroupMemory,
        user: &MemoryUser,
        why: &Why,
        found: &mut Vec<Finding>,
    ) {
        self.clear_if(|raised| raised.culprit.id() != user.process.id(), "is not it", found);
        let held = self.raised.as_ref().map_or(at, |raised| raised.held).max(at);
        self.hold(&user.process, held);
        if let Why::Rises(rise) = why {
            self.known = Some(Known::of(at, user.process.id(), rise, self.known.take()));
        }
        found.push(words::forecast(context, at, memory, user, why));
    }

    fn hold(&mut self, culprit: &Process, held: BootTime) {
        self.subject = Some(words::subject(culprit));
        self.raised = Some(Raised { culprit: culprit.clone(), held, ended: None });
    }

    /// Without its culprit, does the cgroup have room? A look that began before its end cannot tell.
    fn settle(&mut self, at: BootTime, memory: &CgroupMemory, found: &mut Vec<Finding>) {
        let waited = memory.pressed_ms.map_or(0.0, |pressed| share(pressed, memory.over_ms));
        let has_room = memory.anon < memory.limit * NEAR_PERCENT / 100 && waited < PRESSED_PERCENT;
        let began = at - Duration::from_millis(memory.over_ms);
        let is_over = |raised: &Raised| has_room && raised.ended.is_some_and(|ended| ended <= began);
        self.clear_if(is_over, &words::room(memory), found);
    }

    fn tell(&self, level: Option<f64>, found: &mut Vec<Finding>) {
        let subject = self.subject.clone();
        found.extend(subject.map(|subject| Finding::Level { subject, class: Class::MemoryLeak, level }));
    }

    /// Growth that lasts, told now and then: no diagnosis.
    fn watch(&mut self, at: BootTime, memory: &CgroupMemory, found: &mut Vec<Finding>) {
        let is_told = self.watched.is_some_and(|before| at.since(before) < WATCH_EVERY);
        let Some(rise) = self.floor.long_rise(memory.limit).filter(|_| !is_told) else {
            return;
        };
        let matters = memory.limit / 2 <= memory.anon && rise.time_to(memory.limit) < WATCH_HORIZON;
        if let Some(user) = memory.users.first().filter(|_| matters) {
            self.watched = Some(at);
            found.push(words::watched(memory, user, &rise));
        }
    }

    fn over_at(&self) -> Option<BootTime> {
        self.raised.as_ref().map(|raised| match raised.ended {
            Some(ended) => self.seen.max(ended) + OVER_AFTER,
            None => raised.held + OVER_AFTER,
        })
    }

    fn clear_if(&mut self, is_over: impl Fn(&Raised) -> bool, says: &str, found: &mut Vec<Finding>) {
        if let Some(raised) = self.raised.take_if(|raised| is_over(raised)) {
            found.push(words::cleared(&raised.culprit, says));
        }
    }
}

/// Why the limit will be met.
enum Why {
    Rises(Rise),
    /// It is there: reclaim finds nothing.
    Doomed,
}

impl Why {
    fn time_to(&self, limit: u64) -> Duration {
        match self {
            Self::Rises(rise) => rise.time_to(limit),
            Self::Doomed => Duration::ZERO,
        }
    }
}

/// Who of the cgroup is to blame, if anybody is.
fn culprit<'a>(at: BootTime, memory: &'a CgroupMemory, rise: Option<&Rise>) -> Option<(&'a MemoryUser, Why)> {
    let is_doomed = memory.limit * DOOMED_PERCENT / 100 <= memory.anon && finds_nothing(memory);
    let level = rise.map_or(memory.anon, |rise| rise.level.max(memory.anon));
    let is_near = memory.limit * NEAR_PERCENT / 100 <= level;
    let user = grower(memory, rise)?;
    if at.since(user.process.start) < WARM_UP || user.process.pid == 0 {
        return None;
    }
    if is_doomed && memory.limit * GROWN_PERCENT / 100 <= user.grown_lately {
        return Some((user, Why::Doomed));
    }
    let rise = rise.filter(|rise| is_near && !user.fills_its_own() && explains(user, rise))?;
    Some((user, Why::Rises(*rise)))
}

/// What rises may be nobody's own memory (files of a tmpfs): then whoever else grew a little has not done it.
fn explains(user: &MemoryUser, rise: &Rise) -> bool {
    let (grown, over) = match rise.in_cycles {
        true => (user.grown_from_low, LONG_MS),
        false => (user.grown_lately, RECENT_MS),
    };
    let seconds = user.watched_ms.clamp(1, over) as f64 / 1e3;
    rise.bytes_per_second <= 2.0 * grown as f64 / seconds
}

/// Of late: who filled his cache in the morning does not leak now.
fn grower<'a>(memory: &'a CgroupMemory, rise: Option<&Rise>) -> Option<&'a MemoryUser> {
    let in_cycles = rise.is_some_and(|rise| rise.in_cycles);
    let grown: fn(&MemoryUser) -> u64 =
        if in_cycles { |user| user.grown_from_low } else { |user| user.grown_lately };
    memory.most_grown(grown)
}

fn finds_nothing(memory: &CgroupMemory) -> bool {
    memory.reclaim.is_some_and(|reclaim| 0 < reclaim.calls && reclaim.pages < POOR_PAGES * reclaim.calls)
}

/// How far ahead the owner's policy wants to know: what can be undone may come earlier.
fn horizon(policies: &PolicySet, process: &Process) -> Duration {
    let Owner::One(policy) = choose::owner(policies, process) else {
        return HORIZON;
    };
    let conditions = policy.rules.iter().flat_map(|rule| &rule.when);
    let of_leaks = conditions.filter(|condition| condition.class == Class::MemoryLeak);
    of_leaks.filter_map(|condition| condition.time_to_limit_under).max().unwrap_or(HORIZON).max(HORIZON)
}

#[cfg(test)]
mod tests;
