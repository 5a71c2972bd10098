//! The workload does not answer the question of its policy (`expect.probe`), or does not hold its ports
//! (`expect.listen`), several times in a row.

use std::collections::BTreeMap;

use super::{Context, Detector, DetectorEntry, Finding, Subject};
use crate::{
    engine::{
        certificate::called,
        class::{Certainty, Class},
        diagnosis::{Detail, Diagnosis, Evidence},
        policy::{
            Probe,
            choose::{self, Owner},
        },
        time::{BootTime, Human},
    },
    identity::process::{Process, ProcessId},
    signal::{
        Fact, Signal,
        work::{Asked, Probed},
    },
    text,
};

pub(super) const ENTRY: DetectorEntry = DetectorEntry {
    name: "probe_failed",
    classes: &[Class::ProbeFailed],
    build: || Box::new(ProbeFailed::default()),
};

/// Answers and failures in a row, of each process.
#[derive(Default)]
pub(super) struct Probes {
    known: BTreeMap<(ProcessId, Asked), Known>,
    /// When it became the program that it is.
    began: BTreeMap<ProcessId, BootTime>,
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    has_answered: bool,
    /// In a row.
    pub(super) failed: u32,
    /// First of the row.
    pub(super) since: BootTime,
    pub(super) says: String,
    /// The last one had no answer at all.
    pub(super) is_late: bool,
    pub(super) needed: u32,
}

impl Known {
    pub(super) fn is_failing(&self) -> bool {
        0 < self.needed && self.needed <= self.failed
    }
}

impl Probes {
    /// How it stands now; `None` if the policy no longer asks.
    pub(super) fn note(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        process: &Process,
        probed: &Probed,
    ) -> Option<&Known> {
        let key = (process.id(), probed.asked);
        let Some(probe) = question(context, process, probed.asked) else {
            self.known.remove(&key);
            return None;
        };
        let known = self.known.entry(key).or_insert_with(|| Known {
            has_answered: false,
            failed: 0,
            since: at,
            says: String::new(),
            is_late: false,
            needed: probe.failures,
        });
        known.needed = probe.failures;
        let began = self.began.get(&process.id()).map_or(process.start, |began| process.start.max(*began));
        let is_starting = !known.has_answered && at.since(began) < probe.start_grace;
        if probed.ok {
            known.has_answered = true;
            known.failed = 0;
        } else if !is_starting {
            if known.failed == 0 {
                known.since = at;
            }
            known.failed += 1;
            known.is_late = probed.late;
            known.says = format!("{}: {}", text::printable(&probed.what), text::printable(&probed.says));
        }
        Some(known)
    }

    /// Of `expect.probe`.
    pub(super) fn get(&self, id: ProcessId) -> Option<&Known> {
        self.known.get(&(id, Asked::Probe))
    }

    /// A script that waits for its database becomes the program that is asked only then.
    pub(super) fn execed(&mut self, context: &Context<'_>, at: BootTime, process: &Process) {
        let is_asked = || match choose::owner(context.policies, process) {
            Owner::One(policy) => policy.expect.probe.is_some() || !policy.expect.listen.is_empty(),
            Owner::None | Owner::Clash(..) => false,
        };
        // Not of the commands that a script of the workload runs.
        if context.world.is_living(&process.workload, process.id()) && is_asked() {
            self.began.insert(process.id(), at);
        }
    }

    pub(super) fn forget(&mut self, id: ProcessId) {
        self.began.remove(&id);
        for asked in Asked::ALL {
            self.known.remove(&(id, asked));
        }
    }

    /// By any question that the policy still asks.
    fn are_failing(&self, context: &Context<'_>, process: &Process) -> bool {
        Asked::ALL.into_iter().any(|asked| {
            let known = self.known.get(&(process.id(), asked));
            known.is_some_and(Known::is_failing) && question(context, process, asked).is_some()
        })
    }
}

fn question(context: &Context<'_>, process: &Process, asked: Asked) -> Option<Probe> {
    match choose::owner(context.policies, process) {
        Owner::One(policy) => policy.expect.question(asked),
        Owner::None | Owner::Clash(..) => None,
    }
}

#[derive(Default)]
struct ProbeFailed {
    probes: Probes,
    raised: BTreeMap<ProcessId, String>,
}

impl Detector for ProbeFailed {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        let Some(process) = &signal.process else {
            return;
        };
        if matches!(signal.fact, Fact::Exited(_)) {
            self.probes.forget(process.id());
            self.clear(process, "has ended", found);
        } else if matches!(signal.fact, Fact::Execed) {
            self.probes.execed(context, signal.at, process);
        }
        let Fact::Probed(probed) = &signal.fact else {
            return;
        };
        match self.probes.note(context, signal.at, process, probed).cloned() {
            Some(known) if known.is_failing() => {
                if self.raised.insert(process.id(), probed.what.clone()).is_none() {
                    found.push(raise(context, process, signal.at, probed.asked, &known));
                }
            }
            Some(_) if !probed.ok => {}
            // It answers one question, and another one it does not.
            Some(_) | None if self.probes.are_failing(context, process) => {}
            Some(_) => self.clear(process, well(probed.asked), found),
            None => self.clear(process, "is no longer asked", found),
        }
    }
}

impl ProbeFailed {
    fn clear(&mut self, process: &Process, what: &str, found: &mut Vec<Finding>) {
        if self.raised.remove(&process.id()).is_some() {
            found.push(Finding::Cleared {
                subject: subject(process.id()),
                class: Class::ProbeFailed,
                says: format!("{}[{}] {what}", text::printable(&process.comm), process.pid),
            });
        }
    }
}

fn well(asked: Asked) -> &'static str {
    match asked {
        Asked::Probe => "answers again",
        Asked::Listen => "listens again",
    }
}

/// The same as of `hang`: that a process does not answer is one incident.
pub(super) fn subject(id: ProcessId) -> Subject {
    Subject::Process(id, Class::Hang)
}

fn raise(context: &Context<'_>, process: &Process, at: BootTime, asked: Asked, known: &Known) -> Finding {
    let failed = match asked {
        Asked::Probe => "failed its probe",
        Asked::Listen => "did not listen",
    };
    let sentence = format!(
        "{} {failed} {} times in a row over {}: {}",
        called(process),
        known.failed,
        Human(at.since(known.since)),
        known.says
    );
    Finding::Raised {
        subject: subject(process.id()),
        diagnosis: Box::new(Diagnosis {
            class: Class::ProbeFailed,
            certainty: Certainty::Proved,
            target: process.clone(),
            related: Vec::new(),
            fault_at: known.since,
            detected_at: context.now,
            sentence,
            evidence: vec![Evidence { signal: "probe".to_owned(), at, says: known.says.clone() }],
            lost: 0,
            from_absence: false,
            detail: Detail { evidence_count: 1, ..Detail::default() },
        }),
    }
}
