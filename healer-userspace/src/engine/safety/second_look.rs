//! Orders the look that the hands take just before the blow; their refusal is this gate's verdict.

use super::{Facts, Proposal, Ruling};
use crate::engine::command::Look;

pub(super) fn judge(_: &Proposal<'_>, _: &Facts<'_>) -> Ruling {
    Ruling::pass("the hands look again just before the act")
}

pub(super) fn looks(proposal: &Proposal<'_>, target_is_dead: bool) -> Vec<Look> {
    let id = proposal.target.id();
    if target_is_dead {
        vec![Look::StillDown(id)]
    } else {
        let proof = proposal.diagnosis.detail.proof.clone().map(Look::ProofHolds);
        [Look::SameProcess(id), Look::NotProtected(id)].into_iter().chain(proof).collect()
    }
}
