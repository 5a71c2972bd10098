//! One step at a time: gates → intent → act → verification → next rung.

mod act;
mod close;
mod gate;
mod judge;
mod lease;
mod shadow;
mod unwanted;

use core::time::Duration;

use super::{
    Engine,
    certificate::Certificate,
    class::Class,
    command::{
        Act, ActionKey, ActionOutcome, ActionResult, Command, IncidentId, Intent, JournalEntry, Look,
        PastAct, Question,
    },
    detect::Subject,
    incident::{Incident, Plan, Stage},
    lease::{Lease, Why},
    policy::{ActionName, Mode, Rung, choose},
    report::{Closed, GateReport, Outcome, Report, ReportFact, Verdict},
    safety::{self, Facts, GATES, Proposal},
    time::BootTime,
    verify::{Check, Verification},
    world::Workload,
};
use crate::{
    identity::process::Process,
    signal::{Answer, Fact, Signal},
    text,
};

const ACT_TIMEOUT: Duration = Duration::from_secs(30);
/// The hands have a time limit of their own; this is for an answer that never comes.
const ANSWER_SLACK: Duration = Duration::from_secs(5);
/// After an intent that could not be written.
const INTENT_AGAIN: Duration = Duration::from_secs(5);
/// To look at a few files.
const SURVEY_LIMIT: Duration = Duration::from_secs(5);
/// What failed for a root that is well again has so long to recover by itself.
const RECOVERS: Duration = Duration::from_secs(10);
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
    pub(in crate::engine) fn step(&mut self, now: BootTime, id: IncidentId) {
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

    fn go_on(&mut self, now: BootTime, id: IncidentId, next: Next) {
        match next {
            Next::Again => self.step(now, id),
            Next::Wait => {}
            Next::Close(outcome, says) => self.close(now, id, outcome, says),
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
            Stage::Surveying { until, .. } if now < *until => Next::Wait,
            Stage::Surveying { key, .. } => {
                self.surveying.remove(key);
                let error = "the hands did not say in time what they would turn".to_owned();
                self.cannot(now, incident, &mut plan, ActionOutcome::Failed { error, errno: None })
            }
            Stage::Acting { key, until } | Stage::Reconciling { key, until } => {
                if now < *until {
                    Next::Wait
                } else {
                    let key = key.clone();
                    let reason = if matches!(plan.stage, Stage::Acting { .. }) {
                        "no answer came in time".to_owned()
                    } else {
                        "healer ended before its result was known".to_owned()
                    };
                    self.took(
                        now,
                        incident,
                        &mut plan,
                        ActionResult { key, outcome: ActionOutcome::Unknown { reason } },
                    )
                }
            }
            Stage::Over(outcome, says) => {
                self.lands(now, incident, *outcome == Outcome::RecoveredAlone);
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
}

fn over(plan: &mut Plan, outcome: Outcome, says: String) -> Next {
    plan.stage = Stage::Over(outcome, says);
    Next::Again
}
