//! One workload ends abnormally again and again.
//!
//! Tracked workloads: three ends in five minutes (a life under ten seconds counts double), or as a rule's
//! `exits` says. Other programs need a parent that starts the *same* command again, and three ends by a fault or for
//! want of memory: build tools, test runners and shells, whose different children fail now and then, are no loop.
//!
//! A status of a program that nobody named is an answer as often as a failure: `until nc -z db 5432; do sleep 1; done`,
//! health checks and monitoring plug-ins look from outside like a server that dies of its configuration. It counts
//! only where the shell that starts the command again never asks for it, and five times in a row: after the first the
//! kernel is asked to tell every start of that shell's children, so that one that ended well in between is known.

mod ends;
mod row;
mod suspects;

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
        policy::choose,
        time::{BootTime, Human},
    },
    identity::process::{Process, ProcessId},
    signal::{Fact, Signal},
    text,
};
use ends::Ends;
use suspects::Suspects;

pub(super) const ENTRY: DetectorEntry = DetectorEntry {
    name: "crash_loop",
    classes: &[Class::CrashLoop],
    build: || Box::new(CrashLoop::default()),
};

pub use ends::enough_ends;

const SHORT_LIFE: Duration = Duration::from_secs(10);
const REMEMBER: Duration = Duration::from_secs(3600);
const MAX_LOOPS: usize = 2048;

#[derive(Default)]
struct CrashLoop {
    loops: BTreeMap<LoopKey, Ends>,
    order: VecDeque<(BootTime, LoopKey)>,
    suspects: Suspects,
}

/// A digest of the workload; of untracked programs of the parent process and the command. Most ends are of
/// programs that nobody will ask about again: they cost no strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LoopKey(u64);

impl Detector for CrashLoop {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        let Some(process) = &signal.process else {
            return;
        };
        if matches!(signal.fact, Fact::Execed) {
            self.started(process);
        } else if let (Fact::Exited(_), Some(certificate)) = (&signal.fact, context.certificate) {
            self.suspects.ended(process.id());
            self.ended(context, signal.at, process, certificate, found);
        }
    }
}

impl CrashLoop {
    fn started(&mut self, process: &Process) {
        let Some(parent) = parent_of(process).filter(|parent| self.suspects.is_watched(*parent)) else {
            return;
        };
        self.suspects.started(command_key(process, parent), process.id());
    }

    fn ended(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        process: &Process,
        certificate: &Certificate,
        found: &mut Vec<Finding>,
    ) {
        let asked = context.world.get(&process.workload).is_some_and(|workload| workload.is_stopping(at));
        let asked = asked || context.memory.obeyed(process, certificate.exit);
        if !certificate.exit.is_abnormal() || certificate.own.is_some() || asked {
            return;
        }
        let tracked = choose::tracked(context.policies, process);
        let end = end(process, certificate, at);
        if !tracked && !end.fault && !end.unasked {
            return;
        }
        let Some(key) = loop_key(process, tracked) else {
            return;
        };
        self.forget_old(context.now, found);
        let ends = self.loops.entry(key).or_insert_with(|| {
            self.order.push_back((context.now, key));
            Ends::default()
        });
        // A supervisor repeats what the kernel has told.
        if ends.last.replace(process.id()) == Some(process.id()) {
            return;
        }
        let is_unasked = end.unasked || self.suspects.knows(key);
        ends.add(end);
        let (now, id) = (context.now, process.id());
        let certainty = if tracked {
            ends.are_enough(context, process).then_some(Certainty::Proved)
        } else if ends.was_said(now) {
            None
        } else {
            let command = parent_of(process).filter(|_| is_unasked).map(|parent| (key, parent));
            let is_in_a_row =
                command.is_some_and(|command| self.suspects.failed(context, command, id, found));
            (is_in_a_row || ends.keep_faulting(now)).then_some(Certainty::Probable)
        };
        if let Some(certainty) = certainty {
            ends.said_at = Some(now);
            self.suspects.forget(key, found);
            found.push(raise(context, at, process, certificate, ends, certainty));
        }
    }
}

/// Of what nobody named: its command and who starts it.
pub(crate) fn command_digest(process: &Process) -> Option<u64> {
    Some(command_key(process, parent_of(process)?).0)
}

fn loop_key(process: &Process, tracked: bool) -> Option<LoopKey> {
    if !tracked {
        return Some(command_key(process, parent_of(process)?));
    }
    let mut digest = DefaultHasher::new();
    process.workload.hash(&mut digest);
    Some(LoopKey(digest.finish()))
}

/// Not of the executable: of who lived for a moment it could not be read, of its next life it could.
fn command_key(process: &Process, parent: ProcessId) -> LoopKey {
    let mut digest = DefaultHasher::new();
    parent.hash(&mut digest);
    if process.args.is_empty() {
        process.workload.hash(&mut digest);
    }
    process.args.hash(&mut digest);
    LoopKey(digest.finish())
}

fn parent_of(process: &Process) -> Option<ProcessId> {
    process.parent.as_ref().map(|parent| ProcessId { pid: parent.pid, start: parent.start })
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

impl CrashLoop {
    fn forget_old(&mut self, now: BootTime, found: &mut Vec<Finding>) {
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
                self.suspects.forget(key, found);
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
