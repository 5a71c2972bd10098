//! A fault child in a cgroup of its own.

use std::{
    io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use super::{
    End, Fault,
    cgroup::{Cgroup, Limits},
};
use crate::own_binary::ourselves;

/// Ends with its guard: the cgroup is killed and removed.
pub struct Victim {
    pub fault: &'static Fault,
    pub cgroup: Cgroup,
    child: Child,
}

impl Victim {
    /// Starts the fault at once; a supervised one registers with the agent of `state_dir`.
    ///
    /// # Errors
    /// The cgroup cannot be made, or the fault needs a limit that this machine cannot set.
    pub fn start(fault: &'static Fault, state_dir: &Path) -> io::Result<Self> {
        Self::of_binary(&ourselves(), fault, state_dir)
    }

    /// As `start`, by another `healer`: for callers that are none themselves.
    ///
    /// # Errors
    /// As `start`.
    pub fn of_binary(healer: &Path, fault: &'static Fault, state_dir: &Path) -> io::Result<Self> {
        let cgroup =
            Cgroup::create(fault.name, &Limits { memory: fault.memory, processes: 64, cpu: fault.cpu })?;
        let mut command = Command::new(healer);
        if fault.supervised {
            let name = format!("chaos-{}", fault.name);
            command.arg("--state-dir").arg(state_dir);
            command.args(["supervise", "--name", &name, "--"]).arg(healer);
        }
        command.args(["fault-child", fault.name]);
        let child = start_in(&cgroup, command)?;
        Ok(Self { fault, cgroup, child })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// None while it lives.
    ///
    /// # Errors
    /// Of waitpid(2).
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.cgroup.kill();
        self.child.wait().ok();
    }
}

/// Starts a command inside `cgroup` and outside our process group: ^C is ours to handle.
///
/// # Errors
/// Of fork(2) and execve(2).
pub(super) fn start_in(cgroup: &Cgroup, mut command: Command) -> io::Result<Child> {
    let doors = cgroup.doors()?;
    command.stdin(Stdio::null()).process_group(0);
    // SAFETY: only write(2) in the child; `doors` was moved into the closure.
    unsafe {
        command.pre_exec(move || doors.enter());
    }
    command.spawn()
}

impl End {
    /// As a person reads it, of what should have been.
    pub fn words(self) -> String {
        match self {
            Self::Signal(signal) => format!("it should have ended by signal {signal}"),
            Self::Status(status) => format!("it should have ended with status {status}"),
            Self::Never => "it should have lived on".to_owned(),
        }
    }

    /// Whether a child that ended so did what its fault promises. A supervisor returns 128 + signal.
    pub fn is_met_by(self, status: Option<ExitStatus>) -> bool {
        match (self, status) {
            (Self::Never, None) => true,
            (Self::Never, Some(_)) | (Self::Signal(_) | Self::Status(_), None) => false,
            (Self::Signal(signal), Some(status)) => {
                status.signal() == Some(signal) || status.code() == Some(128 + signal)
            }
            (Self::Status(code), Some(status)) => status.code() == Some(code),
        }
    }
}
