//! Orders the look that the hands take just before the blow; their refusal is this gate's verdict.

use super::{Facts, Proposal, Ruling};
use crate::engine::{class::Class, command::Look};

pub(super) fn judge(_: &Proposal<'_>, _: &Facts<'_>) -> Ruling {
    Ruling::pass("the hands look again just before the act")
}

pub(super) fn looks(proposal: &Proposal<'_>, active: &[Class], target_is_dead: bool) -> Vec<Look> {
    let id = proposal.target.id();
    if target_is_dead {
        vec![Look::StillDown(id)]
    } else {
        let proof = proposal.diagnosis.detail.proof.clone().map(Look::ProofHolds);
        let second = wants_second_reason(proposal, active).then_some(Look::SecondReason(id));
        [Look::SameProcess(id), Look::NotProtected(id)].into_iter().chain(second).chain(proof).collect()
    }
}

/// Work that waits or a probe that fails is a second reason; else the hands ask whether it listens.
fn wants_second_reason(proposal: &Proposal<'_>, active: &[Class]) -> bool {
    let by_closed_world = proposal.diagnosis.detail.kind.as_deref() == Some("closed_world");
    let has_another = active.iter().any(|class| matches!(class, Class::Hang | Class::ProbeFailed));
    proposal.rung.action.is_destructive() && by_closed_world && !has_another
}
