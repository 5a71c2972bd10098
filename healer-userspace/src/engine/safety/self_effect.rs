//! What our own act did is no new fault.

use super::{Facts, Proposal, Ruling};

pub(super) fn judge(proposal: &Proposal<'_>, _: &Facts<'_>) -> Ruling {
    let certificate = proposal.diagnosis.detail.certificate.as_ref();
    match certificate.and_then(|certificate| certificate.own.as_ref()) {
        Some(key) => Ruling::refuse(format!("our own act {key} did this")),
        None => Ruling::pass("not our own doing"),
    }
}
