//! RestartUnit, and what came of it.

use core::{pin::pin, time::Duration};

use futures_util::StreamExt as _;
use tokio::time::timeout;
use zbus::{MessageStream, OwnedObjectPath};

use super::{
    super::{Done, Learnt, Order, elsewhere::of_another_manager, failed, main_pid, settle::owner_goes_first},
    Handle,
    manager::{JobRemoved, Manager, Service, Whom},
};
use crate::{clock, engine::command::ActionOutcome};

/// A main process is found by its cgroup only once it has become its program.
const LOOKS: u32 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Between two looks at a unit that is to end.
const STOP_LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) async fn restart(handle: &Handle, unit: &str, order: &Order) -> Done {
    if let Some(why) = of_another_manager(unit) {
        return Err(failed(why));
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
        owner_goes_first("systemd", order, ask, || handle.stopped.word(unit), &handle.learnt).await?;
    }
    let mut jobs = manager.jobs().await.map_err(failed)?;
    let job = manager.restart(unit).await.map_err(failed)?;
    handle.jobs.note(job.as_str());
    let (result, was_forced) = carried_out(&manager, unit, order, &job, &mut jobs).await?;
    if result != "done" {
        return Err(failed(format!("systemd's restart of {unit} ended with result {result}")));
    }
    let done = read_back(handle, &manager, unit, order).await?;
    Ok(match was_forced {
        true => format!("{done}; it had not ended in time: SIGKILL"),
        false => done,
    })
}

/// The job's result, and whether the unit was killed for it: systemd's common patience (90 s) is longer than the order's.
async fn carried_out(
    manager: &Manager,
    unit: &str,
    order: &Order,
    job: &OwnedObjectPath,
    jobs: &mut MessageStream,
) -> Result<(String, bool), ActionOutcome> {
    let mut end = pin!(end_of(job, jobs));
    let (whom, patience) = last_resort(manager, unit, order).await;
    let mut stops_since = None;
    loop {
        if let Ok(result) = timeout(STOP_LOOK_EVERY, end.as_mut()).await {
            return Ok((result?, false));
        }
        if !manager.service(unit).await.is_ok_and(|now| is_stopping(&now)) {
            stops_since = None;
            continue;
        }
        let now = clock::boot();
        let is_late = patience <= now.since(*stops_since.get_or_insert(now));
        if let Some(whom) = whom.filter(|_| is_late) {
            // Refused: everybody has ended meanwhile, as the job is about to say.
            manager.kill(unit, whom).await.ok();
            return Ok((end.await?, true));
        }
    }
}

/// Whom to kill and after how long. Nobody whom systemd would let live, and nobody before a time that the unit's author
/// has set.
async fn last_resort(manager: &Manager, unit: &str, order: &Order) -> (Option<Whom>, Duration) {
    let (whom, own) = (manager.kills(unit).await, manager.own_stop_timeout(unit).await);
    match (whom, own) {
        (Ok(whom), Ok(own)) => (whom, order.grace.max(own.unwrap_or_default())),
        (Err(_), _) | (_, Err(_)) => (None, order.grace),
    }
}

/// What `ExecStopPost=` runs after the program's end is no part of the patient.
fn is_stopping(now: &Service) -> bool {
    now.active == "deactivating" && now.sub != "stop-post"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_on_its_way_out_is_killed() {
        let now = |active: &str, sub: &str| {
            let (active, sub) = (active.to_owned(), sub.to_owned());
            is_stopping(&Service { active, sub, main: None, own_pid: 0, group: String::new() })
        };
        assert!(now("deactivating", "stop-sigterm") && now("deactivating", "stop"));
        for (active, sub) in [
            ("active", "running"),
            ("deactivating", "stop-post"),
            ("inactive", "dead"),
            ("activating", "start"),
        ] {
            assert!(!now(active, sub), "{active} ({sub})");
        }
    }
}
