//! Which rule answers what is diagnosed: the first in the policy's order.

use std::collections::BTreeMap;

use super::{Condition, Policy};
use crate::engine::{class::Class, detect::enough_ends, diagnosis::Diagnosis, time::BootTime};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// First rule that matches now, and the class that it matched.
    pub now: Option<(usize, Class)>,
    /// When a rule before it would match, if the finding lasts.
    pub later: Option<BootTime>,
}

pub fn answer(policy: &Policy, active: &BTreeMap<Class, Diagnosis>, now: BootTime) -> Answer {
    let mut later: Option<BootTime> = None;
    for (index, rule) in policy.rules.iter().enumerate() {
        for condition in &rule.when {
            let Some(diagnosis) = active.get(&condition.class).filter(|found| fits(condition, found, now))
            else {
                continue;
            };
            let due = diagnosis.detected_at + condition.hold.unwrap_or_default();
            if due <= now {
                return Answer { now: Some((index, condition.class)), later };
            }
            later = Some(later.map_or(due, |earlier| earlier.min(due)));
        }
    }
    Answer { now: None, later }
}

fn fits(condition: &Condition, diagnosis: &Diagnosis, now: BootTime) -> bool {
    let detail = &diagnosis.detail;
    let under = |limit| {
        detail.time_to_limit_ms.is_some_and(|left| u128::from(left) < core::time::Duration::as_millis(&limit))
    };
    diagnosis.certainty >= condition.certainty
        && condition.exits.as_ref().is_none_or(|exits| enough_ends(&detail.ends, exits, now))
        && condition.min_evidence.is_none_or(|least| detail.evidence_count >= least)
        && condition.kind.as_ref().is_none_or(|kind| detail.kind.as_ref() == Some(kind))
        && condition.time_to_limit_under.is_none_or(under)
}
