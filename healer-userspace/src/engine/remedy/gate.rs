//! The current rung through the gates; what passes becomes an intent.

use super::*;
use crate::engine::pause::Asked;
use crate::engine::{
    class::Certainty,
    safety::{STALE, canary::Group, ledger::BreakerState},
};
use crate::identity::process::WorkloadKey;

impl Engine {
    /// The current rung: notifications pass at once, the rest goes through the gates.
    pub(super) fn climb(&mut self, now: BootTime, incident: &mut Incident, plan: &mut Plan) -> Next {
        if self.leases.is_undoing(incident.id) {
            // The next rung meets the patient as it was before this one.
            plan.wait_for_undo();
            return Next::Wait;
        }
        if plan.mode == Mode::Observe {
            return over(plan, Outcome::Notified, "observe mode: nothing is done".to_owned());
        }
        let given_up = self.let_rest(now, incident, plan).or_else(|| not_seen_again(now, incident, plan));
        if let Some(next) = given_up {
            return next;
        }
        let Some(rung) = plan.rung().cloned() else {
            return self.ladder_exhausted(now, incident, plan);
        };
        if rung.action == ActionName::Notify {
            self.notify(now, incident, plan, format!("rule {}", plan.rule().name));
            plan.rung += 1;
            return Next::Again;
        }
        if rung.action == ActionName::Capture {
            // Touches nothing: of the gates, only whether it can be written down has to be asked.
            match self.journal_error.clone() {
                Some(error) => self.hold_capture(now, incident, plan, error),
                None => self.propose(now, incident, plan, rung, Vec::new()),
            }
            return Next::Wait;
        }
        let Some(diagnosis) = incident.active.get(&plan.class).cloned() else {
            return over(plan, Outcome::RecoveredAlone, "the finding is gone".to_owned());
        };
        if self.asks_who_uses_whom(now, incident, plan) || self.asks_whether_paused(now, incident, plan) {
            return Next::Wait;
        }
        let active: Vec<Class> = self.active_classes(incident);
        let busy = self.busy_with(incident);
        let lent = self.lent_to(incident);
        let target = incident.target.clone();
        let root = self.root_of(now, incident);
        let awaited = self.awaits(now, incident, plan);
        let group = group(plan);
        if !incident.has_acted(plan) {
            let safety = &plan.policy.safety;
            let soak = safety.canary.map_or(plan.policy.verify.stable_for, |canary| canary.soak);
            self.canaries.fell(now, &group, &incident.workload, soak, &safety.breaker);
        }
        self.canaries.waits_no_more(incident.id);
        if root.is_some() {
            incident.root_seen = Some(now);
        }
        let proposal = Proposal {
            now,
            diagnosis: &diagnosis,
            workload: &incident.workload,
            target: &target,
            policy: &plan.policy,
            rule: plan.rule(),
            rung: &rung,
            escalating: incident.has_acted(plan),
            has_passed: incident.is_of_death() && !incident.active.contains_key(&Class::Down),
            mode: plan.mode,
        };
        let facts = Facts {
            policies: &self.policies,
            ledger: &self.ledger,
            canaries: &self.canaries,
            storms: &self.storms,
            workloads: &|| self.followed(),
            born: self.born,
            wall: self.wall,
            paused: self.paused.as_deref(),
            pod_is_paused: incident.pause.as_ref().and_then(Asked::told),
            journal_error: self.journal_error.as_deref(),
            lost: self.memory.lost_since(diagnosis.fault_at),
            root: root.as_ref(),
            recovers_until: incident.root_seen.map(|seen| seen + RECOVERS),
            awaited: awaited.as_ref(),
            active: &active,
            under_way: self.under_way(plan.mode, None),
            under_way_here: self.under_way(plan.mode, Some(&incident.workload)),
            deaf: self.is_deaf(incident),
            busy: busy.as_deref(),
            lent: lent.as_deref(),
        };
        let (reports, blocked) = ask_gates(&proposal, &facts);
        let looks = safety::looks(&proposal, &active, incident.is_of_death());
        self.note_victim(now, incident, plan, &reports);
        let Stage::Gating { held_by, since, .. } = &plan.stage else {
            return Next::Wait;
        };
        let was_held = held_by.clone();
        let since = *since;
        match blocked {
            Some((gate, ruling)) => {
                let has_turned_out =
                    |said: &str| safety::is_interim(said) && !safety::is_interim(&ruling.reason);
                let is_news =
                    was_held.as_ref().is_none_or(|(before, said)| *before != gate || has_turned_out(said));
                if is_news {
                    self.report_gates(now, incident, reports);
                }
                if ruling.verdict == Verdict::Refuse {
                    return self.refused(now, incident, plan, gate, &ruling.reason);
                }
                if gate == "canary" {
                    self.canaries.waits(&group, &incident.workload, incident.id);
                }
                self.tell_of_storm(now, incident, plan, gate, &ruling.reason);
                let long = ruling.until.is_none_or(|until| until.since(now) > LONG_HOLD);
                if is_news && long && plan.mode == Mode::Enforce {
                    self.notify(now, incident, plan, format!("held by gate {gate}: {}", ruling.reason));
                }
                plan.stage = Stage::Gating { at: ruling.until, held_by: Some((gate, ruling.reason)), since };
                Next::Wait
            }
            None => {
                self.report_gates(now, incident, reports);
                self.propose(now, incident, plan, rung, looks);
                Next::Wait
            }
        }
    }

