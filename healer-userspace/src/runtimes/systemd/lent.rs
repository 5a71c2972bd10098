//! Freezing and run-time properties: what systemd keeps account of for a unit (org.freedesktop.systemd1(5)).

use std::path::Path;

use super::{
    super::{
        lent::{fits, halted, in_use, number, unlimited, wait},
        main_pid::lies_in,
    },
    manager::Manager,
};
use crate::engine::lease::{Account, Knob};

/// `CGROUP_LIMIT_MAX`, `USEC_INFINITY`, `CGROUP_WEIGHT_INVALID`
const NONE: u64 = u64::MAX;
const NANOS_PER_MICRO: u64 = 1000;
/// Not told of a unit that does not run, or without `MemoryAccounting=`.
const IN_USE: &str = "MemoryCurrent";

/// Is it this systemd's unit that runs there, and can it be turned so? Freezing wants cgroup v2, and a limit that is to
/// go down again wants to know what is used.
pub(super) fn keeps(knob: &Knob, cgroup: &str) -> bool {
    let Knob::Unit { bus, unit, of } = knob else {
        return false;
    };
    let asked = async {
        let manager = Manager::connect(Path::new(bus)).await?;
        let service = manager.service(unit).await?;
        let is_there = !service.group.is_empty() && lies_in(cgroup, &service.group);
        Ok(is_there
            && match of {
                Account::Running => manager.can_freeze(unit).await?,
                Account::MemoryMax => manager.amount(unit, IN_USE).await? != NONE,
                Account::CpuTime | Account::CpuWeight | Account::MemoryHigh | Account::Tasks => true,
            })
    };
    wait(asked).unwrap_or(false)
}

pub(in super::super) async fn read(bus: &str, unit: &str, of: Account) -> Result<Option<String>, String> {
    let manager = Manager::connect(Path::new(bus)).await?;
    if !manager.is_loaded(unit).await? {
        return Ok(None);
    }
    let Some(property) = property(of) else {
        return Ok(Some(halted(manager.freezer_state(unit).await? == "frozen")));
    };
    let amount = manager.amount(unit, property).await?;
    Ok(Some(match amount {
        NONE => unlimited(of).to_owned(),
        micros if of == Account::CpuTime => (micros * NANOS_PER_MICRO).to_string(),
        other => other.to_string(),
    }))
}

pub(in super::super) async fn set(bus: &str, unit: &str, of: Account, value: &str) -> Result<(), String> {
    let manager = Manager::connect(Path::new(bus)).await?;
    let Some(property) = property(of) else {
        return manager.freeze(unit, value == "halted").await;
    };
    let amount = match of {
        _ if value == unlimited(of) => NONE,
        Account::CpuTime => number(value)? / NANOS_PER_MICRO,
        Account::Running | Account::CpuWeight | Account::MemoryHigh | Account::MemoryMax | Account::Tasks => {
            number(value)?
        }
    };
    if of == Account::MemoryMax {
        let used = Some(manager.amount(unit, IN_USE).await?).filter(|used| *used != NONE);
        let runs = !manager.service(unit).await?.group.is_empty();
        fits(amount, in_use(used, runs)?)?;
    }
    manager.set_amount(unit, property, amount).await
}

/// None: a state of its own.
fn property(of: Account) -> Option<&'static str> {
    match of {
        Account::Running => None,
        Account::CpuTime => Some("CPUQuotaPerSecUSec"),
        Account::CpuWeight => Some("CPUWeight"),
        Account::MemoryHigh => Some("MemoryHigh"),
        Account::MemoryMax => Some("MemoryMax"),
        Account::Tasks => Some("TasksMax"),
    }
}
