//! Intents that an earlier life of the agent left open: did the act happen? Nothing twice, nothing forgotten.

use core::time::Duration;
use std::collections::BTreeMap;

use super::{
    Engine,
    class::{Certainty, Class},
    command::{Act, ActionOutcome, ActionResult, Command, IncidentId, Intent, JournalEntry},
    detect::Subject,
    diagnosis::{Detail, Diagnosis, Evidence},
    incident::{Deeds, Incident, Plan, Stage},
    policy::{ActionName, Mode},
    report::Outcome,
    time::BootTime,
};
use crate::{
    identity::process::{Process, ProcessId},
    signal::{Fact, Registration, Signal},
    text,
};

/// `healer supervise` tries to come back for 30 s.
const SUPERVISOR_RETURNS: Duration = Duration::from_secs(30);
/// A deadlock takes two seconds to be proved, most others some more, and healer's own start some.
const SEEN_AGAIN: Duration = Duration::from_secs(60);
/// Of what its detector watches for longer before it speaks: a hang for which there is hope, zombies of a parent that
/// waits for others, what memory is left after each of several rounds.
const SEEN_AGAIN_SLOWLY: Duration = Duration::from_secs(240);
/// /proc shows start times in ticks of 10 ms.
const TICK: Duration = Duration::from_millis(10);

impl Engine {
    /// Restarts over a supervisor can be asked after; signals and hooks are never repeated.
    pub(super) fn reopen(&mut self, now: BootTime, intent: Intent) {
        let can_ask = intent.act.rung.action == ActionName::Restart
            && intent.act.target.place.supervise.is_some()
            && intent.act.mode == Mode::Enforce;
        let wait = if can_ask { SUPERVISOR_RETURNS } else { Duration::ZERO };
        let Some(incident) = self.incident_of_intent(now, &intent, now + wait) else {
            self.orphaned(&intent);
            return;
        };
        self.next_incident = self.next_incident.max(incident.id.0 + 1);
        self.subjects.insert(incident.subject.clone(), incident.id);
        if incident.is_of_death() {
            self.world.remember_dead(now, &incident.target);
        }
        let (id, key) = (incident.id, intent.act.key.clone());
        self.incidents.insert(id, incident);
        if can_ask {
            self.reopened.insert(key, intent.act);
        } else {
            self.step(now, id);
        }
    }

    /// The act is over; whether it helped is watched anew.
    pub(super) fn watch_again(&mut self, now: BootTime, intent: Intent) {
        let Some(mut incident) = self.incident_of_intent(now, &intent, now) else {
            let (key, workload, class) = (intent.act.key, intent.act.workload, intent.act.class);
            let outcome = Outcome::Unknown.name().to_owned();
            self.out.journal.push_back(JournalEntry::Verified { key, workload, class, outcome });
            return;
        };
        self.next_incident = self.next_incident.max(incident.id.0 + 1);
        incident.acted_at = Some(intent.at);
        incident.deeds.note(intent.act.rung.action, true);
        if let Some(mut plan) = incident.plan.take() {
            self.watch(now, &incident, &mut plan);
            incident.plan = Some(plan);
        }
        self.world.remember_dead(now, &incident.target);
        self.subjects.insert(incident.subject.clone(), incident.id);
        self.incidents.insert(incident.id, incident);
    }

    /// A detector of this life raises what was being healed, perhaps of another subject than the journal tells.
    pub(super) fn seen_by_an_earlier_life(
        &mut self,
        subject: &Subject,
        diagnosis: &Diagnosis,
    ) -> Option<IncidentId> {
        let is_the_same = |incident: &&mut Incident| {
            incident.unseen_until.is_some()
                && incident.active.contains_key(&diagnosis.class)
                && incident.target.id() == diagnosis.target.id()
        };
        let incident = self.incidents.values_mut().find(is_the_same)?;
        let (id, before) = (incident.id, core::mem::replace(&mut incident.subject, subject.clone()));
        self.subjects.remove(&before);
        self.subjects.insert(subject.clone(), id);
        Some(id)
    }

    /// The policy that wanted it is gone: the intent is closed, nothing follows.
    fn orphaned(&mut self, intent: &Intent) {
        let reason = format!("policy {} is no longer loaded", intent.policy);
        let outcome = ActionOutcome::Unknown { reason };
        let result = ActionResult { key: intent.act.key.clone(), outcome };
        self.out.journal.push_back(JournalEntry::Result(result));
    }

