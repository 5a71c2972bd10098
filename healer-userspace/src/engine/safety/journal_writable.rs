//! An act that cannot be journaled first is not done. Sensing goes on.

use core::time::Duration;

use super::{Facts, Proposal, Ruling};

const ASK_AGAIN: Duration = Duration::from_secs(5);

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    match facts.journal_error {
        Some(error) => {
            Ruling::hold(Some(proposal.now + ASK_AGAIN), format!("the journal cannot be written: {error}"))
        }
        None => Ruling::pass("journal writable"),
    }
}
