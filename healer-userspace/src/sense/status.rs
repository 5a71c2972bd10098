//! What healer can see, and what it cannot and why.

use serde::Serialize;

/// How well a sensor works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SensorState {
    /// By the best way, with every field.
    Attached,
    /// By a lesser way, or with fields missing.
    Degraded,
    /// Not at all: its numbers must not be shown as zero.
    Down,
}

/// One sensor, as `healer sensors` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SensorStatus {
    /// The event's name, such as `process_exit`.
    pub name: &'static str,
    /// The way it is attached by, such as `tp_btf`.
    pub via: Option<&'static str>,
    pub state: SensorState,
    /// Kernel fields that records will lack, as `struct.member`.
    pub missing: Vec<String>,
    /// Why it is not attached, in words.
    pub reason: Option<String>,
    /// What an administrator can do about that.
    pub remedy: Option<String>,
}

impl SensorStatus {
    pub(crate) fn working(name: &'static str, via: &'static str, missing: Vec<String>) -> Self {
        let state = if missing.is_empty() { SensorState::Attached } else { SensorState::Degraded };
        Self { name, via: Some(via), state, missing, reason: None, remedy: None }
    }

    pub(crate) fn down(name: &'static str, why: &Trouble) -> Self {
        Self {
            name,
            via: None,
            state: SensorState::Down,
            missing: Vec::new(),
            reason: Some(why.reason.clone()),
            remedy: Some(why.remedy.clone()),
        }
    }
}

/// Why something does not work, and what helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

impl Trouble {
    pub(crate) fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into() }
    }
}
