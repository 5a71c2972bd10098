//! The first act is immediate; each further one on the same workload waits longer. One act at a time.

use core::time::Duration;

use super::{Facts, Proposal, Ruling};
use crate::engine::time::Human;

const ASK_AGAIN: Duration = Duration::from_millis(500);

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    if let Some(other) = facts.busy {
        return Ruling::hold(
            Some(proposal.now + ASK_AGAIN),
            format!("{other} is still acting on this workload"),
        );
    }
    if proposal.escalating {
        return Ruling::pass("next rung of the same incident");
    }
    let until = facts.ledger.backoff_until(proposal.workload, proposal.mode, &proposal.policy.safety.backoff);
    if proposal.now < until {
        return Ruling::hold(
            Some(until),
            format!("backing off for another {}", Human(until.since(proposal.now))),
        );
    }
    Ruling::pass("no backoff is running")
}
