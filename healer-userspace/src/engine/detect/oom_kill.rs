//! The OOM killer chose a process. Said at its end, or two seconds after the choice if it will not die.

use core::time::Duration;
use std::collections::BTreeMap;

use super::{Context, Detector, DetectorEntry, Finding, Subject};
use crate::{
    engine::{
        certificate::{Cause, Certificate, called, certify},
        class::{Certainty, Class},
        diagnosis::{Detail, Diagnosis},
        time::BootTime,
    },
    identity::process::{Process, ProcessId, WorkloadKey},
    signal::{Exit, Fact, OomScope, Party, Signal},
};

pub(super) const ENTRY: DetectorEntry =
    DetectorEntry { name: "oom_kill", classes: &[Class::OomKill], build: || Box::new(OomKilled::default()) };

/// A victim in D state or in a frozen cgroup does not exit.
const EXIT_EXPECTED: Duration = Duration::from_secs(2);

#[derive(Default)]
struct OomKilled {
    chosen: BTreeMap<ProcessId, (BootTime, Process)>,
}

impl Detector for OomKilled {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        let Some(process) = &signal.process else {
            return;
        };
        if matches!(signal.fact, Fact::OomKilled(_)) {
            self.chosen.insert(process.id(), (signal.at, process.clone()));
        } else if let (Fact::Exited(_), Some(certificate)) = (&signal.fact, context.certificate) {
            self.chosen.remove(&process.id());
            if matches!(certificate.cause, Cause::OomKill(_)) {
                found.push(raise(context, process, certificate, signal.at, ""));
            }
        }
    }

    fn advance(&mut self, context: &Context<'_>, found: &mut Vec<Finding>) {
        let late: Vec<_> = self
            .chosen
            .iter()
            .filter(|(_, (at, _))| context.now.since(*at) >= EXIT_EXPECTED)
            .map(|(id, _)| *id)
            .collect();
        for (at, process) in late.iter().filter_map(|id| self.chosen.remove(id)) {
            let exit = Exit { signal: Some(libc::SIGKILL), ..Exit::default() };
            let certificate = certify(context.memory, &process, exit, at, 0);
            found.push(raise(context, &process, &certificate, at, "; it has not exited 2 s later"));
        }
    }

    fn deadline(&self) -> Option<BootTime> {
        self.chosen.values().map(|(at, _)| *at + EXIT_EXPECTED).min()
    }
}

fn raise(
    context: &Context<'_>,
    process: &Process,
    certificate: &Certificate,
    at: BootTime,
    rest: &str,
) -> Finding {
    let scope = match &certificate.cause {
        // That the kernel OOM-killed it is proved either way; the kind must not be a guess.
        Cause::OomKill(oom) if !oom.is_scope_guessed => oom.scope,
        Cause::OomKill(_)
        | Cause::Exited
        | Cause::Crashed { .. }
        | Cause::Killed { .. }
        | Cause::GroupSignal { .. }
        | Cause::CgroupKill { .. }
        | Cause::ParentEnded { .. }
        | Cause::NamespaceEnded { .. }
        | Cause::Kernel
        | Cause::Unseen => OomScope::Unknown,
    };
    let kind = match scope {
        OomScope::Memcg => "memcg",
        OomScope::Global => "global",
        OomScope::Unknown => "unknown",
    };
    let fault_at = context.memory.oom(process.id()).map_or(at, |(when, _)| *when);
    Finding::Raised {
        subject: Subject::Death(process.id()),
        diagnosis: Box::new(Diagnosis {
            class: Class::OomKill,
            certainty: Certainty::Proved,
            target: process.clone(),
            related: trigger(process, certificate).into_iter().collect(),
            fault_at,
            detected_at: context.now,
            sentence: format!("{} {}{rest}", called(process), certificate.sentence()),
            evidence: certificate.evidence(context.memory, process, at),
            lost: context.memory.lost_since(fault_at),
            from_absence: false,
            detail: Detail {
                exit: Some(certificate.exit),
                kind: Some(kind.to_owned()),
                certificate: Some(certificate.clone()),
                ..Detail::default()
            },
        }),
    }
}

/// Whoever asked for more, if it is not the victim itself.
fn trigger(victim: &Process, certificate: &Certificate) -> Option<Process> {
    let Cause::OomKill(oom) = &certificate.cause else {
        return None;
    };
    let Party { id, comm, uid, exe, workload } = oom.trigger.clone();
    (id.pid != 0 && id != victim.id()).then(|| Process {
        pid: id.pid,
        start: id.start,
        comm,
        uid,
        exe,
        workload: WorkloadKey(workload.unwrap_or_default()),
        ..Process::default()
    })
}
