//! The end of an incident, in words; and the supervisor that waits for one.

use super::*;
use crate::engine::{
    incident::Deeds,
    policy::{
        answer::{Answer, answer},
        choose::Owner,
    },
};

impl Engine {
    pub(super) fn notify(&mut self, now: BootTime, incident: &Incident, plan: &Plan, reason: String) {
        if let Some(diagnosis) = incident.active.get(&plan.class).or_else(|| incident.active.values().next())
        {
            let fact =
                ReportFact::Notify { class: diagnosis.class, sentence: diagnosis.sentence.clone(), reason };
            self.out.report(now, incident, fact);
        }
    }

    pub(in crate::engine) fn close(&mut self, now: BootTime, id: IncidentId, outcome: Outcome, says: String) {
        let Some(incident) = self.incidents.forget(id) else {
            return;
        };
        self.give_back(now, id, Why::IncidentOver);
        let is_well = matches!(outcome, Outcome::Healed | Outcome::RecoveredAlone);
        if is_well || !incident.is_of_death() && incident.active.is_empty() {
            self.stand_down(now, id);
        } else if incident.is_of_death() {
            self.leases.leave_over(id);
        }
        // What a successor's death is called may be another incident's by now.
        if self.subjects.get(&incident.subject) == Some(&id) {
            self.subjects.remove(&incident.subject);
        }
        self.unsettled.insert(incident.workload.clone());
        let is_shadow = incident.plan.as_ref().is_some_and(|plan| plan.mode == Mode::Shadow);
        self.lands(now, &incident, is_well || is_shadow);
        let (fault_at, detected_at) = (incident.fault_at, incident.detected_at);
        let healed_at = (outcome == Outcome::Healed).then_some(now);
        let closed = Closed {
            outcome,
            says,
            to_detect: detected_at.since(fault_at),
            to_act: incident.acted_at.map(|at| at.since(detected_at)),
            to_recover: incident.acted_at.zip(healed_at).map(|(acted, healed)| healed.since(acted)),
        };
        self.out.report(now, &incident, ReportFact::Closed(closed));
        self.out.journal.push_back(JournalEntry::Closed { incident: id });
    }

    /// Nobody waits any more for how it fares.
    pub(in crate::engine) fn lands(&mut self, now: BootTime, incident: &Incident, is_well: bool) {
        let Deeds { some, unsure, .. } = incident.deeds;
        self.canaries.ended(now, incident.id, some.then_some(is_well && !unsure));
    }

    /// Tells a waiting supervisor that no order will come, once that is so.
    pub(in crate::engine) fn settle(&mut self, now: BootTime) {
        for key in core::mem::take(&mut self.unsettled) {
            let waits = self
                .world
                .get(&key)
                .is_some_and(|workload| workload.supervisor.is_some() && workload.living.is_empty());
            let may_act = self.incidents.of(&key).any(|incident| self.may_still_act(now, incident));
            if waits && !may_act {
                let reason = "no act will follow by policy".to_owned();
                self.out.commands.push_back(Command::Release { workload: key, reason });
            }
        }
    }

    /// By its plan, or by a rule that answers later: after its `for:`.
    fn may_still_act(&self, now: BootTime, incident: &Incident) -> bool {
        if incident.plan.as_ref().is_some_and(Plan::may_still_act) {
            return true;
        }
        let Owner::One(policy) = choose::owner(&self.policies, &incident.target) else {
            return false;
        };
        let Answer { now: matched, later } = answer(policy, &incident.active, now);
        choose::effective_mode(policy, self.policies.mode_cap) == Mode::Enforce
            && (later.is_some() || (matched.is_some() && incident.plan.is_none()))
    }
}
