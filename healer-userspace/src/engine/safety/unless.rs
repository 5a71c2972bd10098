//! The rule's own exceptions: starved is not hung, a dead dependency is not its client's fault.

use core::time::Duration;

use super::{Facts, Proposal, Ruling};
use crate::engine::policy::Unless;

const ASK_AGAIN: Duration = Duration::from_secs(5);

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    for exception in &proposal.rule.unless {
        match exception {
            Unless::Class(class) if facts.active.contains(class) => {
                return Ruling::hold(
                    Some(proposal.now + ASK_AGAIN),
                    format!("{class} is diagnosed for this workload, and the rule says unless {class}"),
                );
            }
            Unless::EvidenceLost if facts.lost > 0 => {
                return Ruling::refuse(format!(
                    "{} records were lost, and the rule says unless evidence_lost",
                    facts.lost
                ));
            }
            Unless::Class(_) | Unless::EvidenceLost => {}
        }
    }
    Ruling::pass("no exception of the rule applies")
}
