//! One step at a time: gates → intent → act → verification → next rung.

use core::time::Duration;

use super::{
    Engine,
    certificate::Certificate,
    class::Class,
    command::{
        Act, ActionKey, ActionOutcome, ActionResult, Ask, Command, IncidentId, Intent,
        JournalEntry, PastAct, Question,
    },
    detect::Subject,
    incident::{Incident, Plan, Stage},
    policy::{ActionName, Mode, Rung, choose},
    report::{Closed, GateReport, Outcome, ReportFact, Verdict},
    safety::{self, Facts, GATES, Proposal},
    time::BootTime,
    verify::{Check, Verification},
};
use crate::{
    identity::process::Process,
    signal::{Answer, Fact, Signal},
};

const ACT_TIMEOUT: Duration = Duration::from_secs(30);
/// The hands have a time limit of their own; this is for an answer that never comes.
const ANSWER_SLACK: Duration = Duration::from_secs(5);
/// A hold longer than this is told to a person.
const LONG_HOLD: Duration = Duration::from_secs(60);

/// What the step function does next with an incident.
enum Next {
    /// Look at the stage again now.
    Again,
    /// Wait for time or for an event.
    Wait,
    Close(Outcome, String),
}

impl Engine {
    /// Drives one incident as far as it goes now.
    pub(super) fn step(&mut self, now: BootTime, id: IncidentId) {
        let Some(mut incident) = self.incidents.remove(&id) else {
            return;
        };
        loop {
            match self.step_once(now, &mut incident) {
                Next::Again => {}
                Next::Wait => {
                    self.unsettled.insert(incident.workload.clone());
                    self.incidents.insert(id, incident);
                    return;
                }
                Next::Close(outcome, says) => {
                    self.incidents.insert(id, incident);
                    self.close(now, id, outcome, says);
                    return;
                }
            }
        }
    }

    fn step_once(&mut self, now: BootTime, incident: &mut Incident) -> Next {
        let in_flight = incident.plan.as_ref().is_some_and(Plan::is_in_flight);
        if !in_flight && self.choose_plan(now, incident) {
            return Next::Again;
        }
        let Some(mut plan) = incident.plan.take() else {
            return if self.nothing_follows(now, incident) {
                Next::Close(Outcome::Notified, "nothing to do by policy".to_owned())
            } else {
                Next::Wait
            };
        };
        let next = match &mut plan.stage {
            Stage::Gating { .. } => self.climb(now, incident, &mut plan),
            Stage::Verifying(_) => self.verify(now, incident, &mut plan),
            Stage::Committing => Next::Wait,
            Stage::Acting { key, until } | Stage::Reconciling { key, until } => {
                if now < *until {
                    Next::Wait
                } else {
                    let key = key.clone();
                    let reason = "no answer came in time".to_owned();
                    self.took(
                        now,
                        incident,
                        &mut plan,
                        ActionResult {
                            key,
                            outcome: ActionOutcome::Unknown { reason },
                        },
                    )
                }
            }
            Stage::Over(outcome, says) => {
                if self.nothing_follows(now, incident) {
                    Next::Close(*outcome, says.clone())
                } else {
                    Next::Wait
                }
            }
        };
        incident.plan = Some(plan);
        next
    }

