//! One file per failure class. To add one: write the file, add its line to [`DETECTORS`].

mod crash;
pub(super) mod crash_loop;
mod exhaustion;
pub mod deadlock;
mod down;
mod hang;
mod listen_overflow;
mod memory_leak;
mod memory_pressure;
mod network;
mod oom_kill;
mod probe_failed;
mod starved;
mod unkillable;

use super::{
    certificate::Certificate, class::Class, diagnosis::Diagnosis, memory::Memory, policy::PolicySet,
    time::BootTime, world::World,
};
use crate::{
    identity::process::{ProcessId, WorkloadKey},
    signal::Signal,
};

pub use crash_loop::enough_ends;

/// Every detector; a folder of traces of the same name is demanded by `tidy`.
pub const DETECTORS: &[DetectorEntry] = &[
    oom_kill::ENTRY,
    crash::ENTRY,
    crash_loop::ENTRY,
    down::ENTRY,
    deadlock::ENTRY,
    starved::ENTRY,
    hang::ENTRY,
    probe_failed::ENTRY,
    network::ENTRY,
    listen_overflow::ENTRY,
    memory_pressure::ENTRY,
    memory_leak::ENTRY,
    unkillable::ENTRY,
    exhaustion::fd_exhaustion::ENTRY,
    exhaustion::pid_exhaustion::ENTRY,
    exhaustion::disk_full::ENTRY,
    exhaustion::port_exhaustion::ENTRY,
    exhaustion::io_error::ENTRY,
    exhaustion::zombie_children::ENTRY,
];

pub struct DetectorEntry {
    pub name: &'static str,
    pub classes: &'static [Class],
    pub build: fn() -> Box<dyn Detector + Send>,
}

/// Is there a detector for this class?
pub fn is_built(class: Class) -> bool {
    DETECTORS.iter().any(|entry| entry.classes.contains(&class))
}

pub trait Detector {
    /// Takes one signal in. `context.certificate` is there for an exit.
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>);

    /// Time passed.
    fn advance(&mut self, _context: &Context<'_>, _found: &mut Vec<Finding>) {}

    fn deadline(&self) -> Option<BootTime> {
        None
    }
}

/// What detectors may look at.
pub struct Context<'a> {
    pub now: BootTime,
    pub world: &'a World,
    pub memory: &'a Memory,
    pub policies: &'a PolicySet,
    pub certificate: Option<&'a Certificate>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    Raised {
        subject: Subject,
        diagnosis: Box<Diagnosis>,
    },
    /// What was raised, said anew: of an incident that is closed it opens none.
    Restated {
        subject: Subject,
        diagnosis: Box<Diagnosis>,
    },
    /// The condition is over, whoever ended it.
    Cleared {
        subject: Subject,
        class: Class,
        says: String,
    },
    /// How bad it is now, while it holds and as long after as that can be seen; `None`: there is nothing left to see.
    Level {
        subject: Subject,
        class: Class,
        level: Option<f64>,
    },
    /// From now on every start of this process's children should be told, or no longer.
    Watch(ProcessId),
    Unwatch(ProcessId),
    /// Worth a word in the log and a count, and nothing more.
    Remark {
        event: &'static str,
        workload: WorkloadKey,
        says: String,
    },
}

/// What an incident is about: diagnoses with one subject make one incident.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// One death is one incident.
    Death(ProcessId),
    /// A lasting condition of a living process.
    Process(ProcessId, Class),
    /// A lasting condition of a workload.
    Workload(WorkloadKey, Class),
    /// What a workload has with everybody, in one network namespace (its inode): programs of one name may run in several.
    Network(WorkloadKey, u32),
    /// What a workload has with one of its peers, in one network namespace.
    Peer(WorkloadKey, u32, core::net::SocketAddr),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = DETECTORS.iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DETECTORS.len());
    }
}
