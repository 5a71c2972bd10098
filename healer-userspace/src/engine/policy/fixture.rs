//! What tests of rules begin with.

use core::time::Duration;

use super::{Certainty, Class, Condition, Probe, ProbeAsk};

impl Condition {
    /// Whenever the class is probable.
    pub fn of(class: Class) -> Self {
        Self {
            class,
            certainty: Certainty::Probable,
            hold: None,
            exits: None,
            min_evidence: None,
            time_to_limit_under: None,
            kind: None,
        }
    }
}

impl Probe {
    /// Every second, and the first failure counts.
    pub fn each_second(ask: ProbeAsk) -> Self {
        let second = Duration::from_secs(1);
        Self { ask, period: second, timeout: second, failures: 1, start_grace: Duration::ZERO }
    }
}
