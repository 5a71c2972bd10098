//! What has happened, and does not last, is answered soon or not at all. A service that is down stays down and is
//! answered whenever it can be; an end that a gate has held since is not replayed when that gate opens.

use super::{Facts, Proposal, Ruling, maintenance};
use crate::engine::time::Human;

/// The name of this gate: nobody is bothered with what it drops.
pub const STALE: &str = "stale";

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    if !proposal.has_passed || proposal.escalating {
        return Ruling::pass("it is still so");
    }
    let at = proposal.diagnosis.fault_at;
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
    if let Some((whose, _)) = maintenance::under_way(proposal, facts, at) {
        return Ruling::refuse(format!("stale: it happened in a maintenance window ({whose})"));
    }
    Ruling::pass("it is news")
}
