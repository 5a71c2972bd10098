//! Less CPU, or memory that is reclaimed sooner: `cpu.max` and `cpu.weight` of v2, quota and shares of v1,
//! `memory.high` of v2. What an owner keeps account of is turned through it.

use super::{
    host::{Control, Host},
    lease::{self, Survey, failed},
    reach,
};
use crate::engine::{
    command::{Act, ActionOutcome},
    lease::{Account, Knob, Turn},
};

const NO_MORE: &str = "it gets no more than that already";
/// Of one CPU.
const NANOS_PER_PERCENT: u64 = 10_000_000;
const PAGE: u64 = 4096;
/// `cpu.shares` of weight 100 (`DEFAULT_WEIGHT`, kernel/sched).
const SHARES: u64 = 1024;
/// The kernel takes no quota below 1 ms (`min_cfs_quota_period`, kernel/sched/core.c).
const LEAST_QUOTA: u64 = 1000;

pub(super) fn survey(act: &Act, host: &dyn Host) -> Survey {
    let terms = &act.rung.terms;
    let mut turns = Vec::new();
    if let Some(percent) = terms.cpu {
        turns.push(quota(act, host, percent.into())?);
    }
    if let Some(weight) = terms.cpu_weight {
        turns.push(weigh(act, host, weight.into())?);
    }
    if let Some(percent) = terms.memory_high {
        turns.push(high(act, host, percent.into())?);
    }
    Ok(turns)
}

/// The control of the target's cgroup, and how it stands.
pub(super) fn knob(act: &Act, host: &dyn Host, control: Control) -> Result<(Knob, String), ActionOutcome> {
    let target =
        host.hold(act.target.id()).map_err(|gone| ActionOutcome::Refused { reason: gone.to_string() })?;
    let knob = host.control(&target, control).map_err(failed)?;
    if let Some(reason) = host.spare(&knob) {
        return Err(ActionOutcome::Refused { reason });
    }
    let was = lease::read(&knob, host)?;
    Ok((knob, was))
}

/// Less for the target must not be less for its neighbours. That spares them and not the target: another rung may
/// still reach it.
fn alone(act: &Act, host: &dyn Host, control: Control) -> Result<(Knob, String), ActionOutcome> {
    let (knob, was) = knob(act, host, control)?;
    match host.shared(&knob, &act.target) {
        Some(reason) => Err(failed(reason)),
        None => Ok((knob, was)),
    }
}

/// The same of the owner, if it has one.
pub(super) fn of_owner(
    act: &Act,
    host: &dyn Host,
    of: Account,
) -> Result<Option<(Knob, String)>, ActionOutcome> {
    let Some(knob) = host.owned(&act.target, of) else {
        return Ok(None);
    };
    reach::spare_owned(act, host)?;
    let was = lease::read(&knob, host)?;
    Ok(Some((knob, was)))
}

/// From `was` down to `wanted`.
fn down(knob: Knob, was: String, wanted: u64, already: &str) -> Result<Turn, ActionOutcome> {
    if was.parse::<u64>().is_ok_and(|was| was <= wanted) {
        return Err(failed(format!("{knob} is {was}: {already}")));
    }
    Ok(Turn { knob, was, set: wanted.to_string() })
}

fn quota(act: &Act, host: &dyn Host, percent: u64) -> Result<Turn, ActionOutcome> {
    if let Some((knob, was)) = of_owner(act, host, Account::CpuTime)? {
        return down(knob, was, percent * NANOS_PER_PERCENT, NO_MORE);
    }
    let (knob, was) = alone(act, host, Control::CpuQuota)?;
    let (quota, period) = match was.split_once(' ') {
        Some((quota, period)) => (quota.to_owned(), period.to_owned()),
        None => (was.clone(), lease::read(&beside(&knob, "cpu.cfs_period_us"), host)?),
    };
    let period_us: u64 = period.parse().map_err(|_| failed(format!("{knob}: no period in {was:?}")))?;
    let wanted = (period_us * percent / 100).max(LEAST_QUOTA);
    if quota.parse::<u64>().is_ok_and(|quota| quota <= wanted) {
        return Err(failed(format!("{knob} is {was}: {NO_MORE}")));
    }
    let set = if was.contains(' ') { format!("{wanted} {period}") } else { wanted.to_string() };
    Ok(Turn { knob, was, set })
}

fn weigh(act: &Act, host: &dyn Host, weight: u64) -> Result<Turn, ActionOutcome> {
    let already = "it weighs no more than that already";
    if let Some((knob, was)) = of_owner(act, host, Account::CpuWeight)? {
        let is_in_shares = matches!(knob, Knob::Container { .. });
        return down(knob, was, if is_in_shares { shares(weight) } else { weight }, already);
    }
    let (knob, was) = alone(act, host, Control::CpuWeight)?;
    let is_v1 = matches!(&knob, Knob::Cgroup { file, .. } if file == "cpu.shares");
    down(knob, was, if is_v1 { shares(weight) } else { weight }, already)
}

fn shares(weight: u64) -> u64 {
    (weight * SHARES / 100).max(2)
}

fn high(act: &Act, host: &dyn Host, percent: u64) -> Result<Turn, ActionOutcome> {
    // Also where an owner turns it: on v1 there is nothing to be turned.
    knob(act, host, Control::MemoryHigh)?;
    let (knob, was) = match of_owner(act, host, Account::MemoryHigh)? {
        Some(owned) => owned,
        None => alone(act, host, Control::MemoryHigh)?,
    };
    let target = host.hold(act.target.id()).map_err(|gone| failed(gone.to_string()))?;
    let wanted = host.memory_limit(&target) / 100 * percent / PAGE * PAGE;
    down(knob, was, wanted, "it is held down to that already")
}

/// Another file of the same group.
pub(super) fn beside(knob: &Knob, other: &str) -> Knob {
    match knob.clone() {
        Knob::Cgroup { dir, dev, inode, .. } => Knob::Cgroup { dir, dev, inode, file: other.to_owned() },
        another @ (Knob::Running(_)
        | Knob::OpenFiles(_)
        | Knob::OomScoreAdj(_)
        | Knob::Unit { .. }
        | Knob::Container { .. }
        | Knob::Cordon { .. }
        | Knob::Taint { .. }
        | Knob::Condition { .. }) => another,
    }
}
