//! Restart and stop through the API, and what came of them.

use super::{
    super::{Done, Learnt, Order, Owner, failed, podman, settle::owner_goes_first},
    Handle,
    engine::{Engine, Seen},
};
use crate::engine::command::ActionOutcome;

pub(super) async fn restart(handle: &Handle, id: &str, order: &Order) -> Done {
    let who = who(order);
    let engine = connect(handle, order).await?;
    let name = inspect(&engine, handle, id, order).await?.container.name;
    if order.is_dead {
        let ask = async || Ok(inspect(&engine, handle, id, order).await?.state());
        owner_goes_first(who, order, ask, || handle.stopped.word(id), &handle.learnt).await?;
    }
    let _ours = handle.ours.mark(id);
    engine.restart(id, order.grace).await.map_err(failed)?;
    let now = inspect(&engine, handle, id, order).await?;
    let Some(pid) = now.pid else {
        return Ok(format!("{who} restarted container {name}: it is over already"));
    };
    let owner = order.owner.clone();
    // Closed only when the agent is on its way out.
    handle.learnt.send(Learnt::Named(Box::new(now.container), now.pod)).await.ok();
    handle.learnt.send(Learnt::Runs { owner, pid }).await.ok();
    Ok(format!("{who} restarted container {name}: running, main pid {pid}"))
}

pub(super) async fn stop(handle: &Handle, id: &str, order: &Order) -> Done {
    let who = who(order);
    let engine = connect(handle, order).await?;
    let before = inspect(&engine, handle, id, order).await?;
    engine.stop(id, order.grace).await.map_err(failed)?;
    let after = inspect(&engine, handle, id, order).await?;
    let name = before.container.name;
    match after.pid {
        None => Ok(format!("{who} stopped container {name}")),
        Some(pid) => Err(failed(format!("{who} says it stopped container {name}, but pid {pid} is there"))),
    }
}

/// Whose container it is: both answer to the same API.
pub(super) fn who(order: &Order) -> &'static str {
    match &order.owner {
        Owner::Container { runtime, .. } if runtime == "podman" => "podman",
        Owner::Container { .. } | Owner::Unit(_) => "docker",
    }
}

async fn connect(handle: &Handle, order: &Order) -> Result<Engine, ActionOutcome> {
    let engine = Engine::connect(&handle.socket).await;
    engine.map_err(|error| unknown(handle, order, error))
}

async fn inspect(engine: &Engine, handle: &Handle, id: &str, order: &Order) -> Result<Seen, ActionOutcome> {
    let seen = engine.inspect(id).await.map_err(failed)?;
    let socket = handle.socket.display();
    seen.ok_or_else(|| unknown(handle, order, format!("{socket} knows no container {id}")))
}

fn unknown(handle: &Handle, order: &Order, error: String) -> ActionOutcome {
    let is_podmans = who(order) == "podman";
    let remedy = is_podmans.then(|| podman::remedy(&handle.socket, &order.cgroup)).flatten();
    failed(match remedy {
        Some(remedy) => format!("{error}; {remedy}"),
        None => error,
    })
}
