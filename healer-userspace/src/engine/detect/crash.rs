//! A process ended by a fault, or a tracked main process with a non-zero status.

use super::{Context, Detector, DetectorEntry, Finding, Subject};
use crate::{
    engine::{
        certificate::{Cause, Certificate, called},
        class::{Certainty, Class},
        diagnosis::{Detail, Diagnosis},
        policy::choose,
    },
    identity::process::Process,
    signal::{Exit, Fact, SeenBy, Signal},
};

pub(super) const ENTRY: DetectorEntry =
    DetectorEntry { name: "crash", classes: &[Class::Crash], build: || Box::new(Crash) };

struct Crash;

impl Detector for Crash {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        let (Fact::Exited(_), Some(process), Some(certificate)) =
            (&signal.fact, &signal.process, context.certificate)
        else {
            return;
        };
        if certificate.own.is_some() || !is_crash(context, process, certificate) {
            return;
        }
        found.push(Finding::Raised {
            subject: Subject::Death(process.id()),
            diagnosis: Box::new(diagnosis(context, signal, process, certificate)),
        });
    }
}

fn is_crash(context: &Context<'_>, process: &Process, certificate: &Certificate) -> bool {
    match certificate.cause {
        Cause::Crashed { .. } => true,
        Cause::Exited if certificate.exit.signal.is_none() => {
            certificate.exit.code != 0
                && choose::tracked(context.policies, process)
                && !stop_was_asked(context, process, certificate.exit)
        }
        Cause::Exited
        | Cause::Killed { .. }
        | Cause::GroupSignal { .. }
        | Cause::CgroupKill { .. }
        | Cause::ParentEnded { .. }
        | Cause::OomKill(_)
        | Cause::Kernel
        | Cause::Unseen => false,
    }
}

/// A service that ends with 143 after the TERM that was asked for did not crash.
fn stop_was_asked(context: &Context<'_>, process: &Process, exit: Exit) -> bool {
    let by_owner =
        context.world.get(&process.workload).is_some_and(|workload| workload.is_stopping(context.now));
    by_owner || context.memory.obeyed(process, exit)
}

fn diagnosis(
    context: &Context<'_>,
    signal: &Signal,
    process: &Process,
    certificate: &Certificate,
) -> Diagnosis {
    Diagnosis {
        class: Class::Crash,
        certainty: match certificate.exit.seen_by {
            SeenBy::Inferred | SeenBy::NoStatus => Certainty::Probable,
            SeenBy::Kernel | SeenBy::Supervisor | SeenBy::Poll | SeenBy::Connector => Certainty::Proved,
        },
        target: process.clone(),
        related: Vec::new(),
        fault_at: signal.at,
        detected_at: context.now,
        sentence: format!("{} {}", called(process), certificate.sentence()),
        evidence: certificate.evidence(context.memory, process, signal.at),
        lost: context.memory.lost_since(process.start),
        from_absence: false,
        detail: Detail {
            exit: Some(certificate.exit),
            certificate: Some(certificate.clone()),
            ..Detail::default()
        },
    }
}
