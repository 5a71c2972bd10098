//! A process ended by a fault, a tracked main process with a non-zero status, or what its own supervisor gave up.

use super::{Context, Detector, DetectorEntry, Finding, Subject};
use crate::{
    engine::{
        certificate::{Cause, Certificate, called},
        class::{Certainty, Class},
        diagnosis::{Detail, Diagnosis},
        policy::choose,
    },
    identity::process::{Process, ProcessId},
    signal::{Exit, Fact, Party, SeenBy, Signal},
};

pub(super) const ENTRY: DetectorEntry =
    DetectorEntry { name: "crash", classes: &[Class::Crash], build: || Box::new(Crash) };

const GIVEN_UP: &str = ", its own parent: a watchdog or a time limit gave it up, or somebody asked there";

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
        Cause::Killed { ref by } => {
            was_given_up(process, certificate.exit, by) && !stop_is_under_way(context, process)
        }
        Cause::Exited
        | Cause::GroupSignal { .. }
        | Cause::CgroupKill { .. }
        | Cause::ParentEnded { .. }
        | Cause::NamespaceEnded { .. }
        | Cause::OomKill(_)
        | Cause::Kernel
        | Cause::Unseen => false,
    }
}

/// systemd's watchdog (systemd.service(5), `WatchdogSec=`) and masters of workers (gunicorn's `timeout`) want a core of
/// who does not answer.
fn was_given_up(process: &Process, exit: Exit, by: &Party) -> bool {
    let place = &process.place;
    // Neither a session's scope nor a user's own systemd, with whatever somebody types there.
    let is_unit =
        |unit: &String| unit.ends_with(".service") && (!unit.starts_with("user@") || unit.contains('/'));
    let is_service =
        place.supervise.is_some() || place.container.is_some() || place.unit.as_ref().is_some_and(is_unit);
    let parent = process.parent.as_ref().map(|parent| ProcessId { pid: parent.pid, start: parent.start });
    let is_its_parent = parent == Some(by.id);
    exit.signal == Some(libc::SIGABRT) && is_service && is_its_parent
}

fn owner_stops_it(context: &Context<'_>, process: &Process) -> bool {
    context.world.get(&process.workload).is_some_and(|workload| workload.is_stopping(context.now))
}

/// A stop may end with it (systemd.service(5), `TimeoutStopFailureMode=abort`; `STOPSIGNAL` of an image).
fn stop_is_under_way(context: &Context<'_>, process: &Process) -> bool {
    owner_stops_it(context, process) || context.memory.is_told_to_stop(context.now, process)
}

/// A service that ends with 143 after the TERM that was asked for did not crash.
fn stop_was_asked(context: &Context<'_>, process: &Process, exit: Exit) -> bool {
    owner_stops_it(context, process) || context.memory.obeyed(process, exit)
}

fn diagnosis(
    context: &Context<'_>,
    signal: &Signal,
    process: &Process,
    certificate: &Certificate,
) -> Diagnosis {
    Diagnosis {
        class: Class::Crash,
        certainty: certainty(process, certificate),
        target: process.clone(),
        related: Vec::new(),
        fault_at: signal.at,
        detected_at: context.now,
        sentence: sentence(process, certificate),
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

fn certainty(process: &Process, certificate: &Certificate) -> Certainty {
    match certificate.exit.seen_by {
        SeenBy::Inferred | SeenBy::NoStatus => Certainty::Probable,
        // `timeout -s ABRT` in a job of a service does the same.
        _ if matches!(certificate.cause, Cause::Killed { .. }) && !process.main => Certainty::Suspected,
        SeenBy::Kernel | SeenBy::Supervisor | SeenBy::Poll | SeenBy::Connector => Certainty::Proved,
    }
}

fn sentence(process: &Process, certificate: &Certificate) -> String {
    let is_given_up = matches!(certificate.cause, Cause::Killed { .. });
    let why = if is_given_up { GIVEN_UP } else { "" };
    format!("{} {}{why}", called(process), certificate.sentence())
}
