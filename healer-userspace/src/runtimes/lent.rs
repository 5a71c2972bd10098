//! What an owner keeps account of, asked and turned through it, so that its word stays true. Without an agent, too:
//! the knob knows the socket.

use core::future::Future;
use std::{io, thread};

use crate::engine::lease::{Account, Knob};

/// # Errors
/// The owner does not answer, or this binary has no way to it.
pub fn read(knob: &Knob) -> io::Result<Option<String>> {
    match knob {
        #[cfg(feature = "systemd")]
        Knob::Unit { bus, unit, of } => wait(super::systemd::lent::read(bus, unit, *of)),
        #[cfg(feature = "docker")]
        Knob::Container { socket, id, of } => wait(super::docker::lent::read(socket, id, *of)),
        other => Err(no_way(other)),
    }
}

/// # Errors
/// As of [`read`], or the owner refuses.
pub fn set(knob: &Knob, value: &str) -> io::Result<()> {
    match knob {
        #[cfg(feature = "systemd")]
        Knob::Unit { bus, unit, of } => wait(super::systemd::lent::set(bus, unit, *of, value)),
        #[cfg(feature = "docker")]
        Knob::Container { socket, id, of } => wait(super::docker::lent::set(socket, id, *of, value)),
        other => Err(no_way(other)),
    }
}

fn no_way(knob: &Knob) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("this healer has no way to turn {knob}"))
}

/// Callers may be on a runtime, whose thread must not wait for another one.
pub(super) fn wait<T: Send>(answer: impl Future<Output = Result<T, String>> + Send) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = thread::scope(|scope| scope.spawn(move || runtime.block_on(answer)).join());
    match answer {
        Ok(answer) => answer.map_err(io::Error::other),
        Err(_) => Err(io::Error::other("the owner could not be asked")),
    }
}

/// What stands for "no limit".
pub(super) fn unlimited(of: Account) -> &'static str {
    if of == Account::CpuWeight { "unset" } else { "infinity" }
}

/// A limit below what is used makes the kernel of cgroup v2 kill, whoever sets it.
pub(super) fn fits(limit: u64, used: u64) -> Result<(), String> {
    match used < limit {
        true => Ok(()),
        false => Err(format!("{used} bytes are in use: a limit of {limit} would kill")),
    }
}

/// What does not run uses nothing; of what does, silence is no number.
pub(super) fn in_use(told: Option<u64>, runs: bool) -> Result<u64, String> {
    match told {
        None if runs => Err("how much memory is in use is not told: a lower limit could kill".to_owned()),
        told => Ok(told.unwrap_or_default()),
    }
}

pub(super) fn number(value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("{value:?} is no number"))
}

pub(super) fn halted(is: bool) -> String {
    if is { "halted" } else { "running" }.to_owned()
}
