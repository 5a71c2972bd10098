//! Who registers: by the kernel's word, not by its own.

use std::{io, os::fd::AsFd as _, path::Path};

use tokio::net::UnixStream;

use super::child::start_of;
use crate::identity::{process::ProcessId, procfs::ProcDir};

/// Who is at the other end, by the kernel's word (`SO_PEERCRED`, unix(7)): our own user or root.
pub(super) fn peer_of(stream: &UnixStream) -> io::Result<ProcessId> {
    let peer = rustix::net::sockopt::socket_peercred(stream.as_fd())?;
    let ours = rustix::process::geteuid();
    if !peer.uid.is_root() && peer.uid != ours {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let pid = peer.pid.as_raw_nonzero().get().unsigned_abs();
    let start = start_of(pid).ok_or(io::ErrorKind::NotFound)?;
    Ok(ProcessId { pid, start })
}

/// What a supervisor in another pid namespace calls pid 7 is somebody else here.
pub(super) fn check_namespace(supervisor: ProcessId) -> Result<(), String> {
    let namespace = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/pid")).ok();
    match (namespace(&supervisor.pid.to_string()), namespace("self")) {
        (Some(theirs), Some(ours)) if theirs != ours => {
            Err("it runs in another pid namespace than the agent; that is not supported yet".to_owned())
        }
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

/// A supervisor speaks for its own child only.
pub(super) fn check_parentage(child: ProcessId, supervisor: ProcessId) -> Result<(), String> {
    let stat = ProcDir::open(Path::new("/proc"), child.pid).and_then(|dir| dir.stat());
    if stat.is_some_and(|stat| stat.parent != supervisor.pid) {
        let (child, supervisor) = (child.pid, supervisor.pid);
        return Err(format!("pid {child} is no child of the supervisor with pid {supervisor}"));
    }
    Ok(())
}
