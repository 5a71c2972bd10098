//! After failed verifications the breaker trips: nothing is tried until one probe may decide. One for each workload and
//! class, and one for the node: where act after act heals nobody, the fault is not the workloads'.

use core::time::Duration;

use super::{Facts, Proposal, Ruling, ledger::BreakerState};
use crate::engine::time::Human;

/// The reason of the one act that decides; the metric of the breaker's state knows it by this.
pub const PROBING: &str = "breaker is probing: this one act decides";
const NODE_PROBING: &str = "breaker of the node is probing: this one act decides";
const ASK_AGAIN: Duration = Duration::from_millis(500);

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    let settings = &proposal.policy.safety.breaker;
    let class = proposal.diagnosis.class;
    let reason = match facts.ledger.breaker(proposal.now, proposal.workload, class, proposal.mode, settings) {
        BreakerState::Allowing => "breaker is allowing",
        BreakerState::Probing => PROBING,
        BreakerState::Tripped { failures, probe_at } => {
            return Ruling::hold(
                Some(probe_at),
                format!(
                    "breaker tripped after {failures} acts on {class} that did not heal; it probes again in {}",
                    Human(probe_at.since(proposal.now))
                ),
            );
        }
    };
    of_the_node(proposal, facts).unwrap_or_else(|| Ruling::pass(reason))
}

/// None while it allows. The ladder of an incident goes on: its earlier rungs are what was counted.
fn of_the_node(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Option<Ruling> {
    let settings = facts.policies.node_breaker.as_ref().filter(|_| !proposal.escalating)?;
    match facts.ledger.node_breaker(proposal.now, proposal.mode, settings) {
        BreakerState::Allowing => None,
        BreakerState::Probing if facts.under_way == 0 => Some(Ruling::pass(NODE_PROBING)),
        BreakerState::Probing => {
            let says = "breaker of the node is probing: another act decides";
            Some(Ruling::hold(Some(proposal.now + ASK_AGAIN), says))
        }
        BreakerState::Tripped { failures, probe_at } => Some(Ruling::hold(
            Some(probe_at),
            format!(
                "breaker of the node tripped: the last {failures} acts healed nobody; it probes again in {}",
                Human(probe_at.since(proposal.now))
            ),
        )),
    }
}
