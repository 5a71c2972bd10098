//! The second look: what must still be true just before the blow. Its words are the reason in the audit.

use core::time::Duration;

use super::host::Host;
use crate::{
    engine::{
        command::{Act, Look},
        detect::deadlock::proof::Proof,
    },
    identity::process::ProcessId,
};

/// The kernel tells of an end before it gives the memory of the process back; until that is done its pid is still
/// there (kernel/exit.c, `do_exit`): it takes milliseconds per gigabyte.
const TEARDOWN: Duration = Duration::from_secs(5);

/// Who was told to be dead may be on its way out.
pub(super) async fn until_gone(look: &Look, host: &dyn Host) {
    if let Look::StillDown(id) = look
        && let Ok(held) = host.hold(*id)
    {
        // Whether it is gone by then, the look itself says.
        tokio::time::timeout(TEARDOWN, host.ended(&held)).await.ok();
    }
}

/// # Errors
/// Why it does not hold; nothing may be touched then.
pub(super) fn again(look: &Look, act: &Act, host: &dyn Host) -> Result<(), String> {
    match look {
        Look::SameProcess(id) => host.hold(*id).map(drop).map_err(|gone| gone.to_string()),
        Look::StillDown(id) => still_down(*id, act, host),
        Look::NotProtected(id) => not_protected(*id, host),
        Look::ProofHolds(proof) => host.prove_again(proof),
        Look::MemoryShort(proof) => host.memory_short_again(proof),
        Look::ConnectionsDead(proof) => connections_dead(act, proof, host),
        Look::SecondReason(id) => second_reason(*id, act, host),
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

fn connections_dead(act: &Act, proof: &serde_json::Value, host: &dyn Host) -> Result<(), String> {
    match host.dead_connections(act.target.id(), proof) {
        Ok(0) => Err("none of its connections is dead any more".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("cannot look at its connections again: {error}")),
    }
}

fn second_reason(id: ProcessId, act: &Act, host: &dyn Host) -> Result<(), String> {
    if host.listens_in_vain(id, &dead(act)) {
        return Ok(());
    }
    Err("no thread can ever run again, but nothing says that anybody misses it: it listens on no port where nobody else \
        answers, no probe fails"
        .to_owned())
}

/// All processes of the act's proof.
fn dead(act: &Act) -> Vec<u32> {
    let of_proof = |look: &Look| match look {
        Look::ProofHolds(proof) => serde_json::from_value::<Vec<Proof>>(proof.clone()).ok(),
        Look::SameProcess(_)
        | Look::StillDown(_)
        | Look::SecondReason(_)
        | Look::NotProtected(_)
        | Look::MemoryShort(_)
        | Look::ConnectionsDead(_) => None,
    };
    let proofs = act.look.iter().filter_map(of_proof).flatten();
    proofs.flat_map(|proof| proof.ids()).map(|id| id.pid).collect()
}

fn not_protected(id: ProcessId, host: &dyn Host) -> Result<(), String> {
    let held = host.hold(id).map_err(|gone| gone.to_string())?;
    host.untouchable(&held).map_or(Ok(()), Err)
}
