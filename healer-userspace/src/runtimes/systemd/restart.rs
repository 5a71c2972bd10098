//! RestartUnit, and what came of it.

use futures_util::StreamExt as _;
use zbus::{MessageStream, OwnedObjectPath};

use super::{
    super::{Done, Learnt, Order, failed, main_pid, settle::owner_goes_first},
    Handle,
    manager::{JobRemoved, Manager},
};
use crate::engine::command::ActionOutcome;

/// A main process is found by its cgroup only once it has become its program.
const LOOKS: u32 = 20;
const LOOK_EVERY: core::time::Duration = core::time::Duration::from_millis(25);

pub(super) async fn restart(handle: &Handle, unit: &str, order: &Order) -> Done {
    if unit.contains('/') {
        return Err(failed(format!("{unit} belongs to another manager than the system's")));
    }
    let manager = Manager::connect(&handle.socket).await.map_err(failed)?;
    let before = manager.service(unit).await.map_err(failed)?;
    if !before.group.is_empty() && !main_pid::lies_in(&order.cgroup, &before.group) {
        let words = format!("{unit} of this systemd runs in {}, not in {}", before.group, order.cgroup);
        return Err(failed(words));
    }
    if !order.is_dead && before.active == "deactivating" {
        return Err(ActionOutcome::Refused {
            reason: format!("systemd is stopping {unit}: {}", before.words()),
        });
    }
    if order.is_dead {
        let ask = async || Ok(manager.service(unit).await.map_err(failed)?.state());
        owner_goes_first("systemd", order, ask, || handle.stopped.word(unit)).await?;
    }
    let mut jobs = manager.jobs().await.map_err(failed)?;
    let job = manager.restart(unit).await.map_err(failed)?;
    let result = end_of(&job, &mut jobs).await?;
    if result != "done" {
        return Err(failed(format!("systemd's restart of {unit} ended with result {result}")));
    }
    read_back(handle, &manager, unit, order).await
}

async fn end_of(job: &OwnedObjectPath, jobs: &mut MessageStream) -> Result<String, ActionOutcome> {
    while let Some(message) = jobs.next().await {
        let removed = message.ok().as_ref().and_then(JobRemoved::of);
        if let Some(removed) = removed.filter(|removed| removed.job == *job) {
            return Ok(removed.result);
        }
    }
    let reason = "the connection to systemd went away during the restart".to_owned();
    Err(ActionOutcome::Unknown { reason })
}

async fn read_back(handle: &Handle, manager: &Manager, unit: &str, order: &Order) -> Done {
    let mut looks = 0;
    loop {
        let now = manager.service(unit).await.map_err(failed)?;
        looks += 1;
        if let Some(pid) = now.main {
            let owner = order.owner.clone();
            // Closed only when the agent is on its way out.
            handle.learnt.send(Learnt::Runs { owner, pid }).await.ok();
            return Ok(format!("systemd restarted {unit}: {}, main pid {pid}", now.words()));
        }
        if now.active != "active" || looks == LOOKS {
            return Ok(format!("systemd restarted {unit}: {}, no main process", now.words()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