    fn incident_of_intent(&self, now: BootTime, intent: &Intent, until: BootTime) -> Option<Incident> {
        let policy = self.policies.policies.iter().find(|policy| policy.name == intent.policy)?.clone();
        let rule_index = policy.rules.iter().position(|rule| rule.name == intent.rule)?;
        let act = &intent.act;
        let is_dead = act.look.iter().any(|look| matches!(look, super::command::Look::StillDown(_)));
        let subject = if is_dead {
            Subject::Death(act.target.id())
        } else {
            Subject::Process(act.target.id(), act.class)
        };
        let diagnosis = diagnosis_again(now, act);
        Some(Incident {
            id: act.incident,
            subject,
            workload: act.workload.clone(),
            opened_at: intent.at,
            fault_at: intent.at,
            detected_at: intent.at,
            active: BTreeMap::from([(act.class, diagnosis)]),
            levels: BTreeMap::new(),
            target: act.target.clone(),
            plan: Some(Plan {
                policy,
                rule_index,
                class: act.class,
                mode: act.mode,
                rung: intent.rung_index,
                attempt: tenths(now),
                sick_since: intent.at,
                key: Some(act.key.clone()),
                failure: None,
                stage: Stage::Reconciling { key: act.key.clone(), until },
            }),
            look_again_at: None,
            acted_at: None,
            deeds: Deeds::default(),
            well_since: None,
            root_seen: None,
            peers_asked: None,
            pause: None,
            unseen_until: (!is_dead).then_some(now.max(until) + seen_again(act.class)),
            read_only: intent.read_only.clone(),
        })
    }

    /// A supervisor came back: its last key tells whether the order was carried out.
    pub(super) fn reconcile(&mut self, now: BootTime, signal: &Signal, child: &Process) {
        let Fact::Registered(registration) = &signal.fact else {
            return;
        };
        let open = self.reopened.values().find(|act| act.workload == child.workload).cloned();
        let Some(act) = open else { return };
        self.reopened.remove(&act.key);
        match what_happened(&act, child, registration) {
            Happened::Done => {
                let says =
                    format!("{} had carried out the order before the agent came back", registration.name);
                self.finish_act(now, ActionResult { key: act.key, outcome: ActionOutcome::Done { says } });
            }
            Happened::NotYet => self.order_again(now, act),
            Happened::SomebodyElse => {
                let reason = "somebody else has started it meanwhile".to_owned();
                self.finish_act(
                    now,
                    ActionResult { key: act.key, outcome: ActionOutcome::Refused { reason } },
                );
            }
        }
    }

    /// The same key again: a supervisor that has carried it out answers without repeating.
    fn order_again(&mut self, now: BootTime, act: Act) {
        let plan = self.incidents.get_mut(&act.incident).and_then(|incident| incident.plan.as_mut());
        if let Some(plan) = plan {
            plan.stage = Stage::Acting { key: act.key.clone(), until: now + SUPERVISOR_RETURNS };
            self.out.commands.push_back(Command::Act(Box::new(act)));
        }
    }
}

/// In this time a fault that is still there is diagnosed anew.
fn seen_again(class: Class) -> Duration {
    const SLOW: [Class; 3] = [Class::Hang, Class::MemoryLeak, Class::ZombieChildren];
    if SLOW.contains(&class) { SEEN_AGAIN_SLOWLY } else { SEEN_AGAIN }
}

/// Of seconds since boot. Nobody tries so often: a key that an earlier life gave to an intent that never reached the disk
/// is not given again.
fn tenths(now: BootTime) -> u32 {
    u32::try_from(now.0 / 100_000_000).unwrap_or(u32::MAX)
}

enum Happened {
    Done,
    NotYet,
    SomebodyElse,
}

fn what_happened(act: &Act, child: &Process, registration: &Registration) -> Happened {
    if registration.last_key.as_deref() == Some(act.key.0.as_str()) {
        Happened::Done
    } else if registration.waiting.is_some() || same(child.id(), act.target.id()) {
        Happened::NotYet
    } else {
        Happened::SomebodyElse
    }
}

/// Equal pid, and equal start within what /proc can tell.
fn same(one: ProcessId, other: ProcessId) -> bool {
    one.pid == other.pid && one.start.since(other.start).max(other.start.since(one.start)) <= TICK
}

/// The journal keeps the act, not the evidence: that is in the audit.
fn diagnosis_again(now: BootTime, act: &Act) -> Diagnosis {
    Diagnosis {
        class: act.class,
        certainty: Certainty::Proved,
        target: act.target.clone(),
        related: Vec::new(),
        fault_at: now,
        detected_at: now,
        sentence: format!(
            "{} ({}) was being healed when healer ended",
            text::printable(act.workload.given_name().unwrap_or(&act.target.comm)),
            act.class
        ),
        evidence: vec![Evidence {
            signal: "journal".into(),
            at: now,
            says: format!("open intent {}", act.key),
        }],
        lost: 0,
        from_absence: false,
        detail: Detail::default(),
    }
}
