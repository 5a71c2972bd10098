//! What a detector concludes, with its sentence and its evidence.

use serde::{Deserialize, Serialize};

use super::{
    certificate::Certificate,
    class::{Certainty, Class},
    time::BootTime,
};
use crate::identity::process::Process;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    pub class: Class,
    pub certainty: Certainty,
    /// The patient, or the dead.
    pub target: Process,
    /// Others involved: the OOM trigger, the rest of a lock cycle, the blamed peer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Process>,
    /// First kernel evidence.
    pub fault_at: BootTime,
    pub detected_at: BootTime,
    /// One line with numbers, for a person.
    pub sentence: String,
    pub evidence: Vec<Evidence>,
    /// Records lost in the window that the conclusion rests on.
    pub lost: u64,
    /// The detector concludes from what it did *not* see: lost records forbid acting.
    #[serde(default)]
    pub from_absence: bool,
    /// Class-specific facts that a rule's condition may ask for.
    #[serde(default, skip_serializing_if = "Detail::is_empty")]
    pub detail: Detail,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Name of the signal or poll, as in `healer sensors`.
    pub signal: String,
    pub at: BootTime,
    pub says: String,
}

/// Numbers that conditions compare; absent where the class has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<crate::signal::Exit>,
    /// Why the target ended, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Abnormal ends counted by `crash_loop`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<End>,
    /// `hang`: unresponsive | spinning; `dependency_failure`: refuses | unreachable | …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Independent pieces of evidence.
    #[serde(default)]
    pub evidence_count: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_limit_ms: Option<u64>,
    /// How bad it is now, in percent of what there is: use of a limit, share of time stalled. Raised anew as it changes;
    /// `verify.signalBelow` compares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<f64>,
    /// `deadlock` and the like: all that proves it, as the detector's own object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<serde_json::Value>,
}

impl Detail {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One abnormal end of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub at: BootTime,
    /// Exit status, or 128 + signal as shells count.
    pub code: i32,
    pub weight: u32,
    /// Ended by a fault of its own, or for want of memory.
    pub fault: bool,
    pub start: BootTime,
    /// Whoever starts it never asks how it ended.
    pub unasked: bool,
    /// Digest of its arguments: which of the lives of a command were called in exactly the same words.
    #[serde(skip)]
    pub words: u64,
}