    /// Only who is to be struck for its own fault counts for a storm: from the gate `budget` on, nothing but patience
    /// keeps it from an act.
    fn note_victim(&mut self, now: BootTime, incident: &Incident, plan: &Plan, reports: &[GateReport]) {
        if reports.iter().any(|report| report.gate == "budget") {
            self.storms.fell(now, incident.id, &incident.workload, plan.mode);
        } else if !incident.has_acted(plan) {
            self.storms.excuse(incident.id);
        }
    }

    /// Once, whoever is held by it.
    fn tell_of_storm(&mut self, now: BootTime, incident: &Incident, plan: &Plan, gate: &str, reason: &str) {
        let Some(storm) = self.policies.storm.filter(|_| gate == "storm" && plan.mode == Mode::Enforce)
        else {
            return;
        };
        if self.storms.is_news(now, storm.window) {
            self.notify(now, incident, plan, format!("held by gate storm: {reason}"));
        }
    }

    fn hold_capture(&mut self, now: BootTime, incident: &Incident, plan: &mut Plan, error: String) {
        const GATE: &str = "journal_writable";
        let Stage::Gating { at, held_by, .. } = &mut plan.stage else { return };
        *at = Some(now + INTENT_AGAIN);
        if held_by.is_none() {
            *held_by = Some((GATE, error.clone()));
            let report = gate_report(GATE, Verdict::Hold, &error, plan.mode);
            self.report_gates(now, incident, vec![report]);
        }
    }

    /// The act, to be intended at once, or once the hands have looked what it would turn.
    fn propose(&mut self, now: BootTime, incident: &Incident, plan: &mut Plan, rung: Rung, look: Vec<Look>) {
        let target = incident.target.clone();
        let key = ActionKey(format!(
            "{}:{}@{}:{}:{}.{}",
            incident.id, target.pid, target.start.0, plan.class, plan.rung, plan.attempt
        ));
        plan.attempt += 1;
        let act = Act {
            key,
            incident: incident.id,
            class: plan.class,
            mode: plan.mode,
            rung,
            workload: incident.workload.clone(),
            ignores_signal: self.memory.ignores(target.id(), libc::SIGTERM),
            target,
            look,
            turns: Vec::new(),
            incident_json: incident_json(incident, plan),
        };
        if act.rung.action.is_lease() {
            let key = act.key.clone();
            plan.stage = Stage::Surveying { key: key.clone(), until: now + SURVEY_LIMIT };
            self.surveying.insert(key, act.clone());
            self.out.commands.push_back(Command::Survey(Box::new(act)));
        } else {
            self.intend(now, incident, plan, act);
        }
    }

    pub(super) fn intend(&mut self, now: BootTime, incident: &Incident, plan: &mut Plan, act: Act) {
        // Evidence touches nobody, and nobody has to wait for it.
        if act.rung.action != ActionName::Capture {
            self.storms.acted(now, incident.id);
            if self.goes_first(now, incident, plan) {
                self.canaries.acts(group(plan), &incident.workload, incident.id);
            }
        }
        plan.key = Some(act.key.clone());
        let intent = Intent {
            act,
            policy: plan.policy.name.clone(),
            rule: plan.rule().name.clone(),
            rung_index: plan.rung,
            at: now,
            read_only: incident.read_only.clone(),
        };
        plan.stage = Stage::Committing;
        self.out.report(now, incident, ReportFact::Intent(intent.clone()));
        self.out.journal.push_back(JournalEntry::Intent(intent.clone()));
        self.pending.insert(intent.act.key.clone(), intent);
    }

    /// Others may wait for how this one fares.
    fn goes_first(&self, now: BootTime, incident: &Incident, plan: &Plan) -> bool {
        let safety = &plan.policy.safety;
        let state = self.ledger.breaker(now, &incident.workload, plan.class, plan.mode, &safety.breaker);
        safety.canary.is_some() || state == BreakerState::Probing
    }

    pub(super) fn report_gates(&mut self, now: BootTime, incident: &Incident, reports: Vec<GateReport>) {
        for report in reports {
            self.out.report(now, incident, ReportFact::Gate(report));
        }
    }

    pub(super) fn refused(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        plan: &mut Plan,
        gate: &str,
        reason: &str,
    ) -> Next {
        let says = format!("gate {gate} refused: {reason}");
        // What is stale is nobody's concern any more.
        if plan.mode == Mode::Enforce && gate != STALE {
            self.notify(now, incident, plan, says.clone());
        }
        over(plan, Outcome::Refused, says)
    }

    pub(super) fn active_classes(&self, incident: &Incident) -> Vec<Class> {
        self.incidents
            .of(&incident.workload)
            .chain([incident])
            .flat_map(|other| other.active.keys().copied())
            .collect()
    }

