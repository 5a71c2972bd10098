//! One workload ends abnormally again and again.
//!
//! Tracked workloads: three ends in five minutes (a life under ten seconds counts double), or as a rule's
//! `exits` says. Other programs need a parent that starts the *same* command again, and three ends by a fault or for
//! want of memory: build tools, test runners and shells, whose different children fail now and then, are no loop.
//!
//! A status of a program that nobody named is an answer as often as a failure: `until nc -z db 5432; do sleep 1; done`,
//! health checks and monitoring plug-ins look from outside like a server that dies of its configuration. So it takes
//! a reason to think of a service:
//!
//! | what says so | how often | certainty |
//! |---|---|---|
//! | the script of the shell that starts it never asks for it | five in a row | probable (of a script: suspected) |
//! | it listened in one of its lives | five short lives in five minutes | probable |
//! | its parent runs the same program and listens: a worker, or the child of one connection | the same | suspected |
//! | none of these, but somebody's own program is started again in the same words within three seconds | nine in a row | suspected |
//! | a supervisor of services starts it again after short lives | three in a row after the first | probable |
//! | the same, of a tool of the system or a script | the same | suspected |
//!
//! A fault of a short-lived fork without an exec may be a case of a test runner that is meant to die: without another sign it takes
//! nine.
//!
//! Of the first and the last two the kernel is asked to tell every start of that parent's children, so that one that ended
//! well in between is known.

mod ends;
mod row;
mod servers;
mod suspects;

use core::{
    hash::{Hash as _, Hasher},
    time::Duration,
};
use std::{collections::VecDeque, hash::DefaultHasher};

use super::{Context, Detector, DetectorEntry, Finding, Subject};
use crate::{
    engine::{
        certificate::{Cause, Certificate},
        class::{Certainty, Class},
        diagnosis::{Detail, Diagnosis, End},
        keyed::Keyed,
        policy::choose,
        time::{BootTime, Human},
    },
    identity::{
        nature::{Nature, base, hash_shape, nature},
        process::{Process, ProcessId},
    },
    signal::{Fact, Signal},
    text,
};
use ends::{DEFAULT, Ends};
use row::{FAILURES, FAILURES_OF_SERVICES};
use servers::Servers;
use suspects::Suspects;

pub(super) const ENTRY: DetectorEntry = DetectorEntry {
    name: "crash_loop",
    classes: &[Class::CrashLoop],
    build: || Box::new(CrashLoop::default()),
};

pub use ends::enough_ends;

const SHORT_LIFE: Duration = Duration::from_secs(10);
const SHORT_LIVES: u32 = 5;
/// Cases that are meant to die are seldom so many.
const FAULTS_OF_FORKS: u32 = 9;
/// Restarts before the kernel is asked for those that ended well.
const RESTARTS: usize = 3;
const REMEMBER: Duration = Duration::from_secs(3600);
const MAX_LOOPS: usize = 2048;

#[derive(Default)]
struct CrashLoop {
    loops: Keyed<LoopKey, Ends>,
    order: VecDeque<(BootTime, LoopKey)>,
    suspects: Suspects,
    servers: Servers,
}

/// A digest of the workload; of untracked programs of the parent process and the command. Most ends are of
/// programs that nobody will ask about again: they cost no strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct LoopKey(u64);

impl Detector for CrashLoop {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        let Some(process) = &signal.process else {
            return;
        };
        self.servers.observe(signal);
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
        let mut end = end(process, certificate, at);
        let Some(key) = loop_key(process, tracked) else {
            return;
        };
        let is_worker = self.servers.is_worker(process);
        let serves = self.servers.has_served(key);
        // What a supervisor of services starts is a service, but for what it tells of an end.
        let is_own = || {
            process.parent.as_ref().is_some_and(|parent| {
                let is_service = parent.supervises && !is_finish(process);
                parent.may_restart_it && (is_service || nature(process) == Nature::Own)
            })
        };
        // Whoever kills a server may start it again, as test harnesses do.
        let is_killed = certificate.exit.signal.is_some() && !end.fault;
        let serves = serves && !is_killed;
        let is_worker = is_worker && !is_killed;
        if !tracked && !end.fault && !end.unasked && !serves && !is_worker && !is_own() {
            return;
        }
        end.words = command_digest(process).unwrap_or_default();
        self.forget_old(context.now, found);
        let ends = self.loops.get_or_insert_with(key, || {
            self.order.push_back((context.now, key));
            Ends::of(tracked)
        });
        // A supervisor repeats what the kernel has told.
        if ends.last.replace(process.id()) == Some(process.id()) {
            return;
        }
        ends.add(end);
        ends.serves |= serves;
        let (now, id) = (context.now, process.id());
        let certainty = if tracked {
            ends.are_enough(context, process).then_some(Certainty::Proved)
        } else if let Some(parent) = parent_of(process) {
            let has_asked = self.servers.has_asked(key);
            let supervises = process.parent.as_ref().is_some_and(|parent| parent.supervises);
            let is_again = supervises || RESTARTS <= ends.soon_again();
            // Whom a supervisor restarts for ever loops, also for want of its database.
            let may_be_loop = ends.is_unasked || supervises || (!has_asked && is_again);
            let is_news = !ends.was_said(by_row(ends, process, now), now);
            let needed = if supervises { FAILURES_OF_SERVICES } else { FAILURES };
            let is_in_a_row =
                may_be_loop && is_news && self.suspects.failed(context, (key, parent), (id, needed), found);
            certainty(ends, process, is_in_a_row, is_worker, now).filter(|it| !ends.was_said(*it, now))
        } else {
            None
        };
        if let Some(certainty) = certainty {
            ends.say(certainty, now);
            self.suspects.forget(key, found);
            found.push(raise(context, at, process, certificate, ends, certainty));
        }
    }
}