    /// The current rung: notifications pass at once, the rest goes through the gates.
    fn climb(&mut self, now: BootTime, incident: &mut Incident, plan: &mut Plan) -> Next {
        if plan.mode == Mode::Observe {
            return over(
                plan,
                Outcome::Notified,
                "observe mode: nothing is done".to_owned(),
            );
        }
        let Some(rung) = plan.rung().cloned() else {
            return self.ladder_exhausted(now, incident, plan);
        };
        if rung.action == ActionName::Notify {
            self.notify(now, incident, plan, format!("rule {}", plan.rule().name));
            plan.rung += 1;
            return Next::Again;
        }
        let Some(diagnosis) = incident.active.get(&plan.class).cloned() else {
            return over(
                plan,
                Outcome::RecoveredAlone,
                "the finding is gone".to_owned(),
            );
        };
        let active: Vec<Class> = self.active_classes(incident);
        let busy = self.busy_with(incident);
        let target = incident.target.clone();
        let proposal = Proposal {
            now,
            diagnosis: &diagnosis,
            workload: &incident.workload,
            target: &target,
            policy: &plan.policy,
            rule: plan.rule(),
            rung: &rung,
            escalating: 0 < plan.attempt,
            mode: plan.mode,
        };
        let facts = Facts {
            policies: &self.policies,
            ledger: &self.ledger,
            paused: self.paused.as_deref(),
            journal_error: self.journal_error.as_deref(),
            lost: self.memory.lost_since(diagnosis.fault_at),
            active: &active,
            busy: busy.as_deref(),
        };
        let (reports, blocked) = ask_gates(&proposal, &facts);
        let looks = safety::looks(&proposal, incident.is_of_death());
        let Stage::Gating { held_by, since, .. } = &plan.stage else {
            return Next::Wait;
        };
        let was_held = held_by.clone();
        let since = *since;
        match blocked {
            Some((gate, ruling)) => {
                let is_news = was_held.as_ref().is_none_or(|(before, _)| *before != gate);
                if is_news {
                    self.report_gates(now, incident, reports);
                }
                if ruling.verdict == Verdict::Refuse {
                    return self.refused(now, incident, plan, gate, &ruling.reason);
                }
                let long = ruling
                    .until
                    .is_none_or(|until| until.since(now) > LONG_HOLD);
                if is_news && long && plan.mode == Mode::Enforce {
                    self.notify(
                        now,
                        incident,
                        plan,
                        format!("held by gate {gate}: {}", ruling.reason),
                    );
                }
                plan.stage = Stage::Gating {
                    at: ruling.until,
                    held_by: Some((gate, ruling.reason)),
                    since,
                };
                Next::Wait
            }
            None => {
                self.report_gates(now, incident, reports);
                self.commit(now, incident, plan, rung, looks);
                Next::Wait
            }
        }
    }

    fn commit(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        plan: &mut Plan,
        rung: Rung,
        look: Vec<super::command::Look>,
    ) {
        let target = incident.target.clone();
        let key = ActionKey(format!(
            "{}:{}@{}:{}:{}.{}",
            incident.id, target.pid, target.start.0, plan.class, plan.rung, plan.attempt
        ));
        plan.attempt += 1;
        let act = Act {
            key: key.clone(),
            incident: incident.id,
            class: plan.class,
            mode: plan.mode,
            rung,
            workload: incident.workload.clone(),
            ignores_signal: self.memory.ignores(target.id(), libc::SIGTERM),
            target,
            look,
            incident_json: incident_json(incident, plan),
        };
        let intent = Intent {
            act,
            policy: plan.policy.name.clone(),
            rule: plan.rule().name.clone(),
            rung_index: plan.rung,
            at: now,
        };
        plan.stage = Stage::Committing;
        self.out
            .report(now, incident, ReportFact::Intent(intent.clone()));
        self.out
            .journal
            .push_back(JournalEntry::Intent(intent.clone()));
        self.pending.insert(intent.act.key.clone(), intent.act);
    }

    pub(super) fn start_act(&mut self, now: BootTime, key: &ActionKey) {
        let Some(act) = self.pending.remove(key) else {
            return;
        };
        let Some(incident) = self.incidents.get_mut(&act.incident) else {
            return;
        };
        let Some(plan) = &mut incident.plan else {
            return;
        };
        let timeout = act.rung.timeout.unwrap_or(ACT_TIMEOUT)
            + act.rung.grace.unwrap_or_default()
            + ANSWER_SLACK;
        plan.stage = Stage::Acting {
            key: key.clone(),
            until: now + timeout,
        };
        if act.mode == Mode::Enforce && act.rung.action.is_destructive() {
            self.ledger.strike(now, act.target.id(), key.clone());
        }
        self.out.commands.push_back(Command::Act(Box::new(act)));
    }

