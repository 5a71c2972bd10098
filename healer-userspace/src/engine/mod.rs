//! Decides. Pure: the caller brings time and signals and takes commands, journal entries and reports away.
//! The same trace gives the same decisions.

mod adopted; // successors with another parent
pub mod cascade; // whose fault it is in the end
pub mod certificate;
pub mod class;
pub mod command;
pub mod death;
mod decide; // findings → incidents → the rule that answers
pub mod detect;
pub mod diagnosis;
mod ended;
mod incident;
mod incidents;
mod keyed;
pub mod lease;
mod memory;
mod ordinals;
mod outbox;
mod pause; // the owner's annotation
pub mod policy;
mod reconcile; // intents that an earlier life left open
mod remedy; // gates → intent → act → verification → next rung
pub mod report;
pub mod safety;
#[cfg(test)]
mod tests;
pub mod time;
pub mod topology;
mod unanswered; // too little for a verdict yet
mod verify;
pub mod world;

use std::collections::{BTreeMap, BTreeSet};

use adopted::Adopted;
use certificate::{Certificate, certify};
use command::{
    Act, ActionKey, ActionOutcome, ActionResult, Command, IncidentId, Intent, JournalEntry, Recovered,
};
use death::Death;
use detect::{Context, DETECTORS, Detector, Finding, Subject};
use ended::Ended;
use incident::Incident;
use incidents::Incidents;
use lease::Leases;
use memory::Memory;
use ordinals::Ordinals;
use outbox::Outbox;
use policy::{PolicySet, maintenance::WallClock};
use report::{Report, ReportFact};
use safety::{canary::Canaries, ledger::Ledger, storm::Storms};
use time::BootTime;
use unanswered::Unanswered;
use world::{Tracking, World};

use crate::{
    identity::process::{Process, WorkloadKey},
    signal::{Fact, Signal},
};

pub struct Engine {
    policies: PolicySet,
    world: World,
    memory: Memory,
    unanswered: Unanswered,
    ended: Ended,
    ordinals: Ordinals,
    adopted: Adopted,
    detectors: Vec<Box<dyn Detector + Send>>,
    incidents: Incidents,
    subjects: BTreeMap<Subject, IncidentId>,
    ledger: Ledger,
    canaries: Canaries,
    storms: Storms,
    born: BootTime,
    wall: Option<WallClock>,
    paused: Option<String>,
    journal_error: Option<String>,
    next_incident: u64,
    next_question: u64,
    /// Workloads whose supervisor may have to be told that no order will come.
    unsettled: BTreeSet<WorkloadKey>,
    /// Acts of which the hands look what they would turn.
    surveying: BTreeMap<ActionKey, Act>,
    leases: Leases,
    /// Acts whose intent is being synced.
    pending: BTreeMap<ActionKey, Intent>,
    /// Acts of an earlier life, until their supervisor comes back.
    reopened: BTreeMap<ActionKey, Act>,
    out: Outbox,
}

impl Engine {
    /// Without a wall clock, as a recorded trace has none: no maintenance is known.
    pub fn new(now: BootTime, policies: PolicySet, recovered: Recovered) -> Self {
        Self::begin(now, None, policies, recovered)
    }

    /// What the journal left open goes on at once, and has to know whether somebody works on the machine.
    pub fn by_the_wall(now: BootTime, clock: WallClock, policies: PolicySet, recovered: Recovered) -> Self {
        Self::begin(now, Some(clock), policies, recovered)
    }

    fn begin(now: BootTime, wall: Option<WallClock>, policies: PolicySet, recovered: Recovered) -> Self {
        let mut engine = Self {
            policies,
            world: World::default(),
            memory: Memory::default(),
            unanswered: Unanswered::default(),
            ended: Ended::default(),
            ordinals: Ordinals::default(),
            adopted: Adopted::default(),
            detectors: DETECTORS.iter().map(|entry| (entry.build)()).collect(),
            incidents: Incidents::default(),
            subjects: BTreeMap::new(),
            ledger: Ledger::default(),
            canaries: Canaries::default(),
            storms: Storms::default(),
            born: now,
            wall,
            paused: None,
            journal_error: None,
            next_incident: 1,
            next_question: 1,
            unsettled: BTreeSet::new(),
            surveying: BTreeMap::new(),
            leases: Leases::default(),
            pending: BTreeMap::new(),
            reopened: BTreeMap::new(),
            out: Outbox::default(),
        };
        engine.recall(now, recovered);
        engine
    }

