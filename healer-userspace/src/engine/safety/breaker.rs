//! After failed verifications the breaker trips: nothing is tried until one probe may decide.

use super::{Facts, Proposal, Ruling, ledger::BreakerState};
use crate::engine::time::Human;

/// The reason of the one act that decides; the metric of the breaker's state knows it by this.
pub const PROBING: &str = "breaker is probing: this one act decides";

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    let settings = &proposal.policy.safety.breaker;
    let class = proposal.diagnosis.class;
    match facts.ledger.breaker(proposal.now, proposal.workload, class, proposal.mode, settings) {
        BreakerState::Allowing => Ruling::pass("breaker is allowing"),
        BreakerState::Probing => Ruling::pass(PROBING),
        BreakerState::Tripped { failures, probe_at } => Ruling::hold(
            Some(probe_at),
            format!(
                "breaker tripped after {failures} acts on {class} that did not heal; it probes again in {}",
                Human(probe_at.since(proposal.now))
            ),
        ),
    }
}
