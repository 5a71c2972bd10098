//! Pause and update: what Docker keeps account of for a container.

use std::path::Path;

use super::{
    super::lent::{halted, number, unlimited},
    engine::{Engine, Limits},
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
    })
}

pub(in super::super) async fn set(socket: &str, id: &str, of: Account, value: &str) -> Result<(), String> {
    let engine = Engine::connect(Path::new(socket)).await?;
    let amount = || number(value).map(|amount| i64::try_from(amount).unwrap_or(i64::MAX));
    match of {
        Account::Running => engine.pause(id, value == "halted").await,
        Account::CpuWeight => engine.weigh(id, amount()?).await,
        Account::CpuTime => {
            let now = engine.limits(id).await?.ok_or_else(|| "it is gone".to_owned())?;
            // Docker takes one of the two, and no quota beside it.
            if 0 < now.nano_cpus {
                return engine.give_cpus(id, amount()?).await;
            }
            let period = if now.period == 0 { PERIOD } else { now.period };
            let quota = if value == unlimited(of) { -1 } else { amount()? / (NANOS / period) };
            engine.set_quota(id, quota, period).await
        }
        Account::MemoryHigh => Err("Docker keeps no such limit".to_owned()),
    }
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
}
