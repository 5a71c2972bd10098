//! The running agent's ear: a unix socket in the state directory, for root alone.
//! One JSON object per line each way.

pub mod client;
mod server;
pub mod socket;
mod stream;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

pub use self::server::{Server, bind};

/// Name of the socket in the state directory.
pub const SOCKET: &str = "agent.sock";

/// A line from a client, for example `{"ask": "why", "target": "web"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    Status,
    /// All (newest first, without timelines), or one with its timeline.
    Incidents {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    /// Everything about a pid, a workload or an incident.
    Why {
        target: String,
    },
    Sensors,
    Policies,
    Workloads,
    /// Who connects to whom.
    Dependencies,
    /// What rules in shadow would have done, and whether that would have been right.
    Scores,
    /// Stop acting (never sensing) until `resume`.
    Pause {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Resume,
    /// Read the policy files again.
    Reload,
    /// Give back what is lent now: all, or of one incident.
    Undo {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
    },
    /// After the answer, every signal as a line of its own, until the client goes.
    Record,
}

/// The line that comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    Ok(Value),
    /// What was tried and what to do, in words.
    Error(String),
}

/// What only the agent's own loop may do. The answer goes back in words.
#[derive(Debug)]
pub struct Order {
    pub what: Change,
    pub reply: oneshot::Sender<Result<String, String>>,
}

#[derive(Clone, Debug)]
pub enum Change {
    /// Who asked, and why.
    Pause {
        by: String,
    },
    Resume,
    Reload,
    /// Read what the kernel has told by now, and say under which policy this process runs: empty of others.
    CatchUp {
        about: Option<u32>,
    },
    Undo {
        of: Option<String>,
    },
    /// Signals as JSONL, first those that say who lives now.
    Record {
        lines: mpsc::Sender<Bytes>,
    },
}

#[cfg(test)]
mod tests;