    /// What the journal had from an earlier life, if it could not be read at start.
    pub fn remember(&mut self, now: BootTime, recovered: Recovered) {
        self.recall(now, recovered);
        self.settle(now);
    }

    fn recall(&mut self, now: BootTime, recovered: Recovered) {
        self.next_incident = self.next_incident.max(recovered.next_incident);
        self.ledger.recall(recovered.acts);
        self.inherit(now, recovered.leases);
        for intent in recovered.verifying {
            self.watch_again(now, intent);
        }
        for intent in recovered.open {
            self.reopen(now, intent);
        }
    }

    /// Takes one signal in. Afterwards call the `poll_` functions until they are empty.
    pub fn observe(&mut self, now: BootTime, signal: &Signal) {
        let signal = &*self.adopted.name(signal, &self.world, &self.policies);
        if let (Fact::Exited(exit), Some(process)) = (&signal.fact, &signal.process)
            && !self.ended.is_news(process.id(), exit.is_abnormal())
            // Who dies at once may be dead before it was introduced; the supervisor tells it again.
            && !self.world.is_living(&process.workload, process.id())
        {
            return;
        }
        if let Some(tracking) = self.world.update(now, signal, &self.policies) {
            self.out.tracking.push_back(tracking);
        }
        self.memory.note(now, signal);
        self.unanswered.note(signal);
        let certificate = self.certificate(signal);
        self.tell_death(signal, certificate.as_ref());
        self.follow(now, signal, certificate.as_ref());
        self.detect(now, certificate.as_ref(), Some(signal));
        self.settle(now);
    }

    /// Time passed: whatever was due by `now` happens.
    pub fn advance(&mut self, now: BootTime) {
        self.detect(now, None, None);
        self.leases_due(now);
        self.stand_down_of_the_well(now);
        let due: Vec<_> = self
            .incidents
            .values()
            .filter(|incident| incident.deadline().is_some_and(|at| at <= now))
            .map(|incident| incident.id)
            .collect();
        for id in due {
            self.step(now, id);
        }
        self.settle(now);
    }

    /// When `advance` must be called next.
    pub fn next_deadline(&self) -> Option<BootTime> {
        let detectors = self.detectors.iter().filter_map(|detector| detector.deadline());
        let incidents = self.incidents.values().filter_map(Incident::deadline);
        detectors.chain(incidents).chain(self.leases.deadline()).chain(self.next_well()).min()
    }

    /// The store has synced the intent: now, and not before, the act may start.
    pub fn committed(&mut self, now: BootTime, key: &ActionKey) {
        self.start_act(now, key);
        self.settle(now);
    }

    /// The store could not write: `Some(error)` closes the gate `journal_writable`, `None` opens it.
    pub fn journal_state(&mut self, now: BootTime, error: Option<String>) {
        self.journal_error = error;
        self.wake_held(now);
        self.settle(now);
    }

    /// The intent never reached the disk: nothing was done, the gates are asked again. Whether others can reach it, the
    /// store tells by itself.
    pub fn commit_failed(&mut self, now: BootTime, key: &ActionKey) {
        self.intent_lost(now, key);
        self.settle(now);
    }

    pub fn action_finished(&mut self, now: BootTime, result: ActionResult) {
        self.finish_act(now, result);
        self.settle(now);
    }

    pub fn replace_policy(&mut self, now: BootTime, policies: PolicySet) {
        self.policies = policies;
        self.wake_by_policy(now);
        self.settle(now);
    }

    /// More is known of the container of somebody who lives on.
    pub fn described(&mut self, process: &Process) {
        self.world.described(process);
    }

    /// Whenever somebody may have set the clock.
    pub fn set_wall_clock(&mut self, clock: WallClock) {
        self.wall = Some(clock);
    }

    /// `Some(who)` pauses acting (never sensing), `None` resumes.
    pub fn pause(&mut self, now: BootTime, by: Option<String>) {
        self.paused = by;
        self.wake_held(now);
        self.settle(now);
    }

