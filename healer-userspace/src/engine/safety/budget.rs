//! At most so many acts on a workload, and on the node, in a sliding window. Survives restarts of the agent.

use core::time::Duration;

use super::{Facts, Proposal, Ruling};
use crate::engine::time::Human;

const ASK_AGAIN: Duration = Duration::from_millis(500);

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    let own = proposal.policy.safety.budget;
    let levels =
        [("workload", Some(own), Some(proposal.workload)), ("node", facts.policies.node_budget, None)];
    for (level, budget, workload) in levels {
        let Some(budget) = budget else { continue };
        let (used, free_at) = facts.ledger.used(proposal.now, budget, proposal.mode, workload);
        let under_way = if workload.is_none() { facts.under_way } else { facts.under_way_here };
        if used < budget.max && used + under_way >= budget.max {
            return Ruling::hold(
                Some(proposal.now + ASK_AGAIN),
                format!("{under_way} acts under way may use up the budget of this {level}"),
            );
        }
        if used >= budget.max {
            return Ruling::hold(
                Some(free_at),
                format!("{used} of {} acts per {} of this {level} are used", budget.max, Human(budget.per)),
            );
        }
    }
    let (used, _) = facts.ledger.used(proposal.now, own, proposal.mode, Some(proposal.workload));
    Ruling::pass(format!("act {} of {} per {}", used + 1, own.max, Human(own.per)))
}
