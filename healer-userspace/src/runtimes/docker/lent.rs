//! Pause and update: what Docker keeps account of for a container.

use std::path::Path;

use super::{
    super::lent::{fits, halted, in_use, number, unlimited},
    engine::{Engine, account::Limits},
};
use crate::engine::lease::Account;

/// `DefaultCPUShares` of the kernel, where Docker has 0.
const SHARES: i64 = 1024;
/// Docker's own period, in microseconds.
const PERIOD: i64 = 100_000;
const NANOS: i64 = 1_000_000_000;

pub(in super::super) async fn read(socket: &str, id: &str, of: Account) -> Result<Option<String>, String> {
    let engine = Engine::connect(Path::new(socket)).await?;
    let Some(limits) = engine.limits(id).await? else {
        return Ok(None);
    };
    Ok(match of {
        // Paused is running, too.
        Account::Running => limits.is_running.then(|| halted(limits.is_paused)),
        Account::CpuTime => Some(time(&limits).map_or(unlimited(of).to_owned(), |nanos| nanos.to_string())),
        Account::CpuWeight => Some(if limits.shares == 0 { SHARES } else { limits.shares }.to_string()),
        Account::MemoryHigh => None,
        Account::MemoryMax => Some(bound(limits.memory, of)),
        Account::Tasks => Some(bound(limits.tasks, of)),
    })
}

pub(in super::super) async fn set(socket: &str, id: &str, of: Account, value: &str) -> Result<(), String> {
    let engine = Engine::connect(Path::new(socket)).await?;
    let amount = || number(value).map(|amount| i64::try_from(amount).unwrap_or(i64::MAX));
    let is_unlimited = value == unlimited(of);
    match of {
        Account::Running => engine.pause(id, value == "halted").await,
        Account::CpuWeight => engine.weigh(id, amount()?).await,
        Account::CpuTime => {
            let now = seen(&engine, id).await?;
            // Docker takes one of the two, and no quota beside it.
            if 0 < now.nano_cpus {
                return engine.give_cpus(id, amount()?).await;
            }
            let period = if now.period == 0 { PERIOD } else { now.period };
            let quota = if is_unlimited { -1 } else { amount()? / (NANOS / period) };
            engine.set_quota(id, quota, period).await
        }
        Account::MemoryHigh => Err("Docker keeps no such limit".to_owned()),
        Account::MemoryMax => {
            let used = engine.memory_in_use(id).await?;
            let now = seen(&engine, id).await?;
            fits(number(value)?, in_use(used, now.is_running)?)?;
            let sum = with_swap(&now, amount()?);
            engine.give_memory(id, amount()?, sum).await
        }
        Account::Tasks => engine.give_tasks(id, if is_unlimited { -1 } else { amount()? }).await,
    }
}

async fn seen(engine: &Engine, id: &str) -> Result<Limits, String> {
    engine.limits(id).await?.ok_or_else(|| "it is gone".to_owned())
}

/// The sum for so much memory: how much may be swapped stays as it is, and with it what the way back has to restore.
fn with_swap(now: &Limits, memory: i64) -> i64 {
    match now.with_swap {
        none @ ..=0 => none,
        sum => memory.saturating_add(sum.saturating_sub(now.memory).max(0)),
    }
}

fn bound(limit: i64, of: Account) -> String {
    if 0 < limit { limit.to_string() } else { unlimited(of).to_owned() }
}

/// Nanoseconds of CPU per second.
fn time(limits: &Limits) -> Option<i64> {
    let by_quota = || {
        let period = if limits.period == 0 { PERIOD } else { limits.period };
        (0 < limits.quota).then(|| limits.quota * (NANOS / period))
    };
    if 0 < limits.nano_cpus { Some(limits.nano_cpus) } else { by_quota() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_from_whichever_was_given() {
        let none = Limits::default();
        assert_eq!(time(&none), None);
        assert_eq!(time(&Limits { quota: -1, period: 100_000, ..none }), None, "taken back");
        assert_eq!(time(&Limits { quota: 20_000, ..none }), Some(200_000_000));
        assert_eq!(time(&Limits { nano_cpus: 333_333_333, ..none }), Some(333_333_333));
    }

    #[test]
    fn what_may_be_swapped_stays_the_same_and_what_is_not_limited_stays_so() {
        let of = |memory, with_swap| Limits { memory, with_swap, ..Limits::default() };
        assert_eq!(with_swap(&of(64, 128), 96), 160);
        assert_eq!(with_swap(&of(96, 160), 64), 128, "and back");
        assert_eq!(with_swap(&of(64, 64), 96), 96, "no swap");
        assert_eq!(with_swap(&of(64, 32), 96), 96, "never less than the memory");
        assert_eq!(with_swap(&of(64, -1), 96), -1);
    }

    #[test]
    fn no_limit_is_no_number() {
        assert_eq!(bound(100, Account::Tasks), "100");
        for none in [0, -1] {
            assert_eq!(bound(none, Account::MemoryMax), "infinity");
        }
    }

    #[test]
    fn nobody_is_killed_by_a_limit_that_goes_down() {
        assert_eq!(fits(100, 99), Ok(()));
        assert_eq!(fits(100, 100).unwrap_err(), "100 bytes are in use: a limit of 100 would kill");
        assert_eq!(in_use(Some(99), true), Ok(99));
        assert_eq!(in_use(None, false), Ok(0), "it does not run");
        assert!(in_use(None, true).unwrap_err().contains("is not told"));
    }
}
