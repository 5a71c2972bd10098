//! One workload ends abnormally again and again.
//!
//! Tracked workloads: three ends in five minutes (a life under ten seconds counts double), or as a rule's
//! `exits` says. Other programs need a parent that starts the *same* command again, and three ends by a fault or five
//! by a status: build tools, test runners and shells, whose different children fail now and then, are no loop.

use core::time::Duration;
use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    sync::Arc,
};

use super::{Context, Detector, DetectorEntry, Finding, Subject};
use crate::{
    engine::{
        certificate::{Cause, Certificate},
        class::{Certainty, Class},
        diagnosis::{Detail, Diagnosis, End},
        policy::{Exits, choose},
        time::{BootTime, Human},
    },
    identity::process::{Process, ProcessId, WorkloadKey},
    signal::{Fact, Signal},
    text,
};

pub(super) const ENTRY: DetectorEntry = DetectorEntry {
    name: "crash_loop",
    classes: &[Class::CrashLoop],
    build: || Box::new(CrashLoop::default()),
};

pub const DEFAULT: Exits = Exits { min: 3, within: Duration::from_secs(300), codes_not_in: Vec::new() };
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// Shells poll with short-lived commands (`until pg_isready; do sleep 1; done`); services live longer.
const SERVICE_LIFE: Duration = Duration::from_millis(100);
/// A status alone says little of a program that nobody named: `for i in 1 2 3; do make test && break; done`.
const STATUS_ENDS: u32 = 5;
const REMEMBER: Duration = Duration::from_secs(3600);
const MAX_ENDS: usize = 64;
const MAX_LOOPS: usize = 2048;

#[derive(Default)]
struct CrashLoop {
    loops: BTreeMap<Arc<LoopKey>, Ends>,
    order: VecDeque<(BootTime, Arc<LoopKey>)>,
}

/// Untracked programs also need the same parent process and the same arguments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LoopKey {
    workload: WorkloadKey,
    same: Option<(ProcessId, Vec<String>)>,
}

#[derive(Default)]
struct Ends {
    ends: VecDeque<End>,
    last_start: BootTime,
    said_at: Option<BootTime>,
}

impl Detector for CrashLoop {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        let (Fact::Exited(_), Some(process), Some(certificate)) =
            (&signal.fact, &signal.process, context.certificate)
        else {
            return;
        };
        let asked = context.world.get(&process.workload).is_some_and(|workload| workload.stop_asked);
        if !certificate.exit.is_abnormal() || certificate.own.is_some() || asked {
            return;
        }
        let tracked = choose::tracked(context.policies, process);
        let Some(key) = loop_key(process, tracked) else {
            return;
        };
        self.forget_old(context.now);
        let ends = match self.loops.entry(Arc::new(key)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                self.order.push_back((context.now, Arc::clone(free.key())));
                free.insert(Ends::default())
            }
        };
        if !ends.add(process, certificate, signal.at, tracked) {
            return;
        }
        if let Some(certainty) = ends.verdict(context, process, tracked) {
            ends.said_at = Some(context.now);
            found.push(raise(context, signal.at, process, certificate, ends, certainty));
        }
    }
}

fn loop_key(process: &Process, tracked: bool) -> Option<LoopKey> {
    let workload = process.workload.clone();
    if tracked {
        return Some(LoopKey { workload, same: None });
    }
    let parent = process.parent.as_ref()?;
    let parent = ProcessId { pid: parent.pid, start: parent.start };
    Some(LoopKey { workload, same: Some((parent, process.args.clone())) })
}

impl Ends {
    /// False if this end cannot belong to a loop: an instance that ran beside the last one.
    fn add(&mut self, process: &Process, certificate: &Certificate, at: BootTime, tracked: bool) -> bool {
        let beside = self.ends.back().is_some_and(|last| process.start < last.at);
        if !tracked && beside {
            self.ends.clear();
        }
        self.last_start = process.start;
        self.ends.push_back(End {
            at,
            code: certificate.exit.signal.map_or(certificate.exit.code, |signal| 128 + signal),
            weight: if certificate.uptime < SHORT_LIFE { 2 } else { 1 },
            fault: matches!(certificate.cause, Cause::Crashed { .. }),
            service: certificate.uptime >= SERVICE_LIFE,
        });
        while self.ends.len() > MAX_ENDS {
            self.ends.pop_front();
        }
        true
    }

