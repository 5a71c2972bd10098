//! The act: started when its intent is on disk, counted when it may have had an effect.

use super::{gate::gate_report, *};
use crate::{
    engine::policy::Scope,
    identity::process::{Parent, ProcessId},
};

/// Why who is about to end is not touched.
const IS_LEAVING: &str = "it was asked to stop, and is at it";
const LEAVING_AGAIN: Duration = Duration::from_secs(15);

impl Engine {
    pub(in crate::engine) fn start_act(&mut self, now: BootTime, key: &ActionKey) {
        let Some(intent) = self.pending.remove(key) else {
            return;
        };
        if let Some(lease) = Lease::of(&intent) {
            self.leases.take(lease);
        }
        let act = intent.act;
        let Some(incident) = self.incidents.get_mut(&act.incident) else {
            return;
        };
        let Some(plan) = &mut incident.plan else {
            return;
        };
        let timeout =
            act.rung.timeout.unwrap_or(ACT_TIMEOUT) + act.rung.grace.unwrap_or_default() + ANSWER_SLACK;
        plan.stage = Stage::Acting { key: key.clone(), until: now + timeout };
        if let Some(reason) = self.overtaken(now, &act) {
            let outcome = ActionOutcome::Refused { reason };
            return self.finish_act(now, ActionResult { key: act.key, outcome });
        }
        let strikes_living = act.look.iter().any(|look| matches!(look, Look::SameProcess(_)));
        if act.mode == Mode::Enforce && act.rung.action.is_destructive() && strikes_living {
            self.ledger.strike(now, act.target.id(), key.clone());
            for other in self.of_its_pod(&act) {
                self.ledger.strike(now, other, key.clone());
            }
        }
        self.out.commands.push_back(Command::Act(Box::new(act)));
    }

    /// Who else is struck, and is no patient: the other containers of a pod.
    fn of_its_pod(&self, act: &Act) -> Vec<ProcessId> {
        let Some(pod) = act.target.place.pod.as_ref().filter(|_| act.rung.scope == Scope::Pod) else {
            return Vec::new();
        };
        let living = self.world.iter().flat_map(|(_, workload)| workload.living.values());
        let is_beside = |one: &&Process| one.place.pod.as_ref().is_some_and(|its| its.uid == pod.uid);
        living.filter(is_beside).map(Process::id).collect()
    }

    /// What was heard while the intent was synced: an act now would start it twice, or against somebody's will.
    fn overtaken(&self, now: BootTime, act: &Act) -> Option<String> {
        if let Some(by) = self.paused.as_ref().filter(|_| act.mode == Mode::Enforce) {
            return Some(format!("paused meanwhile: {by}"));
        }
        let is_of_the_dead = act.look.iter().any(|look| matches!(look, Look::StillDown(_)));
        let is_gone = |incident: &Incident| !incident.active.contains_key(&act.class);
        if !is_of_the_dead {
            if let Some(reason) = self.leaves_as_told(now, act) {
                return Some(reason);
            }
            let is_over = self.incidents.values().any(|one| one.id == act.incident && is_gone(one));
            return is_over.then(|| format!("{} of pid {} is over", act.class, act.target.pid));
        }
        let workload = self.world.get(&act.workload)?;
        if workload.is_stopping(now) {
            return Some("it was asked to stop".to_owned());
        }
        if let Some(parent) = self.living_master(act) {
            let name = text::printable(&parent.comm);
            return Some(format!(
                "it was a child of {name}[{}], which lives and is who replaces it",
                parent.pid
            ));
        }
        let successor = workload.successor(act.target.id())?;
        Some(format!("a successor lives already: {}[{}]", text::printable(&successor.comm), successor.pid))
    }

