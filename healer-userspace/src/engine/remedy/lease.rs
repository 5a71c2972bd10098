//! What an act borrows is looked up before its intent, and given back whatever follows.

use super::{gate::gate_report, *};
use crate::engine::{
    lease::{Due, Lease, Surveyed, Undone, Why},
    report::Undoing,
};

/// A node's condition is not to come and go with each life of what crashes in a loop.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// A leak that goes on is known again by then.
const LEAKS_AGAIN_WITHIN: Duration = Duration::from_secs(6);

impl Engine {
    /// The hands have looked what the act would turn. Now it can be intended, its undo with it.
    pub fn surveyed(&mut self, now: BootTime, surveyed: Surveyed) {
        let Some(act) = self.surveying.remove(&surveyed.key) else {
            return;
        };
        let id = act.incident;
        let Some(mut incident) = self.incidents.remove(&id) else {
            return;
        };
        let mut next = Next::Wait;
        if let Some(mut plan) = incident.plan.take() {
            let waits = matches!(&plan.stage, Stage::Surveying { key, .. } if *key == surveyed.key);
            match surveyed.turns {
                Ok(mut turns) if waits => {
                    self.leases.join(&mut turns);
                    self.intend(now, &incident, &mut plan, Act { turns, ..act });
                }
                Err(outcome) if waits => next = self.cannot(now, &mut incident, &mut plan, outcome),
                Ok(_) | Err(_) => {}
            }
            incident.plan = Some(plan);
        }
        self.incidents.insert(id, incident);
        self.go_on(now, id, next);
        self.settle(now);
    }

    /// Nothing was touched, nothing was intended.
    pub(super) fn cannot(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        plan: &mut Plan,
        outcome: ActionOutcome,
    ) -> Next {
        let reason = outcome.says().to_owned();
        let report = gate_report("second_look", Verdict::Refuse, &reason, plan.mode);
        self.out.report(now, incident, ReportFact::Gate(report));
        if matches!(outcome, ActionOutcome::Refused { .. }) {
            return self.refused(now, incident, plan, "second_look", &reason);
        }
        self.next_rung(now, incident, plan, Outcome::Unchanged, reason)
    }

    /// Gives back what the incident has borrowed for the cure. True if there was something.
    pub(super) fn give_back(&mut self, now: BootTime, id: IncidentId, why: Why) -> bool {
        let keys = self.leases.of_incident(id, false);
        for key in &keys {
            self.release(now, key, why);
        }
        !keys.is_empty()
    }

    /// Gives back what stands beside the cure: the patient is well.
    pub(super) fn stand_down(&mut self, now: BootTime, id: IncidentId) {
        for key in self.leases.of_incident(id, true) {
            self.release(now, &key, Why::Well);
        }
    }

    /// Whom its owner has brought back is as well as one whom healer has.
    pub(in crate::engine) fn stand_down_of_the_well(&mut self, now: BootTime) {
        let well: Vec<_> = self.well_at().filter(|(_, at)| *at <= now).map(|(key, _)| key.clone()).collect();
        for key in well {
            self.release(now, &key, Why::Well);
        }
    }

    pub(in crate::engine) fn next_well(&self) -> Option<BootTime> {
        self.well_at().map(|(_, at)| at).min()
    }

    /// What stands on after a death, and when whoever lives now in the dead one's place has proved to be well.
    fn well_at(&self) -> impl Iterator<Item = (&ActionKey, BootTime)> {
        let is_settled = |lease: &&Lease| self.incidents.of(&lease.workload).next().is_none();
        self.leases.left_over().filter(is_settled).filter_map(|lease| {
            let youngest =
                self.world.get(&lease.workload)?.living.values().map(|process| process.start).max()?;
            Some((&lease.key, youngest + WELL_AFTER))
        })
    }

    pub(in crate::engine) fn release(&mut self, now: BootTime, key: &ActionKey, why: Why) {
        let undo = self.leases.release(now, key, why);
        self.out.commands.extend(undo.map(Command::Undo));
    }

    /// What an earlier life has left in force.
    pub(in crate::engine) fn inherit(&mut self, now: BootTime, leases: Vec<Lease>) {
        for lease in leases {
            let key = lease.key.clone();
            self.leases.inherit(now, lease);
            self.release(now, &key, Why::Restarted);
        }
    }

