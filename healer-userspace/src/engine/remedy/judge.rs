//! Verification, and what follows from it: the next rung, or the end.

use super::{
    lease::stands_alone,
    shadow::{millis, score, shadow_outcome},
    *,
};

impl Engine {
    pub(super) fn verify(&mut self, now: BootTime, incident: &mut Incident, plan: &mut Plan) -> Next {
        if self.only_an_order_helps(incident, plan) {
            return self.on_to_the_order(now, incident, plan);
        }
        let is_borrowing = self.leases.is_in_force(incident.id);
        let is_dead = self.ended.knows(incident.target.id());
        let Stage::Verifying(verification) = &mut plan.stage else {
            return Next::Wait;
        };
        let still = incident.still_there(now, &plan.policy.verify, is_borrowing && !is_dead);
        match verification.check(now, &incident.workload, &self.world, still.as_deref()) {
            Check::Wait => Next::Wait,
            Check::Ask(about, what) => {
                let id = self.next_question;
                self.next_question += 1;
                verification.asked = Some((id, about));
                self.out.commands.push_back(Command::Ask(Question { id, about, what }));
                Next::Wait
            }
            Check::Healed { says, successor } => {
                let since = verification.since;
                self.verified(
                    now,
                    incident,
                    plan,
                    Verdicts { outcome: Outcome::Healed, says, successor, since },
                )
            }
            Check::Unseen { says } => {
                let verdict =
                    Verdicts { outcome: Outcome::Unknown, says, successor: None, since: verification.since };
                self.unseen(now, incident, plan, verdict)
            }
            Check::Failed { outcome, says } => {
                let since = verification.since;
                self.verified(now, incident, plan, Verdicts { outcome, says, successor: None, since })
            }
        }
    }

    /// A hook has repaired what it could, and the supervisor waits to be told to start: nobody else starts it, so
    /// that waiting for a successor would be in vain.
    fn only_an_order_helps(&self, incident: &Incident, plan: &Plan) -> bool {
        let is_hook = plan.rung().is_some_and(|rung| rung.action == ActionName::RunHook);
        let ordered_later =
            plan.rule().escalate.iter().skip(plan.rung + 1).any(|rung| rung.action == ActionName::Restart);
        let waits = |workload: &Workload| {
            workload.supervisor.is_some() && workload.living.is_empty() && !workload.was_stopped()
        };
        is_hook
            && ordered_later
            && plan.mode == Mode::Enforce
            && incident.is_of_death()
            && self.world.get(&incident.workload).is_some_and(waits)
    }

    /// Told and kept, without a word to the breaker: neither a cure nor a failed act.
    fn concluded(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        plan: &Plan,
        (outcome, after_ms, says): (Outcome, u64, &str),
    ) {
        let says = says.to_owned();
        let fact = crate::engine::report::Verification { outcome, after_ms, says, successor: None };
        self.out.report(now, incident, ReportFact::Verification(fact));
        self.journal_verdict(incident, plan, outcome);
    }

    fn journal_verdict(&mut self, incident: &Incident, plan: &Plan, outcome: Outcome) {
        self.out.journal.extend(plan.key.clone().map(|key| JournalEntry::Verified {
            key,
            workload: incident.workload.clone(),
            class: plan.class,
            outcome: outcome.name().to_owned(),
        }));
    }

    /// Nobody can say whether it helped: no cure, and no failure that a further rung would have to answer.
    fn unseen(&mut self, now: BootTime, incident: &mut Incident, plan: &mut Plan, verdict: Verdicts) -> Next {
        if plan.mode == Mode::Shadow {
            return self.verified(now, incident, plan, verdict);
        }
        let Verdicts { outcome, says, since, .. } = verdict;
        self.concluded(now, incident, plan, (outcome, millis(now.since(since)), &says));
        Next::Close(outcome, says)
    }