    /// The target was told to die before and sleeps where no signal reaches it.
    fn is_deaf(&self, incident: &Incident) -> bool {
        self.incidents.of(&incident.workload).chain([incident]).any(|other| {
            let unkillable = other.active.get(&Class::Unkillable);
            other.target.id() == incident.target.id()
                && unkillable.is_some_and(|one| one.certainty == Certainty::Proved)
        })
    }

    /// The incident that asks is out of the book meanwhile.
    fn under_way(&self, mode: Mode, of: Option<&WorkloadKey>) -> u32 {
        let acts = |plan: &&Plan| plan.mode == mode && is_under_way(&plan.stage);
        let asked = self.incidents.values().filter(|incident| of.is_none_or(|of| incident.workload == *of));
        asked.filter_map(|incident| incident.plan.as_ref()).filter(acts).count() as u32
    }

    pub(super) fn busy_with(&self, incident: &Incident) -> Option<String> {
        self.incidents
            .of(&incident.workload)
            .find(|other| {
                other.id != incident.id
                    && other
                        .plan
                        .as_ref()
                        .is_some_and(|plan| plan.is_in_flight() && plan.mode != Mode::Shadow)
            })
            .map(|other| format!("incident {}", other.id))
            .or_else(|| {
                let lease = self.leases.undoing_on(&incident.workload)?;
                Some(format!("the undo of {} of incident {}", lease.action.name(), lease.incident))
            })
    }

    fn lent_to(&self, incident: &Incident) -> Option<String> {
        let lease = self.leases.lent_to(&incident.workload, incident.id)?;
        Some(format!("{} ({})", lease.action.name(), lease.key))
    }

    /// Gates that hold without a time are asked again when what they wait for changes.
    pub(in crate::engine) fn wake_held(&mut self, now: BootTime) {
        self.wake(now, |incident| {
            matches!(&incident.plan, Some(Plan { stage: Stage::Gating { .. }, .. }) | None)
        });
    }

    /// Other policies: what lasts, and had its plan, may get another.
    pub(in crate::engine) fn wake_by_policy(&mut self, now: BootTime) {
        self.wake(now, |incident| !incident.plan.as_ref().is_some_and(Plan::is_in_flight));
    }

    fn wake(&mut self, now: BootTime, is_meant: impl Fn(&Incident) -> bool) {
        let meant: Vec<IncidentId> =
            self.incidents.values().filter(|one| is_meant(one)).map(|one| one.id).collect();
        for id in meant {
            self.step(now, id);
        }
    }
}

/// Who goes first, goes first for these.
pub(super) fn group(plan: &Plan) -> Group {
    Group { policy: plan.policy.name.clone(), class: plan.class, mode: plan.mode }
}

fn is_under_way(stage: &Stage) -> bool {
    match stage {
        Stage::Surveying { .. } | Stage::Committing | Stage::Acting { .. } | Stage::Reconciling { .. } => {
            true
        }
        Stage::Gating { .. } | Stage::Verifying(_) | Stage::Over(..) => false,
    }
}

/// Asks every gate in order, stops at the first that does not pass.
pub(super) fn ask_gates(
    proposal: &Proposal<'_>,
    facts: &Facts<'_>,
) -> (Vec<GateReport>, Option<(&'static str, safety::Ruling)>) {
    let mut reports = Vec::with_capacity(GATES.len());
    for gate in GATES {
        let ruling = (gate.judge)(proposal, facts);
        reports.push(gate_report(gate.name, ruling.verdict, &ruling.reason, proposal.mode));
        if ruling.verdict != Verdict::Pass {
            return (reports, Some((gate.name, ruling)));
        }
    }
    (reports, None)
}

pub(super) fn gate_report(gate: &str, verdict: Verdict, reason: &str, mode: Mode) -> GateReport {
    GateReport { gate: gate.to_owned(), verdict, reason: reason.to_owned(), mode }
}

/// What a hook reads on its standard input.
pub(super) fn incident_json(incident: &Incident, plan: &Plan) -> String {
    serde_json::json!({
        "incident": incident.id.to_string(),
        "workload": incident.workload,
        "policy": plan.policy.name,
        "rule": plan.rule().name,
        "target": incident.target,
        "diagnoses": incident.active.values().collect::<Vec<_>>(),
    })
    .to_string()
        // A line: `read` of a shell fails where the last one does not end.
        + "\n"
}

/// The next rung has to wait for a detector. None: it need not, or has waited in vain.
fn not_seen_again(now: BootTime, incident: &mut Incident, plan: &mut Plan) -> Option<Next> {
    let until = incident.unseen_until?;
    if now < until {
        let says = "its fault has not been seen again since healer came back".to_owned();
        plan.stage = Stage::Gating { at: Some(until), held_by: Some(("evidence", says)), since: now };
        return Some(Next::Wait);
    }
    incident.active.remove(&plan.class);
    let says = format!("{} was not seen again since healer came back", plan.class);
    plan.stage = Stage::Over(Outcome::Unknown, says);
    Some(Next::Again)
}