    pub(in crate::engine) fn leases_due(&mut self, now: BootTime) {
        for (key, due) in self.leases.due(now) {
            match due {
                Due::Release(why) => {
                    self.release(now, &key, why);
                    if why == Why::Expired {
                        self.is_left_to_itself(now, &key);
                    }
                }
                Due::NoAnswer => {
                    let says = "no answer came in time".to_owned();
                    self.take_undone(now, &Undone { key, says, complete: false });
                }
            }
        }
    }

    /// The time of a lease is over. Where the fault was gone under it, whether it stays away is seen only now.
    fn is_left_to_itself(&mut self, now: BootTime, key: &ActionKey) {
        let is_it = |lease: &&&Lease| lease.key == *key && !lease.action.is_standing();
        let Some(id) = self.leases.all().iter().find(is_it).map(|lease| lease.incident) else {
            return;
        };
        let Some(incident) = self.incidents.get_mut(&id) else {
            return;
        };
        let is_gone = incident.active.is_empty();
        if let Some(plan) = &mut incident.plan {
            stands_alone(now, is_gone, plan);
        }
    }

    /// The hands have turned it back, or could not.
    pub fn undone(&mut self, now: BootTime, undone: &Undone) {
        self.take_undone(now, undone);
        self.settle(now);
    }

    fn take_undone(&mut self, now: BootTime, undone: &Undone) {
        let Some((lease, why, is_news)) = self.leases.undone(now, undone) else {
            return;
        };
        if undone.complete {
            self.out.journal.push_back(JournalEntry::Undone { key: lease.key.clone() });
        }
        let incident = self.incidents.get_mut(&lease.incident).map(|incident| incident.id);
        if is_news {
            self.out.reports.push_back(Report {
                at: now,
                incident,
                workload: Some(lease.workload.clone()),
                fact: ReportFact::Undone(Undoing {
                    key: lease.key,
                    action: lease.action,
                    why: why.words().to_owned(),
                    complete: undone.complete,
                    says: undone.says.clone(),
                }),
            });
        }
        for id in self.incidents.ids_of(&lease.workload) {
            self.unless_in_flight(now, id);
        }
    }

    /// Whoever waited for the undo goes on.
    fn unless_in_flight(&mut self, now: BootTime, id: IncidentId) {
        let waits = |incident: &mut Incident| {
            let plan = incident.plan.as_mut()?;
            if let Stage::Gating { at, .. } = &mut plan.stage {
                *at = Some(now);
                return Some(());
            }
            None
        };
        if self.incidents.get_mut(&id).and_then(waits).is_some() {
            self.step(now, id);
        }
    }

    /// Everything that is lent goes back: healer is about to end.
    pub fn give_back_everything(&mut self, now: BootTime) {
        self.give_back_of(now, None, Why::Stopping);
    }

    /// Returns how many leases are being undone now. `of`: an incident such as `i42`, or the key of an act.
    pub fn give_back_asked(&mut self, now: BootTime, of: Option<&str>) -> usize {
        self.give_back_of(now, of, Why::Asked)
    }

    fn give_back_of(&mut self, now: BootTime, of: Option<&str>, why: Why) -> usize {
        let meant =
            |lease: &&&Lease| of.is_none_or(|of| lease.key.0 == of || lease.incident.to_string() == of);
        let keys: Vec<_> = self.leases.all().iter().filter(meant).map(|lease| lease.key.clone()).collect();
        for key in &keys {
            self.release(now, key, why);
        }
        keys.len()
    }

    /// How many undos the hands are still at.
    pub fn undos_left(&self) -> usize {
        self.leases.left()
    }

    /// What is lent now.
    pub fn leases(&self) -> Vec<&Lease> {
        self.leases.all()
    }
}

/// What was seen to go, and is not only halted, is watched by itself.
pub(super) fn stands_alone(now: BootTime, is_gone: bool, plan: &mut Plan) {
    let least = if plan.class == Class::MemoryLeak { LEAKS_AGAIN_WITHIN } else { Duration::ZERO };
    if let (true, Stage::Verifying(verification)) = (is_gone, &mut plan.stage) {
        verification.on_its_own(now, least);
    }
}