    /// The intent could not be written: back to the gates, where `journal_writable` now holds.
    pub(super) fn intent_lost(&mut self, now: BootTime, key: &ActionKey) {
        let Some(act) = self.pending.remove(key) else {
            return;
        };
        if let Some(incident) = self.incidents.get_mut(&act.incident)
            && let Some(plan) = &mut incident.plan
        {
            plan.stage = Stage::Gating {
                at: Some(now),
                held_by: None,
                since: now,
            };
        }
        self.step(now, act.incident);
    }

    pub(super) fn finish_act(&mut self, now: BootTime, result: ActionResult) {
        let owner =
            self.incidents
                .values()
                .find_map(|incident| match &incident.plan.as_ref()?.stage {
                    Stage::Acting { key, .. } | Stage::Reconciling { key, .. }
                        if *key == result.key =>
                    {
                        Some(incident.id)
                    }
                    Stage::Acting { .. }
                    | Stage::Reconciling { .. }
                    | Stage::Gating { .. }
                    | Stage::Committing
                    | Stage::Verifying(_)
                    | Stage::Over(..) => None,
                });
        let Some(mut incident) = owner.and_then(|id| self.incidents.remove(&id)) else {
            return;
        };
        let id = incident.id;
        if let Some(mut plan) = incident.plan.take() {
            let next = self.took(now, &mut incident, &mut plan, result);
            incident.plan = Some(plan);
            self.incidents.insert(id, incident);
            match next {
                Next::Again => self.step(now, id),
                Next::Wait => {}
                Next::Close(outcome, says) => self.close(now, id, outcome, says),
            }
        }
    }

    /// The act is over: journal it, count it if it had (or may have had) an effect, verify.
    fn took(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        plan: &mut Plan,
        result: ActionResult,
    ) -> Next {
        self.out
            .report(now, incident, ReportFact::Result(result.clone()));
        self.out
            .journal
            .push_back(JournalEntry::Result(result.clone()));
        if Self::outcome_is_possible_effect(&result.outcome) {
            self.ledger.acted(PastAct {
                workload: incident.workload.clone(),
                class: plan.class,
                mode: plan.mode,
                at: now,
                healed: None,
            });
        } else {
            self.ledger.spare(incident.target.id());
        }
        match result.outcome {
            ActionOutcome::Done { .. } | ActionOutcome::WouldDo { .. } => {
                incident.acted_at.get_or_insert(now);
                let must_run = self.must_run(incident, plan);
                let ports = plan.policy.expect.listen.clone();
                plan.stage = Stage::Verifying(Verification::new(
                    now,
                    incident.target.id(),
                    must_run,
                    &ports,
                    &plan.policy.verify,
                ));
                Next::Again
            }
            ActionOutcome::Refused { reason } => {
                let report = gate_report("second_look", Verdict::Refuse, &reason, plan.mode);
                self.out.report(now, incident, ReportFact::Gate(report));
                self.refused(now, incident, plan, "second_look", &reason)
            }
            ActionOutcome::Failed { error, .. } => {
                self.next_rung(now, incident, plan, Outcome::Unchanged, error)
            }
            ActionOutcome::Unknown { reason } => {
                self.next_rung(now, incident, plan, Outcome::Unknown, reason)
            }
        }
    }

    fn must_run(&self, incident: &Incident, plan: &Plan) -> bool {
        let restarts = plan
            .rung()
            .is_some_and(|rung| rung.action == ActionName::Restart);
        restarts || choose::expects_running(&plan.policy, &incident.target)
    }

    fn verify(&mut self, now: BootTime, incident: &mut Incident, plan: &mut Plan) -> Next {
        let Stage::Verifying(verification) = &mut plan.stage else {
            return Next::Wait;
        };
        let fault_over = incident.is_of_death() || incident.active.is_empty();
        match verification.check(now, &incident.workload, &self.world, fault_over) {
            Check::Wait => Next::Wait,
            Check::Ask(about, ports) => {
                let id = self.next_question;
                self.next_question += 1;
                verification.asked = Some((id, about));
                self.out.commands.push_back(Command::Ask(Question {
                    id,
                    about,
                    what: Ask::Listening(ports),
                }));
                Next::Wait
            }
            Check::Healed { says, successor } => {
                let since = verification.since;
                self.verified(
                    now,
                    incident,
                    plan,
                    Verdicts {
                        outcome: Outcome::Healed,
                        says,
                        successor,
                        since,
                    },
                )
            }
            Check::Failed { outcome, says } => {
                let since = verification.since;
                self.verified(
                    now,
                    incident,
                    plan,
                    Verdicts {
                        outcome,
                        says,
                        successor: None,
                        since,
                    },
                )
            }
        }
    }

