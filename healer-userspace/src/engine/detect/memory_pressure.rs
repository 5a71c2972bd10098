//! Programs of a cgroup (or the node) wait for memory instead of working.
//!
//! A limit that is hit says nothing: page cache hits it thousands of times a second, and even pressure is then only
//! the reclaim of files that are read once. What says something: reclaim that finds nothing where memory is taken for
//! good; pages of running programs that are dropped and read again; and waiting beyond what reclaim itself takes.

mod blame;
mod look;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::{Context, Detector, DetectorEntry, Finding, Subject};
use crate::{
    engine::{certificate::called, class::Class, time::BootTime},
    identity::process::{Process, ProcessId},
    signal::{Fact, Signal},
};
use blame::{raise, target};
use look::{Look, Sign};

pub(super) const ENTRY: DetectorEntry = DetectorEntry {
    name: "memory_pressure",
    classes: &[Class::MemoryPressure],
    build: || Box::new(MemoryPressure::default()),
};

/// Bad for two of the last three seconds.
const WINDOW: Duration = Duration::from_secs(3);
const BAD: Duration = Duration::from_millis(1900);
const OVER_AFTER: Duration = Duration::from_secs(5);
/// Somebody else is to blame for so long: by then the target may have given back what it took.
const ANOTHER_FOR: Duration = Duration::from_secs(3);
const CGROUPS_MAX: usize = 1024;
const IN_VAIN_MAX: usize = 32;
const NODE: &str = "node";

#[derive(Default)]
struct MemoryPressure {
    watched: BTreeMap<String, Pressed>,
}

#[derive(Default)]
struct Pressed {
    looks: VecDeque<(BootTime, Duration, Option<Sign>)>,
    seen_bad: BootTime,
    raised: Option<Raised>,
    /// Who was ended for it, or grew no more, and memory is short all the same.
    in_vain: Vec<Raised>,
}

struct Raised {
    target: Process,
    sign: Sign,
    level: f64,
    /// By healer. Whether that helped, later looks say.
    ended: Option<BootTime>,
    /// Who is to blame by now, and since when.
    another: Option<(ProcessId, BootTime)>,
}

impl Raised {
    /// Whether it has been somebody else for long enough.
    fn is_anothers(&mut self, at: BootTime, culprit: Option<ProcessId>) -> bool {
        let another = culprit.filter(|culprit| *culprit != self.target.id());
        let since = |id| self.another.filter(|(before, _)| *before == id).map_or(at, |(_, since)| since);
        self.another = another.map(|id| (id, since(id)));
        self.another.is_some_and(|(_, since)| ANOTHER_FOR <= at.since(since))
    }
}

impl Pressed {
    fn targets(&self) -> impl Iterator<Item = &Process> {
        self.raised.iter().chain(&self.in_vain).map(|raised| &raised.target)
    }

    fn level_of(&self, id: ProcessId) -> Option<f64> {
        let mut all = self.raised.iter().chain(&self.in_vain);
        all.find(|raised| raised.target.id() == id).map(|raised| raised.level)
    }

    fn measure(&mut self, look: &Look<'_>) {
        for raised in self.raised.iter_mut().chain(&mut self.in_vain) {
            raised.level = look.level(raised.sign);
        }
    }

    /// True if it was a target. The others are so still.
    fn is_rid_of(&mut self, id: ProcessId) -> bool {
        let before = self.in_vain.len();
        self.in_vain.retain(|raised| raised.target.id() != id);
        if self.raised.take_if(|raised| raised.target.id() == id).is_some() {
            self.looks.clear();
            return true;
        }
        self.in_vain.len() < before
    }

    fn looked(&mut self, at: BootTime, look: &Look<'_>) {
        let began = at - look.over;
        if look.sign.is_some()
            && let Some(raised) =
                self.raised.take_if(|raised| raised.ended.is_some_and(|ended| ended <= began))
        {
            self.in_vain.push(raised);
            self.looks.clear();
        }
        self.reconsider(at, look);
        if look.sign.is_some() {
            self.seen_bad = at;
        }
        self.looks.push_back((at, look.over, look.sign));
        while self.looks.front().is_some_and(|(when, ..)| WINDOW < at.since(*when)) {
            self.looks.pop_front();
        }
    }

