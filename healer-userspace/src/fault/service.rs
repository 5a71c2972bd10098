//! A supervised service that may be healthy until it is asked to fail; then its successor is healthy again.

use std::{
    io,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::{
    Fault, When,
    cgroup::{Cgroup, Limits},
    victim::start_in,
};
use crate::{
    identity::{process::ProcessId, procfs::ProcDir},
    own_binary::ourselves,
    supervise::{Name, child::start_of},
};

/// `healer supervise --name NAME -- healer fault-child FAULT --asked`, in a cgroup of its own.
pub struct Service {
    pub name: Name,
    pub cgroup: Cgroup,
    supervisor: Child,
}

impl Service {
    /// # Errors
    /// The cgroup cannot be made, or the supervisor cannot be started.
    pub fn start(name: Name, fault: &Fault, when: When, state_dir: &Path) -> io::Result<Self> {
        let limits = Limits { memory: fault.memory, processes: 64, cpu: fault.cpu };
        let cgroup = Cgroup::create(name.as_str(), &limits)?;
        let mut command = Command::new(ourselves());
        command.arg("--state-dir").arg(state_dir);
        command.args(["supervise", "--name", name.as_str(), "--"]).arg(ourselves());
        command.args(["fault-child", fault.name]).stderr(Stdio::null());
        match when {
            When::Now => {}
            When::Asked => drop(command.arg("--asked")),
        }
        let supervisor = start_in(&cgroup, command)?;
        Ok(Self { name, cgroup, supervisor })
    }

    /// The living child: the member whose parent is the supervisor.
    pub fn child(&self) -> Option<ProcessId> {
        let supervisor = self.supervisor.id();
        let is_child = |pid: &u32| {
            let stat = ProcDir::open(Path::new("/proc"), *pid).and_then(|dir| dir.stat());
            stat.is_some_and(|stat| stat.parent == supervisor)
        };
        let pid = self.cgroup.members().into_iter().find(is_child)?;
        Some(ProcessId { pid, start: start_of(pid)? })
    }

    /// The fault happens now.
    ///
    /// # Errors
    /// There is no living child, or it cannot be signalled.
    pub fn ask(&self) -> io::Result<ProcessId> {
        let child = self.child().ok_or(io::ErrorKind::NotFound)?;
        let pid = Pid::from_raw(child.pid.cast_signed()).ok_or(io::ErrorKind::NotFound)?;
        let held = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        if self.child() != Some(child) {
            return Err(io::ErrorKind::NotFound.into());
        }
        rustix::process::pidfd_send_signal(&held, Signal::USR1)?;
        Ok(child)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.cgroup.kill();
        self.supervisor.wait().ok();
    }
}
