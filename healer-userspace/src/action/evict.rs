//! Moves the pod to another node, through its owner: the Eviction API, which asks the PodDisruptionBudget.

use super::{host::Host, reach, timeout};
use crate::{
    engine::{
        command::{Act, ActionOutcome},
        policy::Scope,
    },
    kubernetes::Eviction,
};

pub(super) async fn run(act: &Act, host: &dyn Host) -> ActionOutcome {
    let Some(pod) = act.target.place.pod.clone() else {
        let error = format!("{} is in no pod that the container runtime has told of", act.workload);
        return ActionOutcome::Failed { error, errno: None };
    };
    let held = host.hold(act.target.id()).ok();
    if held.is_some()
        && let Err(outcome) = spares_the_protected(act, host)
    {
        return outcome;
    }
    let terms = &act.rung.terms;
    let eviction = Eviction {
        pod,
        grace: act.rung.grace,
        limit: timeout(act),
        past_budget: terms.past_budget,
        without_controller: terms.without_controller,
    };
    if eviction.pod.is_static() {
        return eviction.no_move_of_a_static_one();
    }
    let says = match host.evict(&eviction).await {
        Ok(says) => says,
        Err(outcome) => return outcome,
    };
    if let Some(held) = &held
        && tokio::time::timeout(timeout(act), host.ended(held)).await.is_err()
    {
        let reason = format!("{says}, but pid {} lives on", held.id.pid);
        return ActionOutcome::Unknown { reason };
    }
    host.outcome(says)
}

/// One protected process saves the pod.
fn spares_the_protected(act: &Act, host: &dyn Host) -> Result<(), ActionOutcome> {
    let mut whole = act.clone();
    whole.rung.scope = Scope::Cgroup;
    reach::everybody(&whole, host).map(drop)
}
