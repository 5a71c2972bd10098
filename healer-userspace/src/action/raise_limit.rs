//! More of what it runs out of, never beyond what the policy allows: memory, processes, open files.

use super::{
    host::{Control, Host},
    lease::{self, Survey, failed},
    throttle,
};
use crate::engine::{
    command::{Act, ActionOutcome},
    lease::{Knob, Turn},
};

const PAGE: u64 = 4096;
/// A rung without `by`, in percent.
const BY: u32 = 50;

pub(super) fn survey(act: &Act, host: &dyn Host) -> Survey {
    let terms = &act.rung.terms;
    let mut turns = Vec::new();
    if let Some(bound) = terms.memory_max {
        turns.push(of_group(act, host, Control::MemoryMax, bound / PAGE * PAGE, PAGE)?);
    }
    if let Some(bound) = terms.pids_max {
        turns.push(of_group(act, host, Control::Pids, bound, 1)?);
    }
    if let Some(bound) = terms.open_files {
        turns.push(open_files(act, host, bound)?);
    }
    Ok(turns)
}

fn of_group(
    act: &Act,
    host: &dyn Host,
    control: Control,
    bound: u64,
    step: u64,
) -> Result<Turn, ActionOutcome> {
    let (knob, was) = throttle::knob(act, host, control)?;
    let limit = was.parse().ok().filter(|limit: &u64| *limit < i64::MAX as u64 / 2);
    let limit = limit.ok_or_else(|| failed(format!("{knob} is {was}: there is no limit to raise")))?;
    let set = raised(act, &knob, limit, bound)? / step * step;
    Ok(Turn { knob, was, set: set.to_string() })
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
