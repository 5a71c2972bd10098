//! What a record says before anybody looked into /proc.

use healer_common::event::part::{Args, CgroupRef, ExeRef, TaskRef};

use super::{Fact, Party};
use crate::{
    engine::time::BootTime,
    identity::{
        cgroup::{CgroupId, Hierarchy},
        exe::ExeId,
        process::ProcessId,
    },
    text::lossy,
};

/// A fact with the kernel's own words about whom it happened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    pub at: BootTime,
    /// `None`: a fact about the node.
    pub seen: Option<Seen>,
    /// Parties have pid, start, comm and uid; identity adds the rest.
    pub fact: Fact,
    /// Memory cgroup at its limit, of [`Fact::OomKilled`]; identity turns it into its path.
    pub at_limit: Option<CgroupId>,
    /// In place of `seen`: whose socket it is. The kernel tells no more there, and current is anybody.
    pub owner: Option<Owner>,
}

/// Whose socket: by number alone, and by the cgroup that it was made in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub process: Option<ProcessId>,
    pub cgroup: Option<CgroupId>,
}

/// What the kernel sent about one process. Untrusted text, as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub task: Party,
    pub parent: Option<Party>,
    /// Where the process is; with [`Hierarchy::Memory`] only where its memory is counted.
    pub cgroup: Option<CgroupId>,
    pub exe: Option<ExeId>,
    /// Name given to `execve(2)`; for a script, the script's.
    pub filename: Option<String>,
    pub args: Vec<String>,
}

pub(super) fn party(task: &TaskRef) -> Option<Party> {
    let id = ProcessId { pid: task.tgid, start: BootTime(task.start_boot_ns) };
    (task.tgid != 0).then(|| Party { id, comm: lossy(task.comm()), uid: task.uid, ..Party::default() })
}

pub(super) fn cgroup(cgroup: &CgroupRef) -> Option<CgroupId> {
    let hierarchy = match cgroup.hierarchy {
        CgroupRef::V2 => Hierarchy::V2,
        CgroupRef::V1_MEMORY => Hierarchy::V1Memory,
        _ => return None,
    };
    let id = cgroup.id;
    (id != 0).then_some(CgroupId { hierarchy, id })
}

pub(crate) fn owner(tgid: u32, start_boot_ns: u64, of_socket: &CgroupRef) -> Owner {
    let process = (tgid != 0).then_some(ProcessId { pid: tgid, start: BootTime(start_boot_ns) });
    Owner { process, cgroup: cgroup(of_socket) }
}

pub(super) fn memory_cgroup(id: u64) -> Option<CgroupId> {
    let hierarchy = Hierarchy::Memory;
    (id != 0).then_some(CgroupId { hierarchy, id })
}

pub(super) fn exe(exe: &ExeRef) -> Option<ExeId> {
    let &ExeRef { dev, ino } = exe;
    (ino != 0).then_some(ExeId { dev, ino })
}

pub(super) fn filename(args: &Args) -> Option<String> {
    args.filename().map(lossy).filter(|name| !name.is_empty())
}

pub(super) fn argv(args: &Args) -> Vec<String> {
    args.argv().map(lossy).collect()
}
