//! What healer can see, and what it cannot and why.

use serde::Serialize;

use super::govern::{Governed, Overhead};
use crate::engine::time::BootTime;

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

/// What the self-check at start found out about a sensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Checked {
    /// Nothing: it is down, it is a kind that cannot be provoked, or records were lost meanwhile.
    #[default]
    No,
    /// What it said of healer's own children was right.
    Truthful,
    /// It was wrong: the sensor was taken down.
    Lied,
}

/// One sensor, as `healer sensors` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SensorStatus {
    /// The event's name, such as `process_exit`.
    pub name: &'static str,
    /// The way it is attached by, such as `tp_btf`.
    pub via: Option<&'static str>,
    pub state: SensorState,
    pub checked: Checked,
    /// Kernel fields that its source does not give, as `struct.member`; `/proc` may add them.
    pub missing: Vec<String>,
    /// Why it is not attached, or not by the best way, in words.
    pub reason: Option<String>,
    /// What an administrator can do about that.
    pub remedy: Option<String>,
    /// How much it sees, where the overhead governor decides.
    #[serde(skip)]
    pub mode: Option<Mode>,
}

/// How much a governed sensor sees, since when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mode {
    pub name: &'static str,
    pub since: BootTime,
    pub why: String,
}

impl From<&Governed> for Mode {
    fn from(state: &Governed) -> Self {
        Self { name: state.mode.name(), since: state.since, why: state.why.clone() }
    }
}

impl Mode {
    pub(crate) fn off(overhead: &Overhead) -> Self {
        Self { name: "off", since: overhead.stage_since, why: overhead.stage_in_words() }
    }
}

impl SensorStatus {
    /// Attached; `trouble` is why the best way was not taken.
    pub(crate) fn working(
        name: &'static str,
        via: &'static str,
        missing: Vec<String>,
        trouble: Option<Trouble>,
    ) -> Self {
        let is_best = missing.is_empty() && trouble.is_none();
        let state = if is_best { SensorState::Attached } else { SensorState::Degraded };
        let (reason, remedy) = trouble.map(|trouble| (trouble.reason, trouble.remedy)).unzip();
        Self { name, via: Some(via), state, checked: Checked::No, missing, reason, remedy, mode: None }
    }

    pub(crate) fn down(name: &'static str, why: &Trouble) -> Self {
        Self {
            name,
            via: None,
            state: SensorState::Down,
            checked: Checked::No,
            missing: Vec::new(),
            reason: Some(why.reason.clone()),
            remedy: Some(why.remedy.clone()),
            mode: None,
        }
    }

    /// Adds to what is said already.
    pub(crate) fn say(&mut self, reason: &str, remedy: &str) {
        let join = |before: Option<String>, more: &str| {
            Some(before.map_or_else(|| more.to_owned(), |before| format!("{before}; {more}")))
        };
        self.reason = join(self.reason.take(), reason);
        self.remedy = join(self.remedy.take(), remedy);
    }

    pub(crate) fn lied(&mut self, how: &Trouble) {
        *self = Self { checked: Checked::Lied, ..Self::down(self.name, how) };
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
