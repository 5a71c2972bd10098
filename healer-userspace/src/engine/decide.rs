//! Findings become incidents; the owner's first matching rule becomes the plan.

use core::time::Duration;
use std::collections::BTreeMap;

use super::{
    Engine,
    class::Class,
    command::IncidentId,
    detect::Subject,
    diagnosis::Diagnosis,
    incident::{Deeds, Incident, Plan, Stage},
    policy::{
        Mode,
        answer::{Answer, answer},
        choose::{self, Owner},
    },
    report::{self, Outcome, ReportFact},
    time::BootTime,
    verify::Disk,
};

/// After a death another class of the same death may follow: `down` waits 5 s for the owner's own restart.
const DEATH_SETTLES: Duration = Duration::from_secs(6);
/// Deaths of one workload that wait for an answer: more of them ask for nothing new.
const CROWD: usize = 8;

impl Engine {
    pub(super) fn raised(&mut self, now: BootTime, subject: Subject, diagnosis: Diagnosis) -> IncidentId {
        let id = self.incident_of(now, subject, &diagnosis);
        if let Some(incident) = self.incidents.get_mut(&id) {
            let before = incident.active.get(&diagnosis.class);
            let first = before.map(|kept| (kept.detected_at, kept.certainty));
            let is_known_better = before.is_some_and(|before| says_more(before, &diagnosis));
            let is_the_same = before.is_some_and(|before| {
                before.certainty >= diagnosis.certainty && !reaches_otherwise(before, &diagnosis)
            });
            let mut kept = diagnosis.clone();
            // `for:` counts from the first time that the finding was raised as surely and as wide as now.
            kept.detected_at = first.filter(|_| is_the_same).map_or(kept.detected_at, |(at, _)| at);
            incident.levels.extend(kept.detail.level.map(|level| (kept.class, level)));
            note_read_only(incident, &kept);
            incident.active.insert(kept.class, kept);
            incident.well_since = None;
            if let Some(Plan { class, stage: Stage::Verifying(verification), .. }) = &mut incident.plan
                && first.is_none()
                && *class == diagnosis.class
                && *class == Class::MemoryLeak
            {
                // A backlog flares up in every other class once it is let go, and is worked off.
                verification.came_back(&diagnosis.sentence);
            }
            if incident.unseen_until.take().is_some()
                && let Some(plan) = &mut incident.plan
            {
                plan.wake(now);
            }
            if is_known_better || first.is_none_or(|(_, certainty)| certainty < diagnosis.certainty) {
                self.out.report(now, incident, ReportFact::Diagnosis(diagnosis));
            }
        }
        id
    }

    /// What is closed stays so.
    pub(super) fn restated(
        &mut self,
        now: BootTime,
        subject: Subject,
        diagnosis: Diagnosis,
    ) -> Option<IncidentId> {
        self.subjects.contains_key(&subject).then(|| self.raised(now, subject, diagnosis))
    }

    /// One more death of a workload of which enough wait for their answer already: it is told, and closed.
    pub(super) fn is_of_a_crowd(&mut self, now: BootTime, id: IncidentId) -> bool {
        let Some(incident) =
            self.incidents.get_mut(&id).filter(|one| one.is_of_death() && one.plan.is_none())
        else {
            return false;
        };
        let workload = incident.workload.clone();
        let waiting = self.incidents.ids_of(&workload).len();
        if waiting <= CROWD {
            return false;
        }
        let says = format!("{} deaths of {workload} wait for an answer already", waiting - 1);
        self.close(now, id, Outcome::Notified, says);
        true
    }

    /// Returns the incident if somebody waits for such a number.
    pub(super) fn level_is(
        &mut self,
        subject: &Subject,
        class: Class,
        level: Option<f64>,
    ) -> Option<IncidentId> {
        let id = *self.subjects.get(subject)?;
        let incident = self.incidents.get_mut(&id)?;
        match level {
            Some(level) => drop(incident.levels.insert(class, level)),
            None => drop(incident.levels.remove(&class)),
        }
        if let Some(active) = incident.active.get_mut(&class) {
            active.detail.level = level;
        }
        let is_verifying = |plan: &Plan| matches!(plan.stage, Stage::Verifying(_));
        incident.plan.as_ref().is_some_and(is_verifying).then_some(id)
    }

