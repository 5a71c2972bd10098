//! `healer supervise`: a command that `restart` can restart, and the agent's side of the same socket.
//!
//! The supervisor restarts nothing by itself. It registers with the agent, passes signals on, and after its child's
//! death waits for an order or for its release. What a user can rely on:
//!
//! - The child shares the supervisor's process group and terminal, so job control works as without a supervisor.
//! - No `PR_SET_PDEATHSIG`: if the supervisor is killed, the service lives on. A helper's death must never take the
//!   service down; the price is that the orphan can no longer be restarted by healer.
//! - The supervisor reaps whatever is re-parented to it (it may be PID 1 of a container).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub mod child;
pub mod client;
mod link;
mod peer;
pub mod protocol;
pub mod server;
mod signals;

/// What a user calls a supervised command: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a name has 1 to 64 of the characters A-Z a-z 0-9 . _ -")]
pub struct BadName;

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(BadName)
        }
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::try_from(text.to_owned())
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        assert!("web-1.blue_2".parse::<Name>().is_ok());
        for bad in ["", "a/b", "a b", "ä", "\u{1b}[31m", &"x".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