    /// No failed act: it does not count for the breaker.
    fn on_to_the_order(&mut self, now: BootTime, incident: &mut Incident, plan: &mut Plan) -> Next {
        let outcome = Outcome::Unchanged;
        let says = "the hook is done; the supervisor waits for the order to start".to_owned();
        self.concluded(now, incident, plan, (outcome, 0, &says));
        self.next_rung(now, incident, plan, outcome, says)
    }

    pub(super) fn verified(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        plan: &mut Plan,
        verdict: Verdicts,
    ) -> Next {
        let Verdicts { outcome, says, successor, since } = verdict;
        if outcome == Outcome::Healed && self.give_back(now, incident.id, Why::Well) {
            // What is well only as long as it is held is not healed.
            self.watch(now, incident, plan);
            stands_alone(now, incident.active.is_empty(), plan);
            return Next::Again;
        }
        let outcome = if plan.mode == Mode::Shadow { shadow_outcome(outcome) } else { outcome };
        let healed = matches!(outcome, Outcome::Healed | Outcome::RecoveredAlone);
        let after_ms = millis(now.since(since));
        let fact = if plan.mode == Mode::Shadow {
            let came = successor.map(|successor| successor.start);
            ReportFact::Score(score(now, incident, plan, outcome, came, after_ms, &says))
        } else {
            ReportFact::Verification(crate::engine::report::Verification {
                outcome,
                after_ms,
                says: says.clone(),
                successor,
            })
        };
        self.out.report(now, incident, fact);
        self.ledger.verified(&incident.workload, plan.class, plan.mode, healed || plan.mode == Mode::Shadow);
        self.journal_verdict(incident, plan, outcome);
        if healed || plan.mode == Mode::Shadow {
            return Next::Close(outcome, says);
        }
        self.next_rung(now, incident, plan, outcome, says)
    }

    pub(super) fn next_rung(
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
        self.give_back(now, incident.id, Why::DidNotHelp);
        plan.rung += 1;
        if plan.rung().is_some() {
            plan.failure = Some(says);
            plan.stage = Stage::Gating { at: Some(now), held_by: None, since: now };
            return Next::Again;
        }
        self.notify(now, incident, plan, format!("the ladder is at its end: {says}"));
        Next::Close(outcome, says)
    }

    pub(super) fn ladder_exhausted(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        plan: &mut Plan,
    ) -> Next {
        if incident.has_acted(plan) {
            let why = plan.failure.take().map_or(String::new(), |why| format!(": {why}"));
            self.notify(now, incident, plan, format!("the ladder is at its end{why}"));
            return Next::Close(Outcome::Unchanged, format!("no rung of the ladder healed it{why}"));
        }
        over(plan, Outcome::Notified, "the rule only notifies".to_owned())
    }