    /// A condition is over. Returns the incident if it has to be looked at.
    pub(super) fn cleared(
        &mut self,
        now: BootTime,
        subject: &Subject,
        class: Class,
        says: &str,
    ) -> Option<IncidentId> {
        let id = *self.subjects.get(subject)?;
        let incident = self.incidents.get_mut(&id)?;
        let in_flight = incident.plan.as_ref().is_some_and(Plan::is_in_flight);
        if in_flight && incident.is_of_death() {
            // The successor has appeared; whether it is well, verification says.
            return Some(id);
        }
        incident.active.remove(&class);
        incident.levels.remove(&class);
        if incident.active.is_empty() {
            incident.well_since = Some(now);
        }
        let others = incident.active.keys().any(|left| incident_lasts(&incident.subject, *left));
        if !in_flight && !others {
            let patient = incident.target.id();
            let was_cut_down = !incident.is_of_death()
                && self.ended.was_cut_down(patient)
                && self.ledger.struck_by(now, patient).is_none();
            let outcome = if was_cut_down { Outcome::Died } else { Outcome::RecoveredAlone };
            self.close(now, id, outcome, says.to_owned());
            return None;
        }
        Some(id)
    }

    fn incident_of(&mut self, now: BootTime, subject: Subject, diagnosis: &Diagnosis) -> IncidentId {
        if let Some(id) = self.subjects.get(&subject) {
            return *id;
        }
        if let Some(id) = self.seen_by_an_earlier_life(&subject, diagnosis) {
            return id;
        }
        self.relapsed(diagnosis);
        let id = IncidentId(self.next_incident);
        self.next_incident += 1;
        self.subjects.insert(subject.clone(), id);
        self.incidents.insert(
            id,
            Incident {
                id,
                subject,
                workload: diagnosis.target.workload.clone(),
                opened_at: now,
                fault_at: diagnosis.fault_at,
                detected_at: diagnosis.detected_at,
                active: BTreeMap::new(),
                levels: BTreeMap::new(),
                target: diagnosis.target.clone(),
                plan: None,
                look_again_at: None,
                acted_at: None,
                deeds: Deeds::default(),
                well_since: None,
                root_seen: None,
                peers_asked: None,
                pause: None,
                unseen_until: None,
                read_only: Vec::new(),
            },
        );
        id
    }

    /// The successor has the same fault: whoever is verifying it has not healed it.
    fn relapsed(&mut self, diagnosis: &Diagnosis) {
        for incident in self.incidents.values_mut() {
            if incident.workload == diagnosis.target.workload
                && incident.target.id() != diagnosis.target.id()
                && let Some(plan) = incident.plan.as_mut().filter(|plan| plan.class == diagnosis.class)
                && let Stage::Verifying(verification) = &mut plan.stage
            {
                verification.relapsed(&diagnosis.sentence);
            }
        }
    }

    /// Chooses the rule, or a better one than before; after a reload, one of what is in force now. True if the plan
    /// is new. Not to be asked while an act is in flight.
    pub(super) fn choose_plan(&mut self, now: BootTime, incident: &mut Incident) -> bool {
        incident.look_again_at = None;
        let policy = match choose::owner(&self.policies, &incident.target) {
            Owner::One(policy) => policy,
            Owner::None => {
                self.no_plan(now, incident, "no policy matches this workload".to_owned());
                return false;
            }
            Owner::Clash(one, other) => {
                let says =
                    format!("policies {} and {} match equally well: neither may act", one.name, other.name);
                self.no_plan(now, incident, says);
                return false;
            }
        };
        let mode = choose::effective_mode(policy, self.policies.mode_cap);
        let holds = |plan: &&Plan| plan.policy == *policy && plan.mode == mode;
        let rule_of_old = incident.plan.as_ref().filter(holds).map(|plan| plan.rule_index);
        let Answer { now: matched, later } = answer(policy, &incident.active, now);
        incident.look_again_at = later;
        let Some((rule_index, class)) = matched else {
            if rule_of_old.is_none() && later.is_none() {
                let says = format!("no rule of policy {} answers", policy.name);
                self.no_plan(now, incident, says);
            }
            return false;
        };
        if rule_of_old.is_some_and(|old| old <= rule_index) {
            return false;
        }
        let plan = Plan {
            policy: policy.clone(),
            rule_index,
            class,
            mode,
            rung: 0,
            sick_since: incident.active.get(&class).map_or(now, |found| found.detected_at),
            // Keys of acts stay unique in an incident.
            attempt: incident.plan.as_ref().map_or(0, |plan| plan.attempt),
            key: None,
            failure: None,
            stage: Stage::Gating { at: Some(now), held_by: None, since: now },
        };
        self.lands(now, incident, false);
        self.out.report(now, incident, ReportFact::Plan(plan_report(&plan)));
        incident.plan = Some(plan);
        true
    }

