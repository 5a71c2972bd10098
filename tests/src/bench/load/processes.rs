//! Processes that begin and end, and signals.

use std::{
    io,
    process::{Command, Stdio},
};

use anyhow::ensure;

use super::Meter;

pub(super) fn fork(meter: &mut Meter) -> anyhow::Result<()> {
    meter.measure(|| fork_and_wait(0))
}

/// A child that ends with `status` at once.
///
/// # Errors
/// If no process can be made.
pub fn fork_and_wait(status: i32) -> anyhow::Result<()> {
    // SAFETY: the child only calls _exit, which is safe between fork and exec.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends the child.
        unsafe { libc::_exit(status) };
    }
    ensure!(0 < child, "fork: {}", io::Error::last_os_error());
    let mut ended = 0;
    // SAFETY: the child is ours, and the place for its status is valid.
    let waited = unsafe { libc::waitpid(child, &raw mut ended, 0) };
    ensure!(waited == child, "waitpid: {}", io::Error::last_os_error());
    Ok(())
}

pub(super) fn spawn_true(meter: &mut Meter) -> anyhow::Result<()> {
    spawn(meter, "/bin/true", true)
}

pub(super) fn spawn_false(meter: &mut Meter) -> anyhow::Result<()> {
    spawn(meter, "/bin/false", false)
}

fn spawn(meter: &mut Meter, program: &str, succeeds: bool) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    meter.measure(|| {
        ensure!(command.status()?.success() == succeeds, "{program} does not end as it should");
        Ok(())
    })
}

extern "C" fn nothing(_signal: libc::c_int) {}

/// Generated, delivered, handled.
pub(super) fn signal(meter: &mut Meter) -> anyhow::Result<()> {
    let handler = nothing as extern "C" fn(libc::c_int);
    // SAFETY: the handler does nothing, which is async-signal-safe.
    let before = unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    ensure!(before != libc::SIG_ERR, "signal: {}", io::Error::last_os_error());
    let own = rustix::process::getpid();
    meter.measure(|| Ok(rustix::process::kill_process(own, rustix::process::Signal::USR1)?))
}
