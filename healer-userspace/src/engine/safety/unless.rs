//! The rule's own exceptions: starved is not hung, a dead dependency is not its client's fault.

use core::time::Duration;

use super::{Facts, Proposal, Ruling};
use crate::engine::{class::Class, policy::Unless};

const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Whom nobody else starts would be kept down for as long as old evidence lasts, though what it uses is back.
const DOWN_LONG_ENOUGH: Duration = Duration::from_secs(10);

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    for exception in &proposal.rule.unless {
        match exception {
            Unless::Class(class) if facts.active.contains(class) && !waits_in_vain(proposal, *class) => {
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

/// The dead ask nobody: only a successor can tell whether what it uses answers again.
fn waits_in_vain(proposal: &Proposal<'_>, class: Class) -> bool {
    let is_of_others = matches!(class, Class::DependencyFailure | Class::NetworkIsolation);
    let found = proposal.diagnosis;
    is_of_others && found.class == Class::Down && DOWN_LONG_ENOUGH <= proposal.now.since(found.fault_at)
}