/// Of a program that nobody named.
fn certainty(
    ends: &Ends,
    process: &Process,
    is_in_a_row: bool,
    is_worker: bool,
    now: BootTime,
) -> Option<Certainty> {
    let are_short = SHORT_LIVES <= ends.short_lives(now);
    let is_fork = process.parent.as_ref().is_some_and(|parent| parent.is_double);
    let is_short = ends.lives.back().is_some_and(|end| 1 < end.weight);
    let may_be_case = is_fork && is_short && !is_worker && !ends.is_unasked && !ends.serves;
    let faults = if may_be_case { FAULTS_OF_FORKS } else { DEFAULT.min };
    if faults <= ends.faults(now) || (ends.serves && are_short) {
        Some(Certainty::Probable)
    } else if is_in_a_row {
        Some(by_row(ends, process, now))
    } else {
        (is_worker && are_short).then_some(Certainty::Suspected)
    }
}

/// What a row of failures makes of it.
fn by_row(ends: &Ends, process: &Process, now: BootTime) -> Certainty {
    // A run script, and a tool in its place, may wait for another service: `sv check db || exit 1`.
    let is_own = nature(process) == Nature::Own;
    let is_script = nature(process) == Nature::Shell;
    let is_supervised = process.parent.as_ref().is_some_and(|parent| parent.supervises);
    let is_service = (ends.is_unasked && !is_script)
        || (is_supervised && is_own && FAILURES_OF_SERVICES as u32 <= ends.short_lives(now));
    if is_service { Certainty::Probable } else { Certainty::Suspected }
}

/// `./finish CODE STATUS`, which runit and s6 run after each end.
fn is_finish(process: &Process) -> bool {
    process.args.iter().take(2).any(|word| base(word) == "finish")
}

/// Of what nobody named: its command and who starts it.
pub(crate) fn command_digest(process: &Process) -> Option<u64> {
    let mut digest = DefaultHasher::new();
    parent_of(process)?.hash(&mut digest);
    hash_command(process, &mut digest, |args, digest| args.hash(digest));
    Some(digest.finish())
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
    hash_command(process, &mut digest, hash_shape);
    LoopKey(digest.finish())
}

fn hash_command<H: Hasher>(process: &Process, digest: &mut H, by: fn(&[String], &mut H)) {
    if process.args.is_empty() {
        process.workload.hash(digest);
    }
    by(&process.args, digest);
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
        words: 0,
    }
}

impl CrashLoop {
    /// A build whose compilers fail must not push out what somebody named.
    fn forget_old(&mut self, now: BootTime, found: &mut Vec<Finding>) {
        let mut spared = 0;
        while let Some((at, _)) = self.order.front() {
            if now.since(*at) < REMEMBER && self.order.len() <= MAX_LOOPS {
                return;
            }
            let Some((_, key)) = self.order.pop_front() else {
                return;
            };
            let ends = self.loops.get(&key);
            let last = ends.and_then(|ends| ends.lives.back());
            let recent = last.is_some_and(|end| now.since(end.at) < REMEMBER);
            let is_spared = spared < MAX_LOOPS && ends.is_some_and(|ends| ends.tracked);
            if recent && (self.order.len() < MAX_LOOPS || is_spared) {
                spared += usize::from(self.order.len() >= MAX_LOOPS);
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
    let doubt = match certainty {
        Certainty::Suspected => "; it may be no service, but asked again and again for an answer",
        Certainty::Probable | Certainty::Proved => "",
    };
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
                "{} ended abnormally {} times in {}; last: {}[{}] {}{doubt}",
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
