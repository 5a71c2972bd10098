//! Restart through whoever owns the workload. healer never invents a command line.
//!
//! A supervised command goes over its supervisor's socket. Else the rung's own `command` is taken if there is one:
//! the user said how, and that must not change its meaning on the day a unit or runtime integration is added. Else
//! the owner is asked: systemd for a unit, the runtime for a container.

use super::{grace, host::Host, owned, polite_signal, reach, stop};
use crate::{
    engine::command::{Act, ActionOutcome},
    identity::process::ProcessId,
    runtimes::{Owner, elsewhere::of_another_manager},
    supervise::{Name, protocol::Restart, server::RestartAnswer},
};

pub(super) async fn run(act: &Act, host: &dyn Host) -> ActionOutcome {
    let place = &act.target.place;
    if let Some(name) = &place.supervise {
        return match name.parse::<Name>() {
            Ok(name) => by_supervisor(act, host, &name).await,
            Err(error) => failed(error.to_string()),
        };
    }
    if !act.rung.command.is_empty() {
        return by_command(act, host).await;
    }
    let Some(order) = owned::order(act, host) else {
        return failed("nobody owns it and the rung has no command: nothing can restart it".to_owned());
    };
    if let Owner::Unit(unit) = &order.owner
        && let Some(why) = of_another_manager(unit)
    {
        return failed(why);
    }
    match host.restart_owned(&order).await {
        Ok(says) => host.outcome(says),
        Err(outcome) => outcome,
    }
}

async fn by_supervisor(act: &Act, host: &dyn Host, name: &Name) -> ActionOutcome {
    let master = master(act, host, name);
    if master.is_some()
        // Whoever is stuck does not hear that its master ends, and would keep its port.
        && let Err(outcome) = stop::stop(act, host).await
    {
        return outcome;
    }
    let order = Restart {
        key: act.key.clone(),
        target: master.unwrap_or(act.target.id()),
        grace_ms: u64::try_from(grace(act).as_millis()).unwrap_or(u64::MAX),
        signal: polite_signal(act),
    };
    match host.restart_supervised(name, order).await {
        RestartAnswer::Restarted { child, already } => {
            let again = if already { " (already done before)" } else { "" };
            host.outcome(format!("{name} restarted by its supervisor: pid {}{again}", child.pid))
        }
        RestartAnswer::Refused { reason } => {
            ActionOutcome::Refused { reason: format!("the supervisor of {name} refused: {reason}") }
        }
        RestartAnswer::Failed { error, errno } => ActionOutcome::Failed {
            error: format!("the supervisor of {name} could not start it: {error}"),
            errno,
        },
        RestartAnswer::NotRegistered => failed(format!("no supervisor named {name} is registered")),
        RestartAnswer::Lost => {
            ActionOutcome::Unknown { reason: format!("the connection to the supervisor of {name} went away") }
        }
    }
}

/// The supervised child, if the target is a living process below it. One that is older than the child is left over.
fn master(act: &Act, host: &dyn Host, name: &Name) -> Option<ProcessId> {
    let target = act.target.id();
    let child = host.supervised(name.as_str())?;
    (child != target && child.start <= target.start && host.hold(target).is_ok()).then_some(child)
}

/// The successor is recognised by the engine, from the kernel's record of its start.
async fn by_command(act: &Act, host: &dyn Host) -> ActionOutcome {
    if host.hold(act.target.id()).is_ok()
        && let Err(outcome) = stop::stop(act, host).await
    {
        return outcome;
    }
    match host.launch(&act.rung.command, &act.target.cgroup) {
        Ok(pid) => host.outcome(format!("{:?} started: pid {pid}", act.rung.command)),
        Err(error) => reach::failed(&format!("cannot start {:?}", act.rung.command), &error),
    }
}

fn failed(error: String) -> ActionOutcome {
    ActionOutcome::Failed { error, errno: None }
}