    fn verdict(&self, context: &Context<'_>, process: &Process, tracked: bool) -> Option<Certainty> {
        if tracked {
            let ends: Vec<End> = self.ends.iter().cloned().collect();
            return asked_for(context, process)
                .iter()
                .any(|exits| enough_ends(&ends, exits, context.now))
                .then_some(Certainty::Proved);
        }
        let said = self.said_at.is_some_and(|at| context.now.since(at) <= DEFAULT.within);
        if said {
            return None;
        }
        let (mut recent, mut faults, mut services) = (0, 0, 0);
        for end in self.ends.iter().filter(|end| context.now.since(end.at) <= DEFAULT.within) {
            recent += 1;
            faults += u32::from(end.fault);
            services += u32::from(end.fault || end.service);
        }
        if recent < DEFAULT.min {
            return None;
        }
        (faults >= DEFAULT.min || services >= STATUS_ENDS).then_some(Certainty::Probable)
    }
}

/// The default, or what the rules of the owner ask for instead.
fn asked_for(context: &Context<'_>, process: &Process) -> Vec<Exits> {
    let choose::Owner::One(policy) = choose::owner(context.policies, process) else {
        return vec![DEFAULT];
    };
    let mut asked: Vec<Exits> = policy
        .rules
        .iter()
        .flat_map(|rule| &rule.when)
        .filter(|condition| condition.class == Class::CrashLoop)
        .map(|condition| condition.exits.clone().unwrap_or(DEFAULT))
        .collect();
    if asked.is_empty() {
        asked.push(DEFAULT);
    }
    asked
}

/// Do these ends make a loop, as `exits` counts? Short lives count double in the default only.
pub fn enough_ends(ends: &[End], exits: &Exits, now: BootTime) -> bool {
    let is_default = *exits == DEFAULT;
    ends.iter()
        .filter(|end| now.since(end.at) <= exits.within && !exits.codes_not_in.contains(&end.code))
        .map(|end| if is_default { end.weight } else { 1 })
        .sum::<u32>()
        >= exits.min
}

impl CrashLoop {
    fn forget_old(&mut self, now: BootTime) {
        while let Some((at, _)) = self.order.front() {
            if now.since(*at) < REMEMBER && self.order.len() <= MAX_LOOPS {
                return;
            }
            let Some((_, key)) = self.order.pop_front() else {
                return;
            };
            let recent = self
                .loops
                .get(&key)
                .and_then(|ends| ends.ends.back())
                .is_some_and(|end| now.since(end.at) < REMEMBER);
            if recent && self.order.len() < MAX_LOOPS {
                self.order.push_back((now, key));
            } else {
                self.loops.remove(&key);
            }
        }
    }
}

fn raise(
    context: &Context<'_>,
    at: BootTime,
    process: &Process,
    certificate: &Certificate,
    ends: &Ends,
    certainty: Certainty,
) -> Finding {
    let first = ends.ends.front().map_or(at, |end| end.at);
    Finding::Raised {
        subject: Subject::Death(process.id()),
        diagnosis: Box::new(Diagnosis {
            class: Class::CrashLoop,
            certainty,
            target: process.clone(),
            related: Vec::new(),
            fault_at: at,
            detected_at: context.now,
            sentence: format!(
                "{} ended abnormally {} times in {}; last: {}[{}] {}",
                text::printable(process.workload.given_name().unwrap_or(&process.comm)),
                ends.ends.len(),
                Human(at.since(first)),
                text::printable(&process.comm),
                process.pid,
                certificate.sentence()
            ),
            evidence: certificate.evidence(context.memory, process, at),
            lost: context.memory.lost_since(first),
            from_absence: false,
            detail: Detail {
                exit: Some(certificate.exit),
                ends: ends.ends.iter().cloned().collect(),
                certificate: Some(certificate.clone()),
                ..Detail::default()
            },
        }),
    }
}
