//! More of what it runs out of, never beyond what the policy allows: memory, processes, open files. What an owner has
//! limited is raised through it: else its word would be wrong, and the next time it writes the file, the limit.

use super::{
    host::{Control, Host},
    lease::{self, Survey, failed},
    throttle,
};
use crate::engine::{
    command::{Act, ActionOutcome},
    lease::{Account, Knob, Turn},
};

const PAGE: u64 = 4096;
/// A rung without `by`, in percent.
const BY: u32 = 50;

/// What a group has a limit of: its file, its owner's account, and what the limit is a multiple of.
struct Resource {
    control: Control,
    of: Account,
    step: u64,
}

const MEMORY: Resource = Resource { control: Control::MemoryMax, of: Account::MemoryMax, step: PAGE };
const TASKS: Resource = Resource { control: Control::Pids, of: Account::Tasks, step: 1 };

pub(super) fn survey(act: &Act, host: &dyn Host) -> Survey {
    let terms = &act.rung.terms;
    let mut turns = Vec::new();
    if let Some(bound) = terms.memory_max {
        turns.push(of_group(act, host, &MEMORY, bound)?);
    }
    if let Some(bound) = terms.pids_max {
        turns.push(of_group(act, host, &TASKS, bound)?);
    }
    if let Some(bound) = terms.open_files {
        turns.push(open_files(act, host, bound)?);
    }
    Ok(turns)
}

fn of_group(act: &Act, host: &dyn Host, resource: &Resource, bound: u64) -> Result<Turn, ActionOutcome> {
    let whole = |amount: u64| amount / resource.step * resource.step;
    let in_force = throttle::knob(act, host, resource.control)?;
    // A limit that the owner does not know of is somebody else's: only the file has it, and the owner's next number
    // may be less.
    let is_in_force = |was: &str| {
        let limit = limit_in(was).map(whole);
        limit.is_some() && limit == limit_in(&in_force.1).map(whole)
    };
    let owned = throttle::of_owner(act, host, resource.of)?.filter(|(_, was)| is_in_force(was));
    let (knob, was) = owned.unwrap_or(in_force);
    let limit =
        limit_in(&was).ok_or_else(|| failed(format!("{knob} is {was}: there is no limit to raise")))?;
    let set = whole(raised(act, &knob, limit, whole(bound))?);
    Ok(Turn { knob, was, set: set.to_string() })
}

/// v1 writes "none" as the greatest multiple of a page.
fn limit_in(was: &str) -> Option<u64> {
    was.parse().ok().filter(|limit: &u64| *limit < i64::MAX as u64 / 2)
}

fn raised(act: &Act, knob: &Knob, limit: u64, bound: u64) -> Result<u64, ActionOutcome> {
    if bound <= limit {
        return Err(failed(format!("{knob} is {limit}: the policy allows no more than {bound}")));
    }
    let by = u64::from(act.rung.terms.by.unwrap_or(BY));
    let more = (limit / 100).saturating_mul(by).max(1);
    Ok(limit.saturating_add(more).min(bound))
}

/// The hard limit goes up only as far as the soft one has to.
fn open_files(act: &Act, host: &dyn Host, bound: u64) -> Result<Turn, ActionOutcome> {
    let target =
        host.hold(act.target.id()).map_err(|gone| ActionOutcome::Refused { reason: gone.to_string() })?;
    if let Some(reason) = host.untouchable(&target) {
        return Err(ActionOutcome::Refused { reason });
    }
    let knob = Knob::OpenFiles(target.id);
    let was = lease::read(&knob, host)?;
    let limits = was.split_once(':').and_then(|(soft, hard)| Some((soft.parse().ok()?, hard.parse().ok()?)));
    let (soft, hard): (u64, u64) =
        limits.ok_or_else(|| failed(format!("{knob} is {was}: there is no limit to raise")))?;
    let soft = raised(act, &knob, soft, bound)?;
    let set = format!("{soft}:{}", hard.max(soft));
    Ok(Turn { knob, was, set })
}
