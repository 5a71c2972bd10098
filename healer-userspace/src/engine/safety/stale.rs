//! What has happened, and does not last, is answered soon or not at all. A service that is down stays down and is
//! answered whenever it can be; an end that a gate has held since is not replayed when that gate opens.

use core::time::Duration;

use super::{Facts, Proposal, Ruling, maintenance};
use crate::engine::time::Human;

/// After the rule's own `for`, and what the policy itself makes it wait at most.
const SOON: Duration = Duration::from_secs(600);

/// The name of this gate: nobody is bothered with what it drops.
pub const STALE: &str = "stale";

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    if !proposal.has_passed || proposal.escalating {
        return Ruling::pass("it is still so");
    }
    let (at, class) = (proposal.diagnosis.fault_at, proposal.diagnosis.class);
    if at < facts.born {
        let before = Human(facts.born.since(at));
        return Ruling::refuse(format!("stale: it happened {before} before healer started"));
    }
    if let Some(cured) = facts.ledger.last_cure(proposal.workload, proposal.mode).filter(|cured| at < *cured)
    {
        let before = Human(cured.since(at));
        return Ruling::refuse(format!(
            "stale: it happened {before} before an act that healed {}",
            proposal.workload
        ));
    }
    let safety = &proposal.policy.safety;
    let tripped =
        facts.ledger.tripped_at(proposal.now, proposal.workload, class, proposal.mode, &safety.breaker);
    let of_node = facts.policies.node_breaker.as_ref();
    let of_node =
        of_node.and_then(|breaker| facts.ledger.node_tripped_at(proposal.now, proposal.mode, breaker));
    if let Some(tripped) = tripped.max(of_node).filter(|tripped| at < *tripped) {
        let before = Human(tripped.since(at));
        return Ruling::refuse(format!("stale: it happened {before} before the breaker tripped"));
    }
    let held =
        proposal.rule.when.iter().filter(|when| when.class == class).filter_map(|when| when.hold).max();
    let soaks = safety.canary.map_or(Duration::ZERO, |canary| canary.soak);
    let meant = held.unwrap_or_default() + safety.backoff.max.max(safety.breaker.probe_after) + soaks;
    let age = proposal.now.since(proposal.diagnosis.detected_at);
    if SOON + meant < age {
        return Ruling::refuse(format!("stale: it happened {} ago", Human(age)));
    }
    if let Some((whose, _)) = maintenance::under_way(proposal, facts, at) {
        return Ruling::refuse(format!("stale: it happened in a maintenance window ({whose})"));
    }
    Ruling::pass("it is news")
}