    /// Is there an intent to be synced?
    pub fn has_journal(&self) -> bool {
        !self.out.journal.is_empty()
    }

    pub fn poll_command(&mut self) -> Option<Command> {
        self.out.commands.pop_front()
    }

    pub fn poll_journal(&mut self) -> Option<JournalEntry> {
        self.out.journal.pop_front()
    }

    pub fn poll_report(&mut self) -> Option<Report> {
        self.out.reports.pop_front()
    }

    /// Every end that was no plain success, also those that are nobody's incident.
    pub fn poll_death(&mut self) -> Option<Death> {
        self.out.deaths.pop_front()
    }

    /// Of whom the kernel must report more than of others, or no longer.
    pub fn poll_tracking(&mut self) -> Option<Tracking> {
        self.out.tracking.pop_front()
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    pub fn paused(&self) -> Option<&str> {
        self.paused.as_deref()
    }

    pub fn open_incidents(&self) -> usize {
        self.incidents.len()
    }

    fn certificate(&mut self, signal: &Signal) -> Option<Certificate> {
        let (Fact::Exited(exit), Some(process)) = (&signal.fact, &signal.process) else {
            return None;
        };
        let own_end = self.world.get(&process.workload).filter(|workload| workload.ended_badly(process.id()));
        let ordinal = match own_end {
            Some(workload) => workload.abnormal_ends,
            None if exit.is_abnormal() => self.ordinals.next(process),
            None => 1,
        };
        let mut certificate = certify(&self.memory, process, *exit, signal.at, ordinal);
        certificate.own = self.ledger.struck_by(signal.at, process.id()).map(|key| key.0.clone());
        self.memory.note_end(signal.at, process, &certificate);
        Some(certificate)
    }

    fn tell_death(&mut self, signal: &Signal, certificate: Option<&Certificate>) {
        let (Some(process), Some(certificate)) = (&signal.process, certificate) else {
            return;
        };
        if let Some(death) = Death::of(certificate, &self.memory, process, signal.at) {
            self.out.died(death);
        }
    }

    fn detect(&mut self, now: BootTime, certificate: Option<&Certificate>, signal: Option<&Signal>) {
        let mut found = Vec::new();
        let context =
            Context { now, world: &self.world, memory: &self.memory, policies: &self.policies, certificate };
        for detector in &mut self.detectors {
            match signal {
                Some(signal) => detector.observe(&context, signal, &mut found),
                None => detector.advance(&context, &mut found),
            }
        }
        self.take_findings(now, found);
    }

    fn take_findings(&mut self, now: BootTime, found: Vec<Finding>) {
        let mut touched = BTreeSet::new();
        for finding in found {
            touched.extend(match finding {
                Finding::Raised { subject, diagnosis } => Some(self.raised(now, subject, *diagnosis)),
                Finding::Restated { subject, diagnosis } => self.restated(now, subject, *diagnosis),
                Finding::Cleared { subject, class, says } => self.cleared(now, &subject, class, &says),
                Finding::Level { subject, class, level } => self.level_is(&subject, class, level),
                Finding::Watch(parent) => self.track(Tracking::Watch(parent)),
                // The kernel has one mark for both.
                Finding::Unwatch(parent) if self.world.is_main(parent) => None,
                Finding::Unwatch(parent) => self.track(Tracking::Untrack(parent)),
                Finding::Remark { event, workload, says } => {
                    let fact = ReportFact::Agent { event: event.to_owned(), says };
                    let report = Report { at: now, incident: None, workload: Some(workload), fact };
                    self.out.reports.push_back(report);
                    None
                }
            });
        }
        // All classes of one death are on the table before a rule is chosen.
        for id in touched {
            if !self.is_of_a_crowd(now, id) {
                self.step(now, id);
            }
        }
    }

    fn track(&mut self, tracking: Tracking) -> Option<IncidentId> {
        self.out.tracking.push_back(tracking);
        None
    }

    fn outcome_is_possible_effect(outcome: &ActionOutcome) -> bool {
        match outcome {
            ActionOutcome::Done { .. } | ActionOutcome::WouldDo { .. } | ActionOutcome::Unknown { .. } => {
                true
            }
            ActionOutcome::Refused { .. } | ActionOutcome::Failed { .. } => false,
        }
    }
}
