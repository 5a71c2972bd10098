//! SIGKILL to the scope; confirmed by the pidfds and by a second look into the scope.

use super::{
    host::{Domain, Host},
    reach::{self, Reach},
    timeout,
};
use crate::{
    clock,
    engine::{
        command::{Act, ActionOutcome},
        policy::Scope,
        time::BootTime,
    },
};

const CGROUP_KILL: &str = "cgroup.kill";
/// Forking faster than we kill: after so many passes it is a fork bomb that needs cgroup.kill.
const PASSES: usize = 32;

pub(super) async fn run(act: &Act, host: &dyn Host) -> ActionOutcome {
    match kill(act, host).await {
        Ok(says) => host.outcome(says),
        Err(outcome) => outcome,
    }
}

async fn kill(act: &Act, host: &dyn Host) -> Result<String, ActionOutcome> {
    let reach = reach::everybody(act, host)?;
    let how = blow(host, &reach)?;
    let struck_at = clock::boot();
    let memory = reach.release(act, host).await;
    confirm(act, host, &reach).await?;
    if let Some(domain) = &reach.domain {
        // cgroup.kill misses nobody who forks: who began after it is a successor, started by the owner. In a pod the
        // successors come where the dead were.
        let until = (how == CGROUP_KILL || act.rung.scope == Scope::Pod).then_some(struck_at);
        mop_up(act, host, domain, until).await?;
    }
    Ok(format!("{} ended by {how}{memory}", reach.what))
}

/// One write kills a whole cgroup, forks included; by pidfd it may take passes. Both, because cgroup.kill signals
/// the leader's own queue (`__cgroup_kill`, kernel/cgroup/cgroup.c): a process whose leader has ended, while other
/// threads go on, survives it (seen on Linux 6.18).
fn blow(host: &dyn Host, reach: &Reach) -> Result<&'static str, ActionOutcome> {
    let mut how = "SIGKILL";
    if let Some(domain) = &reach.domain {
        let killed = host.kill_at_once(domain);
        if killed.map_err(|error| reach::failed("cannot write cgroup.kill", &error))? {
            how = CGROUP_KILL;
        }
    }
    reach.signal(host, libc::SIGKILL)?;
    Ok(how)
}

async fn confirm(act: &Act, host: &dyn Host, reach: &Reach) -> Result<(), ActionOutcome> {
    if reach.ended(host, timeout(act)).await { Ok(()) } else { Err(reach.unkillable(host, timeout(act))) }
}

/// Those who were forked between the listing and the blow.
async fn mop_up(
    act: &Act,
    host: &dyn Host,
    domain: &Domain,
    until: Option<BootTime>,
) -> Result<(), ActionOutcome> {
    for _pass in 0..PASSES {
        let held = host.members(domain);
        let tried = format!("cannot list {domain} again");
        let mut held = held.map_err(|error| reach::failed(&tried, &error))?;
        held.retain(|one| until.is_none_or(|until| one.id.start <= until));
        if held.is_empty() {
            return Ok(());
        }
        let what = domain.to_string();
        let domain = None;
        let reach = Reach { held, what, domain };
        reach.signal(host, libc::SIGKILL)?;
        confirm(act, host, &reach).await?;
    }
    Err(ActionOutcome::Failed {
        error: format!("the processes of {domain} fork faster than they can be killed"),
        errno: None,
    })
}
