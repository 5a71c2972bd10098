//! One workload ends abnormally again and again.
//!
//! Tracked workloads: three ends in five minutes (a life under ten seconds counts double), or as a rule's
//! `exits` says. Other programs need a parent that starts the *same* command again, and three ends by a fault or five
//! by a status: build tools, test runners and shells, whose different children fail now and then, are no loop.

use core::{
    hash::{Hash as _, Hasher as _},
    time::Duration,
};
use std::{
    collections::{BTreeMap, VecDeque},
    hash::DefaultHasher,
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
    identity::process::{Process, ProcessId},
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
    loops: BTreeMap<LoopKey, Ends>,
    order: VecDeque<(BootTime, LoopKey)>,
}

/// A digest of the workload; of untracked programs also of the parent process and the arguments. Most ends are of
/// programs that nobody will ask about again: they cost no strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LoopKey(u64);

#[derive(Default)]
struct Ends {
    /// With the start of the process that ended.
    lives: VecDeque<(BootTime, End)>,
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
        let end = end(process, certificate, signal.at);
        if !tracked && !end.fault && !end.service {
            return;
        }
        self.forget_old(context.now);
        let ends = self.loops.entry(key).or_insert_with(|| {
            self.order.push_back((context.now, key));
            Ends::default()
        });
        ends.add(process.start, end);
        if let Some(certainty) = ends.verdict(context, process, tracked) {
            ends.said_at = Some(context.now);
            found.push(raise(context, signal.at, process, certificate, ends, certainty));
        }
    }
}

fn loop_key(process: &Process, tracked: bool) -> Option<LoopKey> {
    let mut digest = DefaultHasher::new();
    process.workload.hash(&mut digest);
    if !tracked {
        let parent = process.parent.as_ref()?;
        ProcessId { pid: parent.pid, start: parent.start }.hash(&mut digest);
        process.args.hash(&mut digest);
    }
    Some(LoopKey(digest.finish()))
}

fn end(process: &Process, certificate: &Certificate, at: BootTime) -> End {
    let uptime = at.since(process.start);
    End {
        at,
        code: certificate.exit.signal.map_or(certificate.exit.code, |signal| 128 + signal),
        weight: if uptime < SHORT_LIFE { 2 } else { 1 },
        fault: matches!(certificate.cause, Cause::Crashed { .. }),
        service: uptime >= SERVICE_LIFE,
    }
}

impl Ends {
    fn add(&mut self, start: BootTime, end: End) {
        self.lives.push_back((start, end));
        while self.lives.len() > MAX_ENDS {
            self.lives.pop_front();
        }
    }

    fn iter(&self) -> impl Iterator<Item = &End> {
        self.lives.iter().map(|(_, end)| end)
    }

    /// How often one was started after another had ended, and ended too: instances that ran side by side and
    /// fell together are one.
    fn in_a_row(&self, now: BootTime, counts: impl Fn(&End) -> bool) -> u32 {
        let mut last = BootTime(0);
        let mut row = 0;
        for (start, end) in &self.lives {
            if counts(end) && now.since(end.at) <= DEFAULT.within && *start >= last {
                last = end.at;
                row += 1;
            }
        }
        row
    }

    fn verdict(&self, context: &Context<'_>, process: &Process, tracked: bool) -> Option<Certainty> {
        if tracked {
            return asked_for(context, process)
                .iter()
                .any(|exits| enough_ends(self.iter(), exits, context.now))
                .then_some(Certainty::Proved);
        }
        let said = self.said_at.is_some_and(|at| context.now.since(at) <= DEFAULT.within);
        if said {
            return None;
        }
        let faults = self.in_a_row(context.now, |end| end.fault);
        let services = self.in_a_row(context.now, |_| true);
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
pub fn enough_ends<'a>(ends: impl IntoIterator<Item = &'a End>, exits: &Exits, now: BootTime) -> bool {
    let is_default = *exits == DEFAULT;
    ends.into_iter()
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
                .and_then(|ends| ends.lives.back())
                .is_some_and(|(_, end)| now.since(end.at) < REMEMBER);
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
    let first = ends.iter().next().map_or(at, |end| end.at);
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
                ends.lives.len(),
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
                ends: ends.iter().cloned().collect(),
                certificate: Some(certificate.clone()),
                ..Detail::default()
            },
        }),
    }
}