    /// A successor that dies while it is verified: this rung did not heal.
    pub(super) fn died_again(
        &mut self,
        now: BootTime,
        id: IncidentId,
        process: &Process,
        certificate: &Certificate,
    ) {
        let Some(mut incident) = self.incidents.remove(&id) else {
            return;
        };
        if is_own_end(&incident.target, process) {
            self.incidents.insert(id, incident);
            return;
        }
        if let Some(next) = self.left_alone_and_ended(now, &mut incident, process, certificate) {
            self.incidents.insert(id, incident);
            self.go_on(now, id, next);
            return;
        }
        let mut next = Next::Wait;
        let stop_asked = self.world.get(&process.workload).is_some_and(|workload| workload.is_stopping(now));
        let verifies =
            matches!(incident.plan, Some(Plan { stage: Stage::Verifying(_), mode: Mode::Enforce, .. }));
        if stop_asked && verifies && process.id() != incident.target.id() {
            let says = "it was asked to stop before it could be verified".to_owned();
            next = Next::Close(Outcome::Unknown, says);
        } else if let Some(mut plan) = incident.plan.take() {
            if let Stage::Verifying(verification) = &plan.stage
                && process.id() != incident.target.id()
                && (process.main || certificate.exit.is_abnormal())
                && self.world.get(&process.workload).is_none_or(|workload| workload.living.is_empty())
            {
                let says = format!(
                    "the successor {}[{}] {}",
                    text::printable(&process.comm),
                    process.pid,
                    certificate.sentence()
                );
                let since = verification.since;
                let more = plan.rule().escalate.len() > plan.rung + 1;
                // It was dead before anybody knew whose successor it is, and has an incident of its own.
                let elsewhere = self.subjects.get(&Subject::Death(process.id())).copied();
                let heals = |other: &IncidentId| {
                    let plan = self.incidents.values().find(|one| one.id == *other)?.plan.as_ref()?;
                    (plan.mode == Mode::Enforce).then_some(())
                };
                let elsewhere = elsewhere.filter(|other| {
                    *other != id && more && plan.mode == Mode::Enforce && heals(other).is_some()
                });
                if more && plan.mode == Mode::Enforce && elsewhere.is_none() {
                    self.goes_on_with(&mut incident, process);
                }
                let outcome = match (plan.mode, stop_asked) {
                    (Mode::Shadow, true) => Outcome::Unknown,
                    (Mode::Shadow, false) => Outcome::Died,
                    (Mode::Observe | Mode::Enforce, _) => Outcome::Unchanged,
                };
                let verdict = Verdicts { outcome, says, successor: None, since };
                next = self.verified(now, &mut incident, &mut plan, verdict);
                if let (Some(other), Next::Again) = (elsewhere, &next) {
                    next = Next::Close(
                        Outcome::Unchanged,
                        format!("incident {other} is about its successor's end"),
                    );
                }
            }
            incident.plan = Some(plan);
        }
        self.incidents.insert(id, incident);
        self.go_on(now, id, next);
    }

    /// The ladder goes on with the successor that died: its death belongs to this incident.
    pub(super) fn goes_on_with(&mut self, incident: &mut Incident, dead: &Process) {
        self.subjects.remove(&incident.subject);
        incident.subject = Subject::Death(dead.id());
        incident.target = dead.clone();
        self.subjects.insert(incident.subject.clone(), incident.id);
    }

    pub(super) fn answered(&mut self, now: BootTime, question: u64, answer: &Answer) {
        if let Answer::Paused(said) = answer {
            return self.told_of_pause(now, question, *said);
        }
        let asked = self.incidents.values_mut().find_map(|incident| {
            let Stage::Verifying(verification) = &mut incident.plan.as_mut()?.stage else {
                return None;
            };
            verification.asked.is_some_and(|(id, _)| id == question).then_some((incident.id, verification))
        });
        let Some((id, verification)) = asked else {
            return;
        };
        match answer {
            Answer::NotListening(missing) => verification.answered(question, missing),
            Answer::ReadOnly(told) => verification.told_of_disk(question, *told),
            Answer::Alive(_) | Answer::Paused(_) => {}
        }
        self.step(now, id);
    }

    /// Signals that an act under way was waiting for, or that show that it failed.
    pub(in crate::engine) fn follow(
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
        let concerned = self.incidents.ids_of(&process.workload);
        for id in concerned {
            match (&signal.fact, certificate) {
                (Fact::Exited(_), Some(certificate)) => self.died_again(now, id, process, certificate),
                (Fact::Execed | Fact::Registered(_), _) => self.step(now, id),
                (Fact::StopAsked { .. }, _) => self.stop_came(now, id),
                _ => {}
            }
        }
    }
}

/// What verification concluded, and since when it watched.
pub(super) struct Verdicts {
    pub(super) outcome: Outcome,
    pub(super) says: String,
    pub(super) successor: Option<Process>,
    pub(super) since: BootTime,
}

/// A container of a pod never runs again under the same id: what its runtime says late of its end, of no pid, is no
/// successor's end.
fn is_own_end(target: &Process, dead: &Process) -> bool {
    let id = |process: &Process| process.place.container.as_ref().map(|container| container.id.clone());
    dead.pid == 0 && dead.place.pod.is_some() && id(dead).is_some() && id(dead) == id(target)
}
