//! Starting, naming and reaping the child.

use std::{
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::{
    engine::time::BootTime,
    identity::{process::ProcessId, procfs::ProcDir},
    signal::{Exit, SeenBy},
};

/// Shells' status for a command that was found but could not be run.
pub const CANNOT_RUN: u8 = 126;
/// Shells' status for a command that was not found.
pub const NOT_FOUND: u8 = 127;

/// Starts `argv` with our stdio, environment, process group and the given signal mask.
///
/// # Errors
/// Of fork(2) and execve(2): the child reports its failed exec through a pipe before this returns.
pub(super) fn spawn(argv: &[std::ffi::OsString], mask: libc::sigset_t) -> io::Result<ProcessId> {
    let (program, arguments) =
        argv.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::inherit());
    // SAFETY: sigprocmask is async-signal-safe (signal-safety(7)) and `mask` was moved into the closure.
    unsafe {
        command.pre_exec(move || {
            match libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut()) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
    let pid = command.spawn()?.id();
    // Ours until reaped, so /proc has it even if it is dead already.
    let start = start_of(pid).unwrap_or_default();
    Ok(ProcessId { pid, start })
}

/// Start of a process, rounded down to the ticks of /proc; the kernel's own records have it exact.
pub fn start_of(pid: u32) -> Option<BootTime> {
    Some(ProcDir::open(Path::new("/proc"), pid)?.stat()?.start)
}

/// Everything that has ended and was not reaped yet; also what was re-parented to us as PID 1.
pub(super) fn reap() -> Vec<(u32, Exit)> {
    let mut ended = Vec::new();
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        ended.push((pid.as_raw_nonzero().get().unsigned_abs(), exit_of(status)));
    }
    ended
}

fn exit_of(status: WaitStatus) -> Exit {
    Exit {
        code: status.exit_status().unwrap_or(0),
        signal: status.terminating_signal(),
        core: libc::WCOREDUMP(status.as_raw()),
        seen_by: SeenBy::Supervisor,
    }
}

/// As shells return it: 128 + signal for a fatal signal.
pub(super) fn shell_status(exit: &Exit) -> u8 {
    let status = exit.signal.map_or(exit.code, |signal| 128 + signal);
    u8::try_from(status & 0xff).unwrap_or(u8::MAX)
}

/// Passes a signal to a child that was not reaped yet, so its pid is still its own.
pub(super) fn send(child: ProcessId, signal: i32) {
    let pid = i32::try_from(child.pid).ok().and_then(Pid::from_raw);
    let signal = rustix::process::Signal::from_named_raw(signal);
    if let (Some(pid), Some(signal)) = (pid, signal) {
        // ESRCH is impossible before reaping; EPERM: a setuid child that we may not signal, as without us.
        rustix::process::kill_process(pid, signal).ok();
    }
}

/// What a process does with a signal, by the masks of /proc/PID/status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    Default,
    Caught,
    Ignored,
}

/// None if the process is gone.
pub fn disposition(pid: u32, signal: i32) -> Option<Disposition> {
    let status = ProcDir::open(Path::new("/proc"), pid)?.status()?;
    Some(if status.ignores(signal) {
        Disposition::Ignored
    } else if status.catches(signal) {
        Disposition::Caught
    } else {
        Disposition::Default
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_start_is_near_now() {
        let start = start_of(std::process::id()).unwrap();
        assert!(start.0 > 0 && start <= crate::clock::boot());
    }

    #[test]
    fn status_as_shells_have_it() {
        let exit = |code, signal| Exit { code, signal, ..Exit::default() };
        assert_eq!(shell_status(&exit(3, None)), 3);
        assert_eq!(shell_status(&exit(0, Some(9))), 137);
    }
}
