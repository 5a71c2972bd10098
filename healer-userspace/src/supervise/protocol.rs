//! What supervisor and agent say to each other: one JSON object per line, over a stream socket.
//!
//! Unknown fields are ignored on both sides, so that an agent and a supervisor of neighbouring versions understand
//! each other. A line has 64 KiB at most.

use std::io;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Name;
use crate::{engine::command::ActionKey, identity::process::ProcessId, signal::Exit};

/// File name of the socket in the state directory.
pub const SOCKET: &str = "supervise.sock";

const LINE_LIMIT: usize = 64 * 1024;

/// From the supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Say {
    Register(Register),
    /// The first child runs. `start` is rounded down to the 10 ms ticks of /proc.
    Started {
        child: ProcessId,
    },
    /// The supervisor was asked to stop; said before the signal is passed on.
    StopAsked {
        signal: i32,
    },
    /// The child ended, and the supervisor waits for an order.
    Exited {
        child: ProcessId,
        exit: Exit,
    },
    /// Answers a restart. `already`: this key had been carried out before, nothing was done now.
    Restarted {
        key: ActionKey,
        child: ProcessId,
        already: bool,
    },
    Refused {
        key: ActionKey,
        reason: String,
    },
    Failed {
        key: ActionKey,
        error: String,
        errno: Option<i32>,
    },
}

/// The first line of every connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Register {
    pub name: Name,
    /// None: the name is claimed, the first child comes with `Started`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<ProcessId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_key: Option<ActionKey>,
    /// The child is dead, and this is how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Exit>,
    /// A stop was asked for while the agent was away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_asked: Option<i32>,
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// The name is yours.
    Welcome,
    /// The name is not yours; the connection is closed.
    TurnedAway {
        reason: String,
    },
    Restart(Restart),
    /// No order will come.
    Release {
        reason: String,
    },
}

/// Replace `target`: start it again if it is dead, else stop it first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    pub key: ActionKey,
    /// The child that the plan is about; refused if the child is another one by now.
    pub target: ProcessId,
    /// From the polite signal to SIGKILL, if the child lives.
    pub grace_ms: u64,
    /// The polite signal.
    pub signal: i32,
}

/// One message as a line.
pub fn line<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Cuts a byte stream into messages.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
}

impl Lines {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message; None until one is complete.
    ///
    /// # Errors
    /// `InvalidData` if a line is no message of this kind, or longer than 64 KiB.
    pub fn cut<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else {
            if self.buffer.len() > LINE_LIMIT {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "line too long"));
            }
            return Ok(None);
        };
        let message = serde_json::from_slice(&self.buffer[..end]);
        self.buffer.drain(..=end);
        Ok(Some(message?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_as_they_went_in() {
        let order = Order::Release { reason: "shadow\nmode".to_owned() };
        let bytes = [line(&Order::Welcome).unwrap(), line(&order).unwrap()].concat();
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for byte in bytes {
            lines.push(&[byte]);
            seen.extend(lines.cut::<Order>().unwrap());
        }
        assert_eq!(seen, [Order::Welcome, order]);
    }

    #[test]
    fn nonsense_and_endless_lines_are_errors() {
        let mut lines = Lines::default();
        lines.push(b"{\"order\":\"dance\"}\n");
        assert!(lines.cut::<Order>().is_err());
        lines.push(&vec![b'x'; LINE_LIMIT + 1]);
        assert!(lines.cut::<Order>().is_err());
    }
}