    fn verified(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        plan: &mut Plan,
        verdict: Verdicts,
    ) -> Next {
        let Verdicts {
            outcome,
            says,
            successor,
            since,
        } = verdict;
        let outcome = if plan.mode == Mode::Shadow {
            shadow_outcome(outcome)
        } else {
            outcome
        };
        let healed = matches!(outcome, Outcome::Healed | Outcome::RecoveredAlone);
        let after_ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
        let fact = if plan.mode == Mode::Shadow {
            ReportFact::Score {
                policy: plan.policy.name.clone(),
                rule: plan.rule().name.clone(),
                outcome: outcome.name().to_owned(),
                after_ms,
                says: says.clone(),
            }
        } else {
            ReportFact::Verification(super::report::Verification {
                outcome,
                after_ms,
                says: says.clone(),
                successor,
            })
        };
        self.out.report(now, incident, fact);
        self.ledger.verified(
            &incident.workload,
            plan.class,
            plan.mode,
            healed || plan.mode == Mode::Shadow,
        );
        self.out.journal.push_back(JournalEntry::Verified {
            key: last_key(incident, plan),
            workload: incident.workload.clone(),
            class: plan.class,
            outcome: outcome.name().to_owned(),
        });
        if healed || plan.mode == Mode::Shadow {
            return Next::Close(outcome, says);
        }
        self.next_rung(now, incident, plan, outcome, says)
    }

    fn next_rung(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        plan: &mut Plan,
        outcome: Outcome,
        says: String,
    ) -> Next {
        if plan.mode == Mode::Shadow {
            return Next::Close(outcome, says);
        }
        plan.rung += 1;
        if plan.rung().is_some() {
            plan.stage = Stage::Gating {
                at: Some(now),
                held_by: None,
                since: now,
            };
            return Next::Again;
        }
        self.notify(
            now,
            incident,
            plan,
            format!("the ladder is at its end: {says}"),
        );
        Next::Close(outcome, says)
    }

    fn ladder_exhausted(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        plan: &mut Plan,
    ) -> Next {
        let acted = 0 < plan.attempt;
        if acted {
            self.notify(now, incident, plan, "the ladder is at its end".to_owned());
            return Next::Close(
                Outcome::Unchanged,
                "no rung of the ladder healed it".to_owned(),
            );
        }
        over(plan, Outcome::Notified, "the rule only notifies".to_owned())
    }

    fn refused(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        plan: &mut Plan,
        gate: &str,
        reason: &str,
    ) -> Next {
        let says = format!("gate {gate} refused: {reason}");
        if plan.mode == Mode::Enforce {
            self.notify(now, incident, plan, says.clone());
        }
        over(plan, Outcome::Refused, says)
    }

    fn notify(&mut self, now: BootTime, incident: &Incident, plan: &Plan, reason: String) {
        if let Some(diagnosis) = incident
            .active
            .get(&plan.class)
            .or_else(|| incident.active.values().next())
        {
            let fact = ReportFact::Notify {
                class: diagnosis.class,
                sentence: diagnosis.sentence.clone(),
                reason,
            };
            self.out.report(now, incident, fact);
        }
    }

    fn report_gates(&mut self, now: BootTime, incident: &Incident, reports: Vec<GateReport>) {
        for report in reports {
            self.out.report(now, incident, ReportFact::Gate(report));
        }
    }

