//! Restart and stop through the API, and what came of them.

use super::{
    super::{Done, Learnt, Order, failed, settle::owner_goes_first},
    Handle,
    engine::{Engine, Seen},
};
use crate::engine::command::ActionOutcome;

pub(super) async fn restart(handle: &Handle, id: &str, order: &Order) -> Done {
    let engine = Engine::connect(&handle.socket).await.map_err(failed)?;
    let name = inspect(&engine, id).await?.container.name;
    if order.is_dead {
        let ask = async || Ok(inspect(&engine, id).await?.state());
        owner_goes_first("docker", order, ask, || handle.stopped.word(id)).await?;
    }
    let _ours = handle.ours.mark(id);
    engine.restart(id, order.grace).await.map_err(failed)?;
    let now = inspect(&engine, id).await?;
    let Some(pid) = now.pid else {
        return Ok(format!("docker restarted container {name}: it is over already"));
    };
    let owner = order.owner.clone();
    // Closed only when the agent is on its way out.
    handle.learnt.send(Learnt::Named(now.container, None)).await.ok();
    handle.learnt.send(Learnt::Runs { owner, pid }).await.ok();
    Ok(format!("docker restarted container {name}: running, main pid {pid}"))
}

pub(super) async fn stop(handle: &Handle, id: &str, order: &Order) -> Done {
    let engine = Engine::connect(&handle.socket).await.map_err(failed)?;
    let before = inspect(&engine, id).await?;
    engine.stop(id, order.grace).await.map_err(failed)?;
    let after = inspect(&engine, id).await?;
    let name = before.container.name;
    match after.pid {
        None => Ok(format!("docker stopped container {name}")),
        Some(pid) => Err(failed(format!("docker says it stopped container {name}, but pid {pid} is there"))),
    }
}

async fn inspect(engine: &Engine, id: &str) -> Result<Seen, ActionOutcome> {
    let seen = engine.inspect(id).await.map_err(failed)?;
    seen.ok_or_else(|| failed(format!("docker knows no container {id}")))
}
