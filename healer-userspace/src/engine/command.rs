//! What the engine wants done: acts, questions, and entries for the journal.

use serde::{Deserialize, Serialize};

use super::{
    class::Class,
    lease::{Lease, Surveyed, Turn, Undo, Undone},
    policy::{ActionName, Mode, Port, Rung},
    time::BootTime,
    verify::Disk,
};
use crate::identity::process::{Pod, Process, ProcessId, WorkloadKey};

/// Names one act for ever: target with start time, class, rung, attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionKey(pub String);

impl core::fmt::Display for ActionKey {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str(&self.0)
    }
}

/// Counts up over agent restarts; shown as `i42`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IncidentId(pub u64);

impl core::fmt::Display for IncidentId {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(out, "i{}", self.0)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Look what the act would turn, and how it stands; touch nothing.
    Survey(Box<Act>),
    Act(Box<Act>),
    Undo(Undo),
    Ask(Question),
    /// Read at once who uses whom: somebody is to be judged by it.
    LookAtPeers,
    /// Tell the supervisor that no order will come: it may exit with its child's code.
    Release {
        workload: WorkloadKey,
        reason: String,
    },
}

/// One act on one target. The hands look again (`look`) just before the blow and refuse if it does not hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Act {
    pub key: ActionKey,
    pub incident: IncidentId,
    pub class: Class,
    pub mode: Mode,
    pub rung: Rung,
    pub workload: WorkloadKey,
    pub target: Process,
    /// The kernel said that the target ignores SIGTERM: no grace.
    #[serde(default)]
    pub ignores_signal: bool,
    pub look: Vec<Look>,
    /// What it turns, and how that stood before: what is needed to undo it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Turn>,
    /// The incident as JSON, for hooks.
    pub incident_json: String,
}

impl Act {
    /// After such an outcome the engine watches whether it helped, also over a restart of healer's. A restart of
    /// which nobody knows whether it happened is told by its successor; a lease is undone whether it happened or not.
    pub fn is_verified_after(&self, outcome: &ActionOutcome) -> bool {
        self.mode == Mode::Enforce
            && !self.rung.action.is_standing()
            && self.rung.action != ActionName::Capture
            && match outcome {
                ActionOutcome::Done { .. } => true,
                ActionOutcome::Unknown { .. } => {
                    self.rung.action == ActionName::Restart || self.rung.action.is_lease()
                }
                ActionOutcome::WouldDo { .. }
                | ActionOutcome::Refused { .. }
                | ActionOutcome::Failed { .. } => false,
            }
    }
}

/// The second look: what must still be true at the moment of the blow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// The same pid with the same start time, held as a pidfd from here on.
    SameProcess(ProcessId),
    /// That process is gone, and no successor of the workload lives.
    StillDown(ProcessId),
    /// A proof by the closed world alone: a program may park for ever by design, but not one that listens.
    SecondReason(ProcessId),
    /// The executable is none of the protected ones (device and inode, resolved now).
    NotProtected(ProcessId),
    /// The diagnosis's own proof (`detail.proof`), repeated on the victims, shows the same.
    ProofHolds(serde_json::Value),
    /// The memory of the diagnosis's own proof is as short as it was then.
    MemoryShort(serde_json::Value),
    /// Connections of the diagnosis's own proof have moved no more than then.
    ConnectionsDead(serde_json::Value),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    pub id: u64,
    pub about: ProcessId,
    pub what: Ask,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Which of these ports does nobody listen on in the network namespace of the process?
    Listening(Vec<Port>),
    Alive,
    /// Has the pod this annotation now?
    Paused {
        pod: Pod,
        annotation: String,
    },
    /// Is this file system, such as `8:1`, mounted read-only now?
    ReadOnly {
        device: String,
    },
}

/// Comes back by `Engine::action_finished`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionResult {
    pub key: ActionKey,
    pub outcome: ActionOutcome,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionOutcome {
    /// The effect is confirmed (not merely asked for).
    Done {
        says: String,
    },
    /// Dry run: this would have been done.
    WouldDo {
        says: String,
    },
    /// The second look did not hold; nothing was touched.
    Refused {
        reason: String,
    },
    Failed {
        error: String,
        errno: Option<i32>,
    },
    /// healer died inside, or the answer never came.
    Unknown {
        reason: String,
    },
}

impl ActionOutcome {
    /// As in `healer_actions_total{outcome}`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done { .. } => "done",
            Self::WouldDo { .. } => "would_do",
            Self::Refused { .. } => "refused",
            Self::Failed { .. } => "failed",
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// What the hands bring back.
#[derive(Clone, Debug, PartialEq)]
pub enum Returned {
    Surveyed(Surveyed),
    Acted(ActionResult),
    Undone(Undone),
}

/// Written to the durable store. Only `Intent` is answered (`Engine::committed`), after it is synced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "entry")]
#[expect(clippy::large_enum_variant, reason = "few at a time, and an intent is the common case")]
pub enum JournalEntry {
    Intent(Intent),
    /// Closes the intent.
    Result(ActionResult),
    /// A verified rung: what budgets, backoff and breaker remember over a restart.
    Verified {
        key: ActionKey,
        workload: WorkloadKey,
        class: Class,
        outcome: String,
    },
    Closed {
        incident: IncidentId,
    },
    /// The lease of that act is over.
    Undone {
        key: ActionKey,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    pub act: Act,
    pub policy: String,
    pub rule: String,
    pub rung_index: usize,
    pub at: BootTime,
    /// Known to be read-only by then: whoever verifies it, in this life or the next one, asks about them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_only: Vec<Disk>,
}

/// What the store remembers, brought to the engine at start. Times are converted to this boot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    pub next_incident: u64,
    /// Intents without a result that were written in this boot. (Those of another boot the store closes as unknown.)
    pub open: Vec<Intent>,
    /// Acts of this boot that are over, and were being verified.
    pub verifying: Vec<Intent>,
    /// What is still lent.
    pub leases: Vec<Lease>,
    /// Acts with a confirmed effect, oldest first.
    pub acts: Vec<PastAct>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PastAct {
    pub workload: WorkloadKey,
    pub class: Class,
    pub mode: Mode,
    pub at: BootTime,
    /// None until verified.
    pub healed: Option<bool>,
}

impl ActionOutcome {
    /// The outcome in words.
    pub fn says(&self) -> &str {
        match self {
            Self::Done { says } | Self::WouldDo { says } => says,
            Self::Refused { reason } | Self::Unknown { reason } => reason,
            Self::Failed { error, .. } => error,
        }
    }
}