    pub(super) fn close(&mut self, now: BootTime, id: IncidentId, outcome: Outcome, says: String) {
        let Some(incident) = self.incidents.remove(&id) else {
            return;
        };
        self.subjects.remove(&incident.subject);
        self.unsettled.insert(incident.workload.clone());
        let first = incident
            .active
            .values()
            .map(|found| (found.fault_at, found.detected_at))
            .min();
        let (fault_at, detected_at) = first.unwrap_or((incident.opened_at, incident.opened_at));
        let healed_at = (outcome == Outcome::Healed).then_some(now);
        let closed = Closed {
            outcome,
            says,
            to_detect: detected_at.since(fault_at),
            to_act: incident.acted_at.map(|at| at.since(detected_at)),
            to_recover: incident
                .acted_at
                .zip(healed_at)
                .map(|(acted, healed)| healed.since(acted)),
        };
        self.out.report(now, &incident, ReportFact::Closed(closed));
        self.out
            .journal
            .push_back(JournalEntry::Closed { incident: id });
    }

    /// Signals that an act under way was waiting for, or that show that it failed.
    pub(super) fn follow(
        &mut self,
        now: BootTime,
        signal: &Signal,
        certificate: Option<&Certificate>,
    ) {
        if let Fact::Answered { question, answer } = &signal.fact {
            self.answered(now, *question, answer);
            return;
        }
        let Some(process) = &signal.process else {
            return;
        };
        self.reconcile(now, signal, process);
        let concerned: Vec<IncidentId> = self
            .incidents
            .values()
            .filter(|incident| incident.workload == process.workload)
            .map(|incident| incident.id)
            .collect();
        for id in concerned {
            match (&signal.fact, certificate) {
                (Fact::Exited(_), Some(certificate)) => {
                    self.died_again(now, id, process, certificate)
                }
                (Fact::Execed | Fact::Registered(_), _) => self.step(now, id),
                _ => {}
            }
        }
    }

    /// A successor that dies while it is verified: this rung did not heal.
    fn died_again(
        &mut self,
        now: BootTime,
        id: IncidentId,
        process: &Process,
        certificate: &Certificate,
    ) {
        let Some(mut incident) = self.incidents.remove(&id) else {
            return;
        };
        let mut next = Next::Wait;
        if let Some(mut plan) = incident.plan.take() {
            if let Stage::Verifying(verification) = &plan.stage
                && process.id() != incident.target.id()
                && (process.main || certificate.exit.is_abnormal())
                && self
                    .world
                    .get(&process.workload)
                    .is_none_or(|workload| workload.living.is_empty())
            {
                let says = format!(
                    "the successor {}[{}] {}",
                    process.comm,
                    process.pid,
                    certificate.sentence()
                );
                let since = verification.since;
                let more = plan.rule().escalate.len() > plan.rung + 1;
                if more && plan.mode == Mode::Enforce {
                    self.goes_on_with(&mut incident, process);
                }
                let verdict = Verdicts {
                    outcome: Outcome::Unchanged,
                    says,
                    successor: None,
                    since,
                };
                next = self.verified(now, &mut incident, &mut plan, verdict);
            }
            incident.plan = Some(plan);
        }
        self.incidents.insert(id, incident);
        match next {
            Next::Again => self.step(now, id),
            Next::Wait => {}
            Next::Close(outcome, says) => self.close(now, id, outcome, says),
        }
    }

    /// The ladder goes on with the successor that died: its death belongs to this incident.
    fn goes_on_with(&mut self, incident: &mut Incident, dead: &Process) {
        self.subjects.remove(&incident.subject);
        incident.subject = Subject::Death(dead.id());
        incident.target = dead.clone();
        self.subjects.insert(incident.subject.clone(), incident.id);
    }

    fn answered(&mut self, now: BootTime, question: u64, answer: &Answer) {
        let asked = self.incidents.values_mut().find_map(|incident| {
            let Stage::Verifying(verification) = &mut incident.plan.as_mut()?.stage else {
                return None;
            };
            verification
                .asked
                .is_some_and(|(id, _)| id == question)
                .then_some((incident.id, verification))
        });
        let Some((id, verification)) = asked else {
            return;
        };
        match answer {
            Answer::NotListening(missing) => verification.answered(question, missing),
            Answer::Alive(_) => {}
        }
        self.step(now, id);
    }