    /// Nobody twice: two that grow in turn would be named for ever.
    fn reconsider(&mut self, at: BootTime, look: &Look<'_>) {
        let culprit = look.culprit.filter(|_| look.sign.is_some()).map(|user| user.process.id());
        let is_news = |id: &ProcessId| self.in_vain.iter().all(|one| one.target.id() != *id);
        let culprit = culprit.filter(is_news).filter(|_| self.in_vain.len() < IN_VAIN_MAX);
        let given_up = self.raised.take_if(|raised| raised.is_anothers(at, culprit));
        self.in_vain.extend(given_up);
    }

    fn bad(&self) -> Duration {
        self.looks.iter().filter(|(.., sign)| sign.is_some()).map(|(_, over, _)| *over).sum()
    }
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
            (Fact::Exited(_), Some(process)) => self.ended(context, signal.at, process, found),
            _ => {}
        }
    }

    fn advance(&mut self, context: &Context<'_>, found: &mut Vec<Finding>) {
        self.forget(context.now, found);
    }

    fn deadline(&self) -> Option<BootTime> {
        let told = self.watched.values().filter(|pressed| pressed.targets().next().is_some());
        told.map(|pressed| pressed.seen_bad + OVER_AFTER).min()
    }
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
        pressed.looked(at, look);
        pressed.measure(look);
        self.levels(name, found);
        let Some(pressed) = self.watched.get_mut(name) else { return };
        let bad = pressed.bad();
        if let (Some(sign), None) = (look.sign, &pressed.raised)
            && BAD <= bad
            && let Some(target) = target(look, sign)
        {
            // It may be whom healer gave up on before, and its incident over.
            pressed.in_vain.retain(|raised| raised.target.id() != target.id());
            let level = look.level(sign);
            pressed.raised = Some(Raised { target: target.clone(), sign, level, ended: None, another: None });
            found.push(raise(context, at, bad, target, sign, look));
        }
    }

    /// Where it is worst, of each target of this place.
    fn levels(&self, name: &str, found: &mut Vec<Finding>) {
        for target in self.watched.get(name).into_iter().flat_map(Pressed::targets) {
            let levels = self.watched.values().filter_map(|pressed| pressed.level_of(target.id()));
            let level = levels.reduce(f64::max);
            found.push(Finding::Level { subject: subject(target), class: Class::MemoryPressure, level });
        }
    }

    /// Whoever ends by itself has it no more. Whom healer has ended may have been the wrong one.
    fn ended(&mut self, context: &Context<'_>, at: BootTime, process: &Process, found: &mut Vec<Finding>) {
        if context.certificate.is_some_and(|certificate| certificate.own.is_some()) {
            let raised = self.watched.values_mut().filter_map(|pressed| pressed.raised.as_mut());
            for raised in raised.filter(|raised| raised.target.id() == process.id()) {
                raised.ended.get_or_insert(at);
            }
            return;
        }
        let places = self.watched.values_mut().map(|pressed| pressed.is_rid_of(process.id()));
        if places.fold(false, |any, is_one| any | is_one) {
            found.push(cleared(process, "has ended"));
        }
    }

    /// What is short in one place only is over once it is over there; a process may be the target of several.
    fn forget(&mut self, now: BootTime, found: &mut Vec<Finding>) {
        let mut over = Vec::new();
        self.watched.retain(|_, pressed| {
            let is_over = OVER_AFTER <= now.since(pressed.seen_bad);
            if is_over {
                over.extend(pressed.targets().cloned());
            }
            !is_over
        });
        over.sort_by_key(Process::id);
        over.dedup_by_key(|target| target.id());
        for target in over {
            let is_it = |other: &Process| other.id() == target.id();
            if !self.watched.values().any(|pressed| pressed.targets().any(is_it)) {
                found.push(cleared(&target, "has memory again"));
            }
        }
    }
}

fn cleared(target: &Process, what: &str) -> Finding {
    let says = format!("{} {what}", called(target));
    Finding::Cleared { subject: subject(target), class: Class::MemoryPressure, says }
}

fn subject(target: &Process) -> Subject {
    Subject::Process(target.id(), Class::MemoryPressure)
}

#[cfg(test)]
mod tests;
