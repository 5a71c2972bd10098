//! Stop through the runtime, and restart by it: whoever owns the pod, the kubelet, starts the container again, with its
//! own backoff.

use core::time::Duration;

use super::{
    super::{Done, Order, failed},
    Handle,
    engine::Engine,
    proto,
};
use crate::{clock, engine::command::ActionOutcome, text::printable};

/// Between two questions for the kubelet's successor.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Left of the limit, for the last words.
const SLACK: Duration = Duration::from_secs(2);

pub(super) async fn restart(handle: &Handle, id: &str, order: &Order) -> Done {
    let engine = connect(handle).await?;
    if order.is_dead {
        return await_the_kubelet(&engine, id, order).await;
    }
    let name = stopped(&engine, id, order).await?;
    Ok(format!("{} stopped container {name}: the kubelet is to start it again", engine.name))
}

pub(super) async fn stop(handle: &Handle, id: &str, order: &Order) -> Done {
    let engine = connect(handle).await?;
    let name = stopped(&engine, id, order).await?;
    Ok(format!("{} stopped container {name}", engine.name))
}

/// Stops it, and reads back that it does not run.
async fn stopped(engine: &Engine, id: &str, order: &Order) -> Result<String, ActionOutcome> {
    let Some(before) = engine.container(id).await.map_err(failed)? else {
        let words = format!("{} knows no container {id} (a pod's sandbox is the kubelet's)", engine.name);
        return Err(failed(words));
    };
    engine.stop(id, order.grace, order.limit).await.map_err(failed)?;
    let after = engine.container(id).await.map_err(failed)?;
    let name = name(&before);
    if after.is_some_and(|after| after.state == proto::RUNNING) {
        return Err(failed(format!("{} says it stopped container {name}, but it runs", engine.name)));
    }
    Ok(name)
}

/// Dead already: a start would come on top of the kubelet's own. It is waited for; while it backs off
/// (CrashLoopBackOff), nothing is done.
async fn await_the_kubelet(engine: &Engine, id: &str, order: &Order) -> Done {
    let Some(dead) = engine.container(id).await.map_err(failed)? else {
        let reason = format!("{} has removed container {id} already", engine.name);
        return Err(ActionOutcome::Refused { reason });
    };
    let began = clock::boot();
    let patience = order.limit.saturating_sub(SLACK);
    loop {
        let siblings = engine.containers(Some(&dead.pod_sandbox_id)).await.map_err(failed)?;
        let is_next = |other: &&proto::Container| {
            other.metadata == dead.metadata
                && other.created_at > dead.created_at
                && matches!(other.state, proto::RUNNING | proto::CREATED)
        };
        if let Some(next) = siblings.iter().find(is_next) {
            let reason = format!("the kubelet has restarted it itself: container {}", short(&next.id));
            return Err(ActionOutcome::Refused { reason });
        }
        if patience <= clock::boot().since(began) {
            let words = format!(
                "the kubelet has not restarted container {} within {} s: it backs off, and nothing is stacked on that",
                name(&dead),
                patience.as_secs()
            );
            return Err(failed(words));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn connect(handle: &Handle) -> Result<Engine, ActionOutcome> {
    let socket =
        handle.socket().ok_or_else(|| failed("no container runtime's socket is there".to_owned()))?;
    Engine::connect(socket).await.map_err(failed)
}

fn name(container: &proto::Container) -> String {
    let name = container.metadata.clone().unwrap_or_default().name;
    format!("{} ({})", printable(&name), short(&container.id))
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
