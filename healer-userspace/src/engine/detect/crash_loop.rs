//! One workload ends abnormally again and again.
//!
//! Tracked workloads: three ends in five minutes (a life under ten seconds counts double), or as a rule's
//! `exits` says. Other programs need a parent that starts the *same* command again, and three ends by a fault or for
//! want of memory: build tools, test runners and shells, whose different children fail now and then, are no loop.
//!
//! A status of a program that nobody named is an answer as often as a failure: `until nc -z db 5432; do sleep 1; done`,
//! health checks and monitoring plug-ins look from outside like a server that dies of its configuration. It counts
//! only where the shell that starts the command again never asks for it, and five times in a row.

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
/// A job that fails now and then may do so three times in a row.
const STATUS_ENDS: usize = 5;
/// What a busy machine may add to a pause between two lives.
const NOISE: Duration = Duration::from_millis(30);
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
    lives: VecDeque<End>,
    last: Option<ProcessId>,
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
        if !tracked && !end.fault && !end.unasked {
            return;
        }
        self.forget_old(context.now);
        let ends = self.loops.entry(key).or_insert_with(|| {
            self.order.push_back((context.now, key));
            Ends::default()
        });
        // A supervisor repeats what the kernel has told.
        if ends.last.replace(process.id()) == Some(process.id()) {
            return;
        }
        ends.add(end);
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
        fault: matches!(certificate.cause, Cause::Crashed { .. } | Cause::OomKill(_)),
        start: process.start,
        unasked: process.parent.as_ref().is_some_and(|parent| parent.restarts_it),
    }
}

impl Ends {
    fn add(&mut self, end: End) {
        self.lives.push_back(end);
        while self.lives.len() > MAX_ENDS {
            self.lives.pop_front();
        }
    }

    fn verdict(&self, context: &Context<'_>, process: &Process, tracked: bool) -> Option<Certainty> {
        if tracked {
            return asked_for(context, process)
                .iter()
                .any(|exits| enough_ends(&self.lives, exits, context.now))
                .then_some(Certainty::Proved);
        }
        let said = self.said_at.is_some_and(|at| context.now.since(at) <= DEFAULT.within);
        if said {
            return None;
        }
        let recent = self.lives.iter().filter(|end| context.now.since(end.at) <= DEFAULT.within);
        let recent: Vec<&End> = recent.collect();
        (keeps_faulting(&recent) || keeps_failing(&recent)).then_some(Certainty::Probable)
    }
}

/// One was started after another had ended, and ended too: instances that ran side by side and fell together are one.
fn keeps_faulting(ends: &[&End]) -> bool {
    let mut last = BootTime(0);
    let mut row = 0;
    for end in ends.iter().filter(|end| end.fault) {
        if last <= end.start {
            last = end.at;
            row += 1;
        }
    }
    DEFAULT.min <= row
}

/// The same life again and again, with no pause in which a better one would have had room: ends with status 0 of
/// programs that nobody named are not told.
fn keeps_failing(ends: &[&End]) -> bool {
    let Some(last) = ends.len().checked_sub(STATUS_ENDS).map(|from| &ends[from..]) else {
        return false;
    };
    let pauses = || last.windows(2).map(|pair| pair[1].start.since(pair[0].at));
    let shortest_life = last.iter().map(|end| end.at.since(end.start)).min().unwrap_or_default();
    let longest_pause = pauses().min().unwrap_or_default().mul_f64(1.5) + shortest_life / 2 + NOISE;
    let is_in_a_row = last.windows(2).all(|pair| pair[0].at <= pair[1].start);
    last.iter().all(|end| end.unasked) && is_in_a_row && pauses().all(|pause| pause <= longest_pause)
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
    let mut last = BootTime(0);
    ends.into_iter()
        .filter(|end| now.since(end.at) <= exits.within && !exits.codes_not_in.contains(&end.code))
        // What ran side by side and fell together is one end.
        .filter(|end| {
            last <= end.start && {
                last = end.at;
                true
            }
        })
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
    let first = ends.lives.front().map_or(at, |end| end.at);
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
                ends: ends.lives.iter().cloned().collect(),
                certificate: Some(certificate.clone()),
                ..Detail::default()
            },
        }),
    }
}