    /// A command would start a second one beside it; an owner knows what it has.
    fn living_master<'a>(&self, act: &'a Act) -> Option<&'a Parent> {
        let workload = self.world.get(&act.workload)?;
        // Of the same program: a shell or an init above it need not replace it.
        let is_main = |parent: &&Parent| {
            let master = workload.living.get(&ProcessId { pid: parent.pid, start: parent.start });
            master.is_some_and(|master| master.exe.is_some() && master.exe == act.target.exe)
        };
        let is_by_command = act.rung.action == ActionName::Restart && !act.rung.command.is_empty();
        act.target.parent.as_ref().filter(|_| is_by_command).filter(is_main)
    }

    /// An end that a person or its manager has asked for is under way: neither cut short nor turned into a start. What
    /// this incident has done itself does not count.
    fn leaves_as_told(&self, now: BootTime, act: &Act) -> Option<String> {
        let is_ours = self.incidents.values().any(|one| one.id == act.incident && one.deeds.struck);
        let is_stopping = || {
            let workload = self.world.get(&act.workload);
            workload.is_some_and(|workload| workload.is_stopping(now))
                || self.memory.is_told_to_stop(now, &act.target)
        };
        (!is_ours && act.rung.action.is_destructive() && is_stopping()).then(|| IS_LEAVING.to_owned())
    }

    /// The intent could not be written: back to the gates, where `journal_writable` holds by now, or a little later.
    pub(in crate::engine) fn intent_lost(&mut self, now: BootTime, key: &ActionKey) {
        let Some(Intent { act, .. }) = self.pending.remove(key) else {
            return;
        };
        if let Some(incident) = self.incidents.get_mut(&act.incident)
            && let Some(plan) = &mut incident.plan
        {
            plan.stage = Stage::Gating { at: Some(now + INTENT_AGAIN), held_by: None, since: now };
        }
        if self.journal_error.is_some() {
            self.step(now, act.incident);
        }
    }

    pub(in crate::engine) fn finish_act(&mut self, now: BootTime, result: ActionResult) {
        let owner = self.incidents.values().find_map(|incident| match &incident.plan.as_ref()?.stage {
            Stage::Acting { key, .. } | Stage::Reconciling { key, .. } if *key == result.key => {
                Some(incident.id)
            }
            Stage::Acting { .. }
            | Stage::Reconciling { .. }
            | Stage::Gating { .. }
            | Stage::Surveying { .. }
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
            self.go_on(now, id, next);
        }
    }

    /// The act is over: journal it, count it if it had (or may have had) an effect, verify.
    pub(super) fn took(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        plan: &mut Plan,
        result: ActionResult,
    ) -> Next {
        // Whatever its supervisor says from now on: the act has its result, and is not ordered again.
        self.reopened.remove(&result.key);
        self.out.report(now, incident, ReportFact::Result(result.clone()));
        self.out.journal.push_back(JournalEntry::Result(result.clone()));
        let took_effect = matches!(result.outcome, ActionOutcome::Done { .. });
        if let Some(why) = self.leases.taken(now, &result.key, took_effect) {
            self.release(now, &result.key, why);
        }
        if plan.rung().is_some_and(|rung| rung.action == ActionName::Capture) {
            // Kept or not, it heals nobody and costs no budget: the ladder goes on.
            plan.rung += 1;
            plan.stage = Stage::Gating { at: Some(now), held_by: None, since: now };
            return Next::Again;
        }
        if Self::outcome_is_possible_effect(&result.outcome) {
            if let Some(action) = plan.rung().map(|rung| rung.action) {
                incident.deeds.note(action, !matches!(result.outcome, ActionOutcome::Unknown { .. }));
            }
            self.ledger.acted(PastAct {
                workload: incident.workload.clone(),
                class: plan.class,
                mode: plan.mode,
                at: now,
                healed: None,
            });
        } else {
            self.ledger.spare(&result.key);
        }
        if plan.rung().is_some_and(|rung| rung.action == ActionName::RunHook) {
            self.ledger.worked(now, &result.key);
        }
        let stands = plan.mode == Mode::Enforce && plan.rung().is_some_and(|rung| rung.action.is_standing());
        match result.outcome {
            ActionOutcome::Done { .. } if stands => {
                incident.acted_at.get_or_insert(now);
                plan.rung += 1;
                plan.stage = Stage::Gating { at: Some(now), held_by: None, since: now };
                Next::Again
            }
            ActionOutcome::Done { .. } | ActionOutcome::WouldDo { .. } => {
                incident.acted_at.get_or_insert(now);
                self.watch(now, incident, plan);
                Next::Again
            }
            // Whether it happened, the successor tells. A lease is given back, and the patient may be well.
            ActionOutcome::Unknown { .. } if plan.mode == Mode::Enforce && plan.is_watched_if_unknown() => {
                self.watch(now, incident, plan);
                Next::Again
            }
            ActionOutcome::Refused { reason } => {
                let report = gate_report("second_look", Verdict::Refuse, &reason, plan.mode);
                self.out.report(now, incident, ReportFact::Gate(report));
                if reason == IS_LEAVING {
                    // Should it not heed the word, it is as sick as before.
                    let at = Some(now + LEAVING_AGAIN);
                    plan.stage = Stage::Gating { at, held_by: None, since: now };
                    return Next::Wait;
                }
                if self.is_replaced(now, incident, plan) {
                    return over(plan, Outcome::RecoveredAlone, reason);
                }
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

    /// Whoever was faster than healer, its owner for one, has started it: nobody need be told that healer did not.
    fn is_replaced(&self, now: BootTime, incident: &Incident, plan: &Plan) -> bool {
        let restarts = plan.rung().is_some_and(|rung| rung.action == ActionName::Restart);
        let workload = self.world.get(&incident.workload);
        restarts
            && incident.is_of_death()
            && !incident.has_acted(plan)
            && workload.is_some_and(|workload| {
                !workload.is_stopping(now) && workload.successor(incident.target.id()).is_some()
            })
    }

    /// Verification begins.
    pub(in crate::engine) fn watch(&self, now: BootTime, incident: &Incident, plan: &mut Plan) {
        let is_left_alone = plan.mode == Mode::Shadow && !incident.is_of_death();
        // Nobody replaces the living when nobody acts: it is to get well itself.
        let must_run = !is_left_alone && self.must_run(incident, plan);
        let ports = plan.policy.expect.listen.clone();
        let target = incident.target.id();
        let mut verification = Verification::new(now, target, must_run, &ports, &plan.policy.verify);
        let evicts = plan.rung().is_some_and(|rung| rung.action == ActionName::Evict);
        if incident.is_of_death() && !evicts {
            verification.ask_for_somebody();
        }
        for disk in &incident.read_only {
            verification.ask_about(disk.clone());
        }
        if let Some(until) = incident.unseen_until {
            verification.last_until(until);
        }
        if let Some(patience) = patience_of_a_lease(incident, plan) {
            verification.end_by(now + patience);
        }
        plan.stage = Stage::Verifying(Box::new(verification));
    }

    pub(super) fn must_run(&self, incident: &Incident, plan: &Plan) -> bool {
        if plan.rung().is_some_and(|rung| rung.action.is_lease()) {
            // The patient itself is to get well.
            return false;
        }
        let restarts = plan.rung().is_some_and(|rung| rung.action == ActionName::Restart);
        let resets = plan.rung().is_some_and(|rung| rung.action == ActionName::ResetConnections);
        // It is to live elsewhere.
        let evicts = plan.rung().is_some_and(|rung| rung.action == ActionName::Evict);
        restarts || (!resets && !evicts && choose::expects_running(&plan.policy, &incident.target))
    }
}

/// What only slows a growth has a third of the time that is left: the next rung wants to come before the limit does.
fn patience_of_a_lease(incident: &Incident, plan: &Plan) -> Option<Duration> {
    let action = plan.rung()?.action;
    let is_last = plan.rule().escalate.len() <= plan.rung + 1;
    if !action.is_lease() || action.is_standing() || is_last {
        return None;
    }
    let left = incident.active.get(&plan.class)?.detail.time_to_limit_ms.filter(|left| 0 < *left)?;
    Some(Duration::from_millis(left / 3))
}
