//! Somebody works on the machine or the workload, as was planned: touch nothing.

use core::time::Duration;

use super::{Facts, Proposal, Ruling};
use crate::engine::time::{BootTime, Human};

/// Wall clocks are set: nobody sleeps through the end.
const ASK_AGAIN: Duration = Duration::from_secs(30);

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    let Some((whose, left)) = under_way(proposal, facts, proposal.now) else {
        return Ruling::pass("no maintenance is under way");
    };
    let says = format!("maintenance ({whose}) for another {}", Human(left));
    Ruling::hold(Some(proposal.now + left.min(ASK_AGAIN)), says)
}

/// Whose window was open then, and how long it stayed so.
pub(super) fn under_way(
    proposal: &Proposal<'_>,
    facts: &Facts<'_>,
    then: BootTime,
) -> Option<(String, Duration)> {
    let wall = facts.wall?.seconds(then);
    let left = |until: i64| Duration::from_secs(u64::try_from(until - wall).unwrap_or(0));
    let node = facts.policies.maintenance.iter().filter_map(|window| window.until(wall)).max();
    let own = proposal.policy.safety.maintenance.iter().filter_map(|window| window.until(wall)).max();
    match (node, own) {
        (Some(node), own) if own.is_none_or(|own| own <= node) => {
            Some(("AgentConfig".to_owned(), left(node)))
        }
        (_, own) => Some((format!("policy {}", proposal.policy.name), left(own?))),
    }
}
