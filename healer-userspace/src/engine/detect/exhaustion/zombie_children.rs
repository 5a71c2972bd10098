//! A process makes children and does not wait for them: each keeps its pid until it does.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::{
    engine::{
        certificate::called,
        class::{Certainty, Class},
        detect::{Context, Detector, DetectorEntry, Finding, Subject},
        diagnosis::{Detail, Diagnosis, Evidence},
        time::{BootTime, Human},
    },
    identity::process::ProcessId,
    signal::{Fact, Signal, levels::Zombies},
};

pub(in crate::engine::detect) const ENTRY: DetectorEntry = DetectorEntry {
    name: "zombie_children",
    classes: &[Class::ZombieChildren],
    build: || Box::new(ZombieChildren::default()),
};

/// Fewer may be waited for soon.
const MANY: u64 = 10;
/// So long they only become more: whoever waits for a batch at its end lets them be for a while, but then they do
/// not grow.
const LASTS: Duration = Duration::from_secs(20);
/// The same of a parent that has been seen to wait.
const LASTS_THOUGH_IT_WAITS: Duration = Duration::from_secs(180);
const LOOKS: u32 = 3;

#[derive(Default)]
struct ZombieChildren {
    parents: BTreeMap<ProcessId, Parent>,
}

struct Parent {
    since: BootTime,
    first: u64,
    /// Half way: they must have grown after it, too.
    middle: u64,
    last: u64,
    eldest: Option<ProcessId>,
    looks: u32,
    is_raised: bool,
    /// Some of its children have been waited for.
    waits: bool,
    called: String,
}

impl Detector for ZombieChildren {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        match (&signal.fact, &signal.process) {
            (Fact::Levels(snapshot), _) => {
                if let Some(zombies) = &snapshot.zombies {
                    self.counted(context, signal.at, zombies, found);
                }
            }
            (Fact::Exited(_), Some(process)) => {
                self.clear(|id, _| *id == process.id(), "has ended", found);
            }
            _ => {}
        }
    }
}

impl ZombieChildren {
    fn counted(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        zombies: &[Zombies],
        found: &mut Vec<Finding>,
    ) {
        let left =
            |id: &ProcessId| zombies.iter().find(|one| one.process.id() == *id).map_or(0, |one| one.count);
        self.clear(|id, parent| left(id) < parent.last / 2, "has waited for its children", found);
        for one in zombies.iter().filter(|one| one.process.pid != 0) {
            let parent = self.parents.entry(one.process.id()).or_insert_with(|| Parent::new(at, one));
            if parent.has_waited_for_some(one) {
                // It begins anew.
                let is_raised = parent.is_raised;
                *parent = Parent { is_raised, waits: true, ..Parent::new(at, one) };
            }
            parent.note(at, one);
            if !parent.is_raised && parent.is_sick(at) {
                parent.is_raised = true;
                found.push(raise(context, at, parent, one));
            }
        }
    }

    fn clear(&mut self, is_over: impl Fn(&ProcessId, &Parent) -> bool, what: &str, found: &mut Vec<Finding>) {
        self.parents.retain(|id, parent| {
            let is_over = is_over(id, parent);
            if is_over && parent.is_raised {
                found.push(Finding::Cleared {
                    subject: Subject::Process(*id, Class::ZombieChildren),
                    class: Class::ZombieChildren,
                    says: format!("{} {what}", parent.called),
                });
            }
            !is_over
        });
    }
}

impl Parent {
    fn new(at: BootTime, zombies: &Zombies) -> Self {
        Self {
            since: at,
            first: zombies.count,
            middle: zombies.count,
            last: zombies.count,
            eldest: zombies.eldest,
            looks: 0,
            is_raised: false,
            waits: false,
            called: called(&zombies.process),
        }
    }

    /// As many as before may all be others, whoever waits for a batch at its end: then the eldest is a younger one.
    fn has_waited_for_some(&self, now: &Zombies) -> bool {
        let born = |eldest: Option<ProcessId>| eldest.map(|id| (id.start, id.pid));
        let is_younger = born(self.eldest).zip(born(now.eldest)).is_some_and(|(before, now)| before < now);
        now.count < self.last || is_younger
    }

    fn note(&mut self, at: BootTime, zombies: &Zombies) {
        if at.since(self.since) <= self.lasts() / 2 {
            self.middle = zombies.count;
        }
        (self.last, self.eldest) = (zombies.count, zombies.eldest);
        self.looks += 1;
    }

    fn lasts(&self) -> Duration {
        if self.waits { LASTS_THOUGH_IT_WAITS } else { LASTS }
    }

    fn is_sick(&self, at: BootTime) -> bool {
        MANY <= self.last
            && self.lasts() <= at.since(self.since)
            && LOOKS <= self.looks
            && self.first < self.last
            && self.middle < self.last
    }
}

fn raise(context: &Context<'_>, at: BootTime, parent: &Parent, zombies: &Zombies) -> Finding {
    let grown = parent.last - parent.first;
    let says = format!(
        "{} dead children are not waited for, {grown} more in {}",
        zombies.count,
        Human(at.since(parent.since))
    );
    Finding::Raised {
        subject: Subject::Process(zombies.process.id(), Class::ZombieChildren),
        diagnosis: Box::new(Diagnosis {
            class: Class::ZombieChildren,
            certainty: Certainty::Probable,
            target: zombies.process.clone(),
            related: Vec::new(),
            fault_at: parent.since,
            detected_at: context.now,
            sentence: format!("{}: {says}", parent.called),
            evidence: vec![Evidence { signal: "levels".to_owned(), at, says }],
            lost: 0,
            from_absence: false,
            detail: Detail { evidence_count: 1, ..Detail::default() },
        }),
    }
}
