use std::path::Path;

use super::{
    cgroup::Membership,
    process::ProcessId,
    procfs::{Exe, ProcDir},
};

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
            comm: stat.comm,
            parent: stat.parent,
            uid: status.uid,
            exe: dir.exe(),
            args: dir.args(),
            membership,
            is_namespace_init: status.is_namespace_init(),
        })
    }
}
