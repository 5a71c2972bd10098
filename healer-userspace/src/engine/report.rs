//! What happened: one value per fact; the reporters write log line, metric and audit record from it.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    class::Class,
    command::{ActionKey, ActionResult, IncidentId, Intent},
    diagnosis::Diagnosis,
    policy::{ActionName, Mode},
    time::BootTime,
};
use crate::identity::process::{Process, WorkloadKey};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub at: BootTime,
    /// None for facts about the agent itself.
    pub incident: Option<IncidentId>,
    pub workload: Option<WorkloadKey>,
    #[serde(flatten)]
    pub fact: ReportFact,
}

/// The `record` field of the audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "record")]
#[expect(clippy::large_enum_variant, reason = "few at a time, and on their way out")]
pub enum ReportFact {
    Diagnosis(Diagnosis),
    /// Rule and ladder chosen, or why none was.
    Plan(Plan),
    Gate(GateReport),
    Intent(Intent),
    Result(ActionResult),
    Verification(Verification),
    /// Shadow: what became of the would-be patient.
    Score(Score),
    Notify {
        class: Class,
        sentence: String,
        reason: String,
    },
    Closed(Closed),
    /// A lease is over, or cannot be undone now.
    Undone(Undoing),
    /// Start, stop, reload, pause, a sensor that went down.
    Agent {
        event: String,
        says: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub policy: Option<String>,
    pub rule: Option<String>,
    pub mode: Mode,
    /// Names of the rungs, in order.
    pub ladder: Vec<String>,
    pub says: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    pub gate: String,
    pub verdict: Verdict,
    pub reason: String,
    pub mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    /// Not now; asked again.
    Hold,
    Refuse,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    pub outcome: Outcome,
    pub after_ms: u64,
    pub says: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<Process>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub policy: String,
    pub rule: String,
    pub class: Class,
    pub action: Option<ActionName>,
    pub outcome: Outcome,
    /// From the would-be act to the verdict.
    pub after_ms: u64,
    /// From the diagnosis to recovery or end, which is what a rule's `for` is measured against; None: it lasted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sick_ms: Option<u64>,
    pub says: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Undoing {
    /// Of the act that took the lease.
    pub key: ActionKey,
    pub action: ActionName,
    pub why: String,
    /// False: it is tried again.
    pub complete: bool,
    /// What was turned back, and what was left as somebody else has set it.
    pub says: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Healed,
    Unchanged,
    Worse,
    /// Shadow, or before any act: it became well without us.
    RecoveredAlone,
    /// Shadow: still sick when the window closed.
    StayedSick,
    /// The patient ended, and not by our act.
    Died,
    Unknown,
    /// A gate refused, or the second look.
    Refused,
    /// Observe mode, or a rule that only notifies.
    Notified,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::Healed => "healed",
            Self::Unchanged => "unchanged",
            Self::Worse => "worse",
            Self::RecoveredAlone => "recovered_alone",
            Self::StayedSick => "stayed_sick",
            Self::Died => "died",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
            Self::Notified => "notified",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    pub outcome: Outcome,
    pub says: String,
    /// fault → diagnosis, diagnosis → act done, act done → verified well.
    pub to_detect: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_act: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_recover: Option<Duration>,
}
