//! What becomes of a patient that nobody touches: what lets a person dare `enforce`.

use super::{judge::Verdicts, *};
use crate::engine::report::Score;

impl Engine {
    /// Shadow: the patient that nobody touched has ended, by itself or by somebody's hand.
    pub(super) fn left_alone_and_ended(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        process: &Process,
        certificate: &Certificate,
    ) -> Option<Next> {
        let is_patient = !incident.is_of_death() && process.id() == incident.target.id();
        let mut plan = incident.plan.take_if(|plan| is_patient && plan.mode == Mode::Shadow)?;
        let Stage::Verifying(verification) = &plan.stage else {
            incident.plan = Some(plan);
            return None;
        };
        let since = verification.since;
        let stop_asked = self.world.get(&process.workload).is_some_and(|workload| workload.is_stopping(now));
        let may_end = !choose::expects_running(&plan.policy, process);
        let outcome = match (stop_asked, certificate.exit.is_abnormal()) {
            (true, _) => Outcome::Unknown,
            (false, false) if may_end => Outcome::RecoveredAlone,
            (false, _) => Outcome::Died,
        };
        let asked = if stop_asked { ", as it was asked to" } else { "" };
        let name = text::printable(&process.comm);
        let says = format!("{name}[{}] {}{asked}", process.pid, certificate.sentence());
        incident.well_since = Some(now);
        let next =
            self.verified(now, incident, &mut plan, Verdicts { outcome, says, successor: None, since });
        incident.plan = Some(plan);
        Some(next)
    }
}

pub(super) fn score(
    now: BootTime,
    incident: &Incident,
    plan: &Plan,
    outcome: Outcome,
    came: Option<BootTime>,
    after_ms: u64,
    says: &str,
) -> Score {
    let over_at = match outcome {
        Outcome::RecoveredAlone => Some(came.or(incident.well_since).unwrap_or(now)),
        Outcome::Died => Some(now),
        Outcome::Healed
        | Outcome::Unchanged
        | Outcome::Worse
        | Outcome::StayedSick
        | Outcome::Unknown
        | Outcome::Refused
        | Outcome::Notified => None,
    };
    Score {
        policy: plan.policy.name.clone(),
        rule: plan.rule().name.clone(),
        class: plan.class,
        action: plan.rung().map(|rung| rung.action),
        outcome,
        after_ms,
        sick_ms: over_at.map(|at| millis(at.since(plan.sick_since))),
        says: says.to_owned(),
    }
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Nobody acted: what would have been healed recovered alone.
pub(super) fn shadow_outcome(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Healed | Outcome::RecoveredAlone => Outcome::RecoveredAlone,
        Outcome::Unchanged | Outcome::Worse | Outcome::StayedSick => Outcome::StayedSick,
        Outcome::Died => Outcome::Died,
        Outcome::Unknown | Outcome::Refused | Outcome::Notified => Outcome::Unknown,
    }
}
