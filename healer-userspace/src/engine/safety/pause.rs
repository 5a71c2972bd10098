//! An operator said: touch nothing.

use super::{Facts, Proposal, Ruling};

pub(super) fn judge(_: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    match facts.paused {
        Some(by) => Ruling::hold(None, format!("paused by {by}; `healer resume` lets it act")),
        None => Ruling::pass("not paused"),
    }
}
