//! The second look: what must still be true just before the blow. Its words are the reason in the audit.

use super::host::Host;
use crate::{
    engine::command::{Act, Look},
    identity::process::ProcessId,
};

/// # Errors
/// Why it does not hold; nothing may be touched then.
pub(super) fn again(look: &Look, act: &Act, host: &dyn Host) -> Result<(), String> {
    match look {
        Look::SameProcess(id) => host.hold(*id).map(drop).map_err(|gone| gone.to_string()),
        Look::StillDown(id) => still_down(*id, act, host),
        Look::NotProtected(id) => not_protected(*id, host),
        Look::ProofHolds(proof) => host.prove_again(proof),
        Look::SecondReason(id) => second_reason(*id, host),
    }
}

fn still_down(id: ProcessId, act: &Act, host: &dyn Host) -> Result<(), String> {
    if host.hold(id).is_ok() {
        return Err(format!("pid {} lives", id.pid));
    }
    // A supervisor may not have told yet that its child is dead.
    let child = act.target.place.supervise.as_deref().and_then(|name| host.supervised(name));
    match child.filter(|child| *child != id) {
        Some(child) => Err(format!("a successor lives already: pid {}", child.pid)),
        None => Ok(()),
    }
}

fn second_reason(id: ProcessId, host: &dyn Host) -> Result<(), String> {
    if host.listens(id) {
        return Ok(());
    }
    Err("no thread can ever run again, but nothing says that anybody misses it: it listens on no port, no probe fails"
        .to_owned())
}

fn not_protected(id: ProcessId, host: &dyn Host) -> Result<(), String> {
    let held = host.hold(id).map_err(|gone| gone.to_string())?;
    host.untouchable(&held).map_or(Ok(()), Err)
}
