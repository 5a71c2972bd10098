//! What our own act did is no new fault.

use super::{Facts, Proposal, Ruling};

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    let own = proposal
        .diagnosis
        .detail
        .certificate
        .as_ref()
        .and_then(|certificate| certificate.own.as_ref());
    match own.or(facts
        .ledger
        .struck_by(proposal.diagnosis.target.id())
        .map(|key| &key.0))
    {
        Some(key) => Ruling::refuse(format!("our own act {key} did this")),
        None => Ruling::pass("not our own doing"),
    }
}
