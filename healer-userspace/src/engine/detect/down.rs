//! A workload that should run has no living main process and no successor.

use core::time::Duration;
use std::collections::BTreeMap;

use super::{Context, Detector, DetectorEntry, Finding, Subject};
use crate::{
    engine::{
        certificate::{Certificate, certify},
        class::{Certainty, Class},
        diagnosis::{Detail, Diagnosis},
        policy::choose,
        time::{BootTime, Human},
    },
    identity::process::{Process, WorkloadKey},
    signal::{Fact, Signal},
    text,
};

pub(super) const ENTRY: DetectorEntry =
    DetectorEntry { name: "down", classes: &[Class::Down], build: || Box::new(Down::default()) };

/// `Restart=` of a unit and Docker's restart policy go first.
const OWNER_GOES_FIRST: Duration = Duration::from_secs(5);

/// Who serves lives longer than who only asks.
const SOON: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Down {
    missing: BTreeMap<WorkloadKey, Missing>,
    /// No missing workload is due before; kept, as most signals are about somebody else.
    due: Option<BootTime>,
}

struct Missing {
    dead: Process,
    certificate: Certificate,
    at: BootTime,
    due: BootTime,
    /// Somebody says so; else it may have been a job.
    should_run: bool,
    raised: bool,
}

impl Detector for Down {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        let Some(process) = &signal.process else {
            return;
        };
        match &signal.fact {
            Fact::Exited(_) => {
                if let Some(certificate) = context.certificate {
                    self.died(context, process, certificate.clone(), signal.at);
                }
            }
            Fact::Registered(registration) => match registration.waiting {
                Some(exit) => {
                    let certificate = certify(context.memory, process, exit, signal.at, 1);
                    self.died(context, process, certificate, signal.at);
                }
                None => self.appeared(process, found),
            },
            Fact::Execed if context.world.is_living(&process.workload, process.id()) => {
                self.appeared(process, found);
            }
            Fact::StopAsked { .. } | Fact::Deregistered => {
                self.missing.remove(&process.workload);
            }
            Fact::MeantToEnd => {
                let is_done = |missing: &Missing| is_done(missing.should_run, &missing.certificate);
                if self.missing.get(&process.workload).is_some_and(is_done) {
                    self.missing.remove(&process.workload);
                }
            }
            Fact::Execed
            | Fact::SignalSent(_)
            | Fact::OomKilled(_)
            | Fact::Answered { .. }
            | Fact::Waits(_)
            | Fact::Work(_)
            | Fact::Probed(_)
            | Fact::ConnectionFailed(_)
            | Fact::Retransmitted(_)
            | Fact::SyscallError(_)
            | Fact::Levels(_)
            | Fact::Listens(_)
            | Fact::NoRoute(_)
            | Fact::Memory(_)
            | Fact::ReclaimStalled(_)
            | Fact::TaskHung(_)
            | Fact::Flows(_)
            | Fact::Peers(_)
            | Fact::Lost { .. } => {}
        }
        // Who was held is judged by `advance` alone, when all has been read: the next record may be its successor's.
        self.raise(context, found, |missing| missing.due == missing.at);
    }

    fn advance(&mut self, context: &Context<'_>, found: &mut Vec<Finding>) {
        self.raise(context, found, |_| true);
    }

    fn deadline(&self) -> Option<BootTime> {
        self.due
    }
}

impl Down {
    fn raise(&mut self, context: &Context<'_>, found: &mut Vec<Finding>, may: fn(&Missing) -> bool) {
        if self.due.is_none_or(|due| context.now < due) {
            return;
        }
        for missing in self.missing.values_mut() {
            if !missing.raised && missing.due <= context.now && may(missing) {
                missing.raised = true;
                found.push(Finding::Raised {
                    subject: Subject::Death(missing.dead.id()),
                    diagnosis: Box::new(diagnosis(context, missing)),
                });
            }
        }
        self.due = self.missing.values().filter(|missing| !missing.raised).map(|missing| missing.due).min();
    }

