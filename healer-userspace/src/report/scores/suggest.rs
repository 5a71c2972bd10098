//! How long a rule should have waited.

use serde::{Deserialize, Serialize};

use super::Sick;

/// What a person would write after `for:`, in seconds.
const STEPS: [u64; 12] = [5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600];
/// The shortest wait that spares so many of those that the longest spares.
const ENOUGH: f64 = 0.8;

/// A `for` that would have spared needless acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Suggestion {
    pub for_seconds: u64,
    /// Needless acts that it would have avoided.
    pub avoids: u64,
    pub needless: u64,
    /// Right acts that would have come too late: the patient had ended.
    pub misses: u64,
    pub right: u64,
    /// One line for a person.
    pub says: String,
}

/// None if nothing was needless, or if waiting would have cost as much as it spared.
pub(super) fn suggestion(acts: impl Iterator<Item = Sick>) -> Option<Suggestion> {
    let (needless, right): (Vec<Sick>, Vec<Sick>) = acts.partition(|act| act.needless);
    let within = |acts: &[Sick], step: u64| {
        acts.iter().filter(|act| act.millis.is_some_and(|millis| millis < step * 1000)).count() as u64
    };
    let most = STEPS.iter().map(|step| within(&needless, *step)).max()?;
    let wanted = (most as f64 * ENOUGH).ceil() as u64;
    let for_seconds = STEPS.into_iter().find(|step| within(&needless, *step) >= wanted)?;
    let (avoids, misses) = (within(&needless, for_seconds), within(&right, for_seconds));
    if avoids <= misses {
        return None;
    }
    let (needless, right) = (needless.len() as u64, right.len() as u64);
    let late = if misses == 0 {
        String::new()
    } else {
        format!(", and come too late for {misses} of {right} right ones")
    };
    let wait =
        if for_seconds % 60 == 0 { format!("{}m", for_seconds / 60) } else { format!("{for_seconds}s") };
    let says = format!("for: {wait} would have avoided {avoids} of {needless} needless acts{late}");
    Some(Suggestion { for_seconds, avoids, needless, misses, right, says })
}
