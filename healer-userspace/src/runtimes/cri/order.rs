//! Stop through the runtime, and restart by it: whoever owns the pod, the kubelet, starts the container again, with its
//! own backoff.

use core::time::Duration;

use super::{
    super::{Done, Order, failed, settle::NOTICES_WITHIN},
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
    let Some(found) = engine.container(id).await.map_err(failed)? else {
        let reason = format!("{} has removed container {id} already", engine.name);
        return Err(ActionOutcome::Refused { reason });
    };
    let began = clock::boot();
    loop {
        let siblings = engine.containers(Some(&found.pod_sandbox_id)).await.map_err(failed)?;
        if let Some(outcome) = outcome(&engine.name, &found, &siblings, order, clock::boot().since(began)) {
            return Err(outcome);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// None: the kubelet has time left.
fn outcome(
    runtime: &str,
    found: &proto::Container,
    siblings: &[proto::Container],
    order: &Order,
    waited: Duration,
) -> Option<ActionOutcome> {
    let is_next = |other: &&proto::Container| {
        other.metadata == found.metadata
            && other.created_at > found.created_at
            && matches!(other.state, proto::RUNNING | proto::CREATED)
    };
    if let Some(next) = siblings.iter().find(is_next) {
        let reason = format!("the kubelet has restarted it itself: container {}", short(&next.id));
        return Some(ActionOutcome::Refused { reason });
    }
    let patience = order.limit.saturating_sub(SLACK);
    let runs = siblings.iter().any(|other| other.id == found.id && other.state == proto::RUNNING);
    let name = name(found);
    if runs && NOTICES_WITHIN.min(patience) <= waited {
        // The kubelet restarts no container that runs, and the pod is not to go for one of its processes.
        let whose = match order.is_main {
            true => "as if its PID 1 lived",
            false => "what ended was another process than its PID 1",
        };
        let reason = format!("{runtime} says that container {name} runs: {whose}");
        return Some(ActionOutcome::Refused { reason });
    }
    let is_late = !runs && patience <= waited;
    is_late.then(|| {
        failed(format!(
            "the kubelet has not restarted container {name} within {} s: it backs off, and nothing is stacked on that",
            patience.as_secs()
        ))
    })
}

async fn connect(handle: &Handle) -> Result<Engine, ActionOutcome> {
    handle.places.the_one_asked().await.map_err(failed)
}

fn name(container: &proto::Container) -> String {
    let name = container.metadata.clone().unwrap_or_default().name;
    format!("{} ({})", printable(&name), short(&container.id))
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::{super::super::Owner, *};
    use crate::{engine::time::BootTime, identity::process::ProcessId};

    fn order(is_main: bool) -> Order {
        Order {
            owner: Owner::Container { runtime: "containerd".into(), id: "a".into() },
            target: ProcessId { pid: 7, start: BootTime(1) },
            is_main,
            is_dead: true,
            cgroup: String::new(),
            pod: None,
            grace: Duration::ZERO,
            limit: Duration::from_secs(30),
        }
    }

    fn container(id: &str, created_at: i64, state: i32) -> proto::Container {
        let metadata = Some(proto::ContainerMetadata { name: "web".into() });
        proto::Container { id: id.into(), created_at, state, metadata, ..proto::Container::default() }
    }

    fn after(siblings: &[proto::Container], is_main: bool, seconds: u64) -> Option<ActionOutcome> {
        let waited = Duration::from_secs(seconds);
        outcome("containerd", &container("a", 1, proto::RUNNING), siblings, &order(is_main), waited)
    }

    #[test]
    fn a_container_that_runs_is_refused_and_nothing_worse_follows() {
        let runs = [container("a", 1, proto::RUNNING)];
        assert_eq!(after(&runs, false, 4), None, "the runtime may not have noticed yet");
        for is_main in [false, true] {
            let Some(ActionOutcome::Refused { reason }) = after(&runs, is_main, 5) else {
                panic!("{is_main}")
            };
            assert!(reason.starts_with("containerd says that container web (a) runs"), "{reason}");
        }
    }

    #[test]
    fn a_container_that_is_over_is_the_kubelets_until_the_time_is_over() {
        let over = [container("a", 1, proto::EXITED)];
        assert_eq!(after(&over, true, 27), None);
        assert!(matches!(after(&over, true, 28), Some(ActionOutcome::Failed { .. })));
        assert!(matches!(after(&[], true, 28), Some(ActionOutcome::Failed { .. })), "it was cleared away");
    }

    #[test]
    fn the_kubelets_own_restart_is_not_doubled() {
        let siblings = [container("a", 1, proto::EXITED), container("b", 2, proto::RUNNING)];
        let said = after(&siblings, true, 0);
        assert!(
            matches!(said, Some(ActionOutcome::Refused { reason }) if reason.contains("itself: container b"))
        );
    }
}
