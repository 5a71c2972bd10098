use std::path::Path;

use super::{
    cgroup::Membership,
    process::ProcessId,
    procfs::{Exe, ProcDir, Stat},
};
use crate::patience::MEMORY;

/// All that `/proc` says of one process, read once.
pub(crate) struct Reading {
    pub(crate) id: ProcessId,
    pub(crate) comm: String,
    pub(crate) parent: u32,
    pub(crate) uid: u32,
    pub(crate) exe: Option<Exe>,
    pub(crate) args: Vec<String>,
    pub(crate) membership: Membership,
    pub(crate) is_namespace_init: bool,
}

impl Reading {
    /// `None`: gone, hidden, or the number of a thread.
    pub(crate) fn of(proc: &Path, pid: u32) -> Option<Self> {
        let dir = ProcDir::open(proc, pid)?;
        let stat = dir.stat()?;
        let status = dir.status()?;
        if status.tgid != pid {
            return None;
        }
        let mut membership = dir.cgroup()?;
        if stat.is_zombie() {
            // An exiting task's v1 lines show the root (kernel/cgroup/cgroup.c, proc_cgroup_show).
            membership = Membership { v2: membership.v2, ..Membership::default() };
        }
        Some(Self {
            id: ProcessId { pid, start: stat.start },
            comm: stat.comm.clone(),
            parent: stat.parent,
            uid: status.uid,
            exe: dir.exe(),
            args: args(proc, pid, &dir, &stat),
            membership,
            is_namespace_init: status.is_namespace_init(),
        })
    }
}

/// They are in its own memory: who waits without end may hold the lock of that, and lets nobody read (fs/proc/base.c,
/// `get_mm_cmdline`).
fn args(proc: &Path, pid: u32, dir: &ProcDir, stat: &Stat) -> Vec<String> {
    if !stat.waits_uninterruptibly() {
        return dir.args();
    }
    let (proc, start) = (proc.to_owned(), stat.start);
    let read = move || {
        let dir = ProcDir::open(&proc, pid)?;
        let is_it = dir.stat().is_some_and(|stat| stat.start == start);
        is_it.then(|| dir.args())
    };
    MEMORY.ask(&pid.to_string(), read).flatten().unwrap_or_default()
}