    fn active_classes(&self, incident: &Incident) -> Vec<Class> {
        self.incidents
            .values()
            .filter(|other| other.workload == incident.workload)
            .chain([incident])
            .flat_map(|other| other.active.keys().copied())
            .collect()
    }

    fn busy_with(&self, incident: &Incident) -> Option<String> {
        self.incidents
            .values()
            .find(|other| {
                other.id != incident.id
                    && other.workload == incident.workload
                    && other
                        .plan
                        .as_ref()
                        .is_some_and(|plan| plan.is_in_flight() && plan.mode != Mode::Shadow)
            })
            .map(|other| format!("incident {}", other.id))
    }

    /// Gates that hold without a time are asked again when what they wait for changes.
    pub(super) fn wake_held(&mut self, now: BootTime) {
        let held: Vec<IncidentId> = self
            .incidents
            .values()
            .filter(|incident| {
                matches!(
                    &incident.plan,
                    Some(Plan {
                        stage: Stage::Gating { .. },
                        ..
                    }) | None
                )
            })
            .map(|incident| incident.id)
            .collect();
        for id in held {
            self.step(now, id);
        }
    }

    /// Tells a waiting supervisor that no order will come, once that is so.
    pub(super) fn settle(&mut self, _now: BootTime) {
        for key in core::mem::take(&mut self.unsettled) {
            let waits = self.world.get(&key).is_some_and(|workload| {
                workload.supervisor.is_some() && workload.living.is_empty()
            });
            let mut of_workload = self
                .incidents
                .values()
                .filter(|incident| incident.workload == key);
            let may_act =
                of_workload.any(|incident| incident.plan.as_ref().is_some_and(Plan::may_still_act));
            if waits && !may_act {
                let reason = "no act will follow by policy".to_owned();
                self.out.commands.push_back(Command::Release {
                    workload: key,
                    reason,
                });
            }
        }
    }
}

/// What verification concluded, and since when it watched.
struct Verdicts {
    outcome: Outcome,
    says: String,
    successor: Option<Process>,
    since: BootTime,
}

fn over(plan: &mut Plan, outcome: Outcome, says: String) -> Next {
    plan.stage = Stage::Over(outcome, says);
    Next::Again
}

/// Asks every gate in order, stops at the first that does not pass.
fn ask_gates(
    proposal: &Proposal<'_>,
    facts: &Facts<'_>,
) -> (Vec<GateReport>, Option<(&'static str, safety::Ruling)>) {
    let mut reports = Vec::with_capacity(GATES.len());
    for gate in GATES {
        let ruling = (gate.judge)(proposal, facts);
        reports.push(gate_report(
            gate.name,
            ruling.verdict,
            &ruling.reason,
            proposal.mode,
        ));
        if ruling.verdict != Verdict::Pass {
            return (reports, Some((gate.name, ruling)));
        }
    }
    (reports, None)
}

fn gate_report(gate: &str, verdict: Verdict, reason: &str, mode: Mode) -> GateReport {
    GateReport {
        gate: gate.to_owned(),
        verdict,
        reason: reason.to_owned(),
        mode,
    }
}

/// Nobody acted: what would have been healed recovered alone.
fn shadow_outcome(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Healed | Outcome::RecoveredAlone => Outcome::RecoveredAlone,
        Outcome::Unchanged | Outcome::Worse | Outcome::StayedSick => Outcome::StayedSick,
        Outcome::Died => Outcome::Died,
        Outcome::Unknown | Outcome::Refused | Outcome::Notified => Outcome::Unknown,
    }
}

fn last_key(incident: &Incident, plan: &Plan) -> ActionKey {
    ActionKey(format!("{}:{}.{}", incident.id, plan.rung, plan.attempt))
}

/// What a hook reads on its standard input.
fn incident_json(incident: &Incident, plan: &Plan) -> String {
    serde_json::json!({
        "incident": incident.id.to_string(),
        "workload": incident.workload,
        "policy": plan.policy.name,
        "rule": plan.rule().name,
        "target": incident.target,
        "diagnoses": incident.active.values().collect::<Vec<_>>(),
    })
    .to_string()
}