    fn no_plan(&mut self, now: BootTime, incident: &mut Incident, says: String) {
        if incident.plan.as_ref().is_some_and(|plan| matches!(plan.stage, Stage::Over(..))) {
            return;
        }
        // What an earlier load of the policies wanted is no longer wanted.
        incident.plan = None;
        self.lands(now, incident, false);
        let fact = report::Plan { policy: None, rule: None, mode: Mode::Observe, ladder: Vec::new(), says };
        self.out.report(now, incident, ReportFact::Plan(fact));
    }

    /// May an incident without a plan in progress be closed?
    pub(super) fn nothing_follows(&self, now: BootTime, incident: &mut Incident) -> bool {
        if !incident.is_of_death() {
            // It may have cleared while an act was under way.
            return incident.active.is_empty();
        }
        if incident.look_again_at.is_some_and(|at| at > now) {
            return false;
        }
        let workload = self.world.get(&incident.workload);
        // A child that dies at once may be introduced after its end was seen.
        let may_be_down = workload.is_none_or(|workload| {
            !workload.is_stopping(now) && workload.living.keys().all(|id| self.ended.knows(*id))
        }) && !incident.active.contains_key(&Class::Down)
            && choose::tracked(&self.policies, &incident.target);
        let settles_at = incident.opened_at + DEATH_SETTLES;
        if may_be_down && now < settles_at {
            incident.look_again_at = Some(settles_at);
            return false;
        }
        true
    }
}

/// Of which kind it is, or what else has failed.
fn says_more(found: &Diagnosis, now: &Diagnosis) -> bool {
    let (before, detail) = (&found.detail, &now.detail);
    let is_kind_new = before.kind.is_none() && detail.kind.is_some();
    let are_disks_new = before.evidence_count != detail.evidence_count || before.proof != detail.proof;
    is_kind_new || reaches_otherwise(found, now) || now.class == Class::IoError && are_disks_new
}

/// One workload, its network namespace or the whole node.
fn reaches_otherwise(before: &Diagnosis, now: &Diagnosis) -> bool {
    now.class == Class::NetworkIsolation && before.detail.kind != now.detail.kind
}

/// Whoever is verified already is asked about them as well.
fn note_read_only(incident: &mut Incident, diagnosis: &Diagnosis) {
    for disk in Disk::all_of(diagnosis) {
        if let Some(Plan { stage: Stage::Verifying(verification), .. }) = &mut incident.plan {
            verification.ask_about(disk.clone());
        }
        incident.read_only.retain(|known| !known.is_same(&disk));
        incident.read_only.push(disk);
    }
}

/// Of a death, only `down` lasts: the rest has happened.
fn incident_lasts(subject: &Subject, class: Class) -> bool {
    match subject {
        Subject::Death(_) => class == Class::Down,
        Subject::Process(..) | Subject::Workload(..) | Subject::Network(..) | Subject::Peer(..) => true,
    }
}

fn plan_report(plan: &Plan) -> report::Plan {
    let ladder: Vec<_> = plan.rule().escalate.iter().map(|rung| rung.action.name().to_owned()).collect();
    report::Plan {
        policy: Some(plan.policy.name.clone()),
        rule: Some(plan.rule().name.clone()),
        mode: plan.mode,
        says: format!(
            "policy {}, rule {} ({}): {}",
            plan.policy.name,
            plan.rule().name,
            plan.mode.name(),
            ladder.join(" → ")
        ),
        ladder,
    }
}