    fn died(&mut self, context: &Context<'_>, process: &Process, certificate: Certificate, at: BootTime) {
        let Some(workload) = context.world.get(&process.workload) else {
            return;
        };
        let was_main = workload.last_dead.as_ref().is_some_and(|dead| dead.id() == process.id());
        if !was_main || !workload.living.is_empty() || workload.is_stopping(at) {
            return;
        }
        let should_run = choose::should_run(context.policies, process);
        let is_missed =
            should_run || (is_cut_down(&certificate) && choose::was_to_run_on(context.policies, process));
        let is_done = workload.is_meant_to_end && is_done(should_run, &certificate);
        if !is_missed
            || is_done
            || is_errand(context, process, &certificate)
            || is_finished(process, &certificate)
        {
            return;
        }
        let hold = if process.place.supervise.is_some() { Duration::ZERO } else { OWNER_GOES_FIRST };
        // Our own stop: whoever restarts it gets the time in which the act is verified.
        let hold = if certificate.own.is_some() { Duration::from_secs(60) } else { hold };
        let (dead, due) = (process.clone(), at + hold);
        let missing = Missing { dead, certificate, at, due, should_run, raised: false };
        self.due = Some(self.due.map_or(missing.due, |due| due.min(missing.due)));
        self.missing.insert(process.workload.clone(), missing);
    }

    fn appeared(&mut self, process: &Process, found: &mut Vec<Finding>) {
        if let Some(missing) = self.missing.remove(&process.workload)
            && missing.raised
        {
            found.push(Finding::Cleared {
                subject: Subject::Death(missing.dead.id()),
                class: Class::Down,
                says: format!("{}[{}] runs", text::printable(&process.comm), process.pid),
            });
        }
    }
}

/// By a signal that no stop begins with: systemd calls an end by those clean (systemd.service(5), SuccessExitStatus=).
fn is_cut_down(certificate: &Certificate) -> bool {
    const STOPS: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE];
    certificate.exit.signal.is_some_and(|signal| !STOPS.contains(&signal))
}

/// Of a job: it did what it was for, or nobody says that it should have gone on.
fn is_done(should_run: bool, certificate: &Certificate) -> bool {
    !should_run || !certificate.exit.is_abnormal()
}

/// `nginx -s reopen` beside the server: it did what it was for, or said soon with its status that it cannot
/// (`nginx -t`), and what should run, runs: an older one in the same place and for the same policy.
fn is_errand(context: &Context<'_>, process: &Process, certificate: &Certificate) -> bool {
    let container = |one: &Process| one.place.container.as_ref().map(|container| container.id.clone());
    let owner = |one: &Process| choose::owner(context.policies, one);
    let is_it = |other: &Process| {
        other.exe == process.exe
            && other.start <= process.start
            && container(other) == container(process)
            && owner(other) == owner(process)
    };
    let mut living = context.world.iter().flat_map(|(_, workload)| workload.living.values());
    let was_soon = context.now.since(process.start) < SOON;
    // A child of init is a daemon, or what its unit is for.
    let is_somebodys = process.parent.as_ref().is_some_and(|parent| parent.pid != 1);
    let exit = certificate.exit;
    let has_done_it = exit.signal.is_none() && (was_soon || !exit.is_abnormal() && is_somebodys);
    let has_served = context.world.topology().has_served(process.id());
    !process.main && process.exe.is_some() && has_done_it && !has_served && living.any(is_it)
}

/// An init container, a job's container: in a pod it is the kubelet who knows whether a success is to run again, and it
/// starts that again itself.
fn is_finished(process: &Process, certificate: &Certificate) -> bool {
    let was_asked = certificate.own.is_some() || certificate.asked.is_some();
    let place = &process.place;
    place.pod.is_some() && place.supervise.is_none() && !certificate.exit.is_abnormal() && !was_asked
}

fn diagnosis(context: &Context<'_>, missing: &Missing) -> Diagnosis {
    let Missing { dead, certificate, at, .. } = missing;
    let waited = context.now.since(*at);
    let alone = if waited < Duration::from_secs(1) {
        String::new()
    } else {
        format!("; no successor in {}", Human(waited))
    };
    Diagnosis {
        class: Class::Down,
        certainty: if missing.should_run { Certainty::Proved } else { Certainty::Suspected },
        target: dead.clone(),
        related: Vec::new(),
        fault_at: *at,
        detected_at: context.now,
        sentence: format!(
            "{} is down: {}[{}] {}{alone}{}",
            text::printable(dead.workload.given_name().unwrap_or(&dead.comm)),
            text::printable(&dead.comm),
            dead.pid,
            certificate.sentence(),
            if missing.should_run { "" } else { "; no policy says that it should run (expect.running)" }
        ),
        evidence: certificate.evidence(context.memory, dead, *at),
        lost: context.memory.lost_since(*at),
        // A lost exec record would make a healthy successor invisible; a supervisor would have told us.
        from_absence: dead.place.supervise.is_none(),
        detail: Detail {
            exit: Some(certificate.exit),
            certificate: Some(certificate.clone()),
            ..Detail::default()
        },
    }
}
