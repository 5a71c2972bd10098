//! PID 1, kernel threads, and what the administrator named are never touched.
//!
//! By unit and by executable, never by comm: a process can give itself any name. The hands compare device and
//! inode once more just before the blow.

use super::{Facts, Proposal, Ruling};

/// `PF_KTHREAD` tasks are children of kthreadd.
const KTHREADD: u32 = 2;

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    let target = proposal.target;
    let protect = &facts.policies.protect;
    // Of a dead container only its runtime told, and never under which pid it ran; any other pid 0 is nobody.
    let is_told_by_owner = target.pid == 0 && target.place.container.is_some();
    let is_early = target.pid <= KTHREADD && !is_told_by_owner;
    if is_early || target.parent.as_ref().is_some_and(|parent| parent.pid == KTHREADD) {
        return Ruling::refuse(format!("pid {} is init or a kernel thread", target.pid));
    }
    if let Some(unit) = target.place.unit.as_ref().filter(|unit| protect.pattern_of(unit).is_some()) {
        return Ruling::refuse(format!("unit {unit} is protected"));
    }
    if let Some(exe) = target.exe.as_ref().filter(|exe| protect.exes.contains(exe)) {
        return Ruling::refuse(format!("executable {exe} is protected"));
    }
    Ruling::pass("not protected")
}
