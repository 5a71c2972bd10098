//! Lost records forbid conclusions from absence, and only those: otherwise a fork bomb would switch healing off.

use super::{Facts, Proposal, Ruling};

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    match (facts.lost, proposal.diagnosis.from_absence) {
        (0, _) => Ruling::pass("no records lost"),
        (lost, false) => {
            Ruling::pass(format!("{lost} records lost, but the diagnosis rests on what was seen"))
        }
        (lost, true) => {
            Ruling::refuse(format!("{lost} records were lost and the diagnosis rests on what was not seen"))
        }
    }
}
