//! What tests of rules begin with.

use super::{Certainty, Class, Condition};

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
