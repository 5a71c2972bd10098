//! Ends connections that stay dead although their peer is well again: their owner reads an error and makes new ones.

use super::{
    host::Host,
    reach::{self, failed},
};
use crate::engine::command::{Act, ActionOutcome, Look};

#[expect(clippy::unused_async, reason = "every action has the same shape")]
pub(super) async fn run(act: &Act, host: &dyn Host) -> ActionOutcome {
    match reset(act, host) {
        Ok(says) => host.outcome(says),
        Err(outcome) => outcome,
    }
}

fn reset(act: &Act, host: &dyn Host) -> Result<String, ActionOutcome> {
    // Held, and none of those that must not be touched.
    let reach = reach::everybody(act, host)?;
    let proof = act.look.iter().find_map(|look| match look {
        Look::ConnectionsDead(proof) => Some(proof),
        Look::SameProcess(_)
        | Look::StillDown(_)
        | Look::SecondReason(_)
        | Look::NotProtected(_)
        | Look::MemoryShort(_)
        | Look::ProofHolds(_) => None,
    });
    let Some(proof) = proof else {
        let reason = "nothing shows which of its connections are dead".to_owned();
        return Err(ActionOutcome::Refused { reason });
    };
    let tried = "cannot end connections (CAP_NET_ADMIN, CONFIG_INET_DIAG_DESTROY)";
    let ended = host.reset_connections(act.target.id(), proof).map_err(|error| failed(tried, &error))?;
    Ok(format!("{ended} dead connections of {} ended", reach.what))
}
