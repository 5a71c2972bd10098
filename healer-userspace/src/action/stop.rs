//! Signal, grace, SIGKILL; confirmed by the pidfd.

use core::iter;

use super::{
    grace,
    host::{Domain, Host},
    kill_wait, owned, polite_signal,
    reach::{self, Reach},
};
use crate::engine::{
    command::{Act, ActionOutcome},
    policy::Scope,
};

pub(super) async fn run(act: &Act, host: &dyn Host) -> ActionOutcome {
    let stopped = match act.rung.scope {
        Scope::Container => by_runtime(act, host).await,
        Scope::Process | Scope::Group | Scope::Cgroup | Scope::Pod => stop(act, host).await,
    };
    match stopped {
        Ok(says) => host.outcome(says),
        Err(outcome) => outcome,
    }
}

async fn by_runtime(act: &Act, host: &dyn Host) -> Result<String, ActionOutcome> {
    // One protected process saves the whole container.
    reach::everybody(act, host)?;
    match owned::order(act, host) {
        Some(order) => host.stop_owned(&order).await,
        None => Ok("nothing runs there".to_owned()),
    }
}

/// Words for what ended it.
pub(super) async fn stop(act: &Act, host: &dyn Host) -> Result<String, ActionOutcome> {
    let reach = reach::everybody(act, host)?;
    let signal = polite_signal(act);
    let polite = reach::name(signal);
    if is_deaf(act, host, &reach, signal) {
        let memory = finish(act, host, &reach).await?;
        return Ok(format!("{} ignores {polite}: SIGKILL at once{memory}", reach.what));
    }
    reach.signal(host, signal)?;
    if reach.ended(host, grace(act)).await {
        return Ok(format!("{} ended by {polite}", reach.what));
    }
    let memory = finish(act, host, &reach).await?;
    let grace = grace(act).as_secs_f64();
    Ok(format!("{} did not end within {grace} s of {polite}: SIGKILL{memory}", reach.what))
}

/// Waiting for those who do not listen would only cost time; one who does has its grace, whoever is beside it.
fn is_deaf(act: &Act, host: &dyn Host, reach: &Reach, signal: i32) -> bool {
    let kernel_said_so = act.ignores_signal && signal == libc::SIGTERM;
    let target = act.target.id();
    reach.held.iter().all(|one| {
        // The kernel's word may be old: since then it may have begun to listen.
        kernel_said_so && one.id == target && !host.handles(one, signal) || host.ignores(one, signal)
    })
}

async fn finish(act: &Act, host: &dyn Host, reach: &Reach) -> Result<&'static str, ActionOutcome> {
    // Who was forked during the grace, in the place of one that listened. No owner puts a successor into the group of the
    // dead; into their cgroup it does.
    let mut forked = match &reach.domain {
        Some(group @ Domain::Group(_)) => Some(reach::members(group, host)?),
        Some(Domain::Cgroup { .. }) | None => None,
    };
    let is_old = |id| reach.held.iter().any(|old| old.id == id);
    forked.iter_mut().for_each(|forked| forked.held.retain(|one| !is_old(one.id)));
    let all = || iter::once(reach).chain(&forked);
    all().try_for_each(|some| some.signal(host, libc::SIGKILL))?;
    let memory = reach.release(act, host).await;
    for some in all() {
        if !some.ended(host, kill_wait(act)).await {
            return Err(some.unkillable(host, kill_wait(act)));
        }
    }
    Ok(memory)
}
