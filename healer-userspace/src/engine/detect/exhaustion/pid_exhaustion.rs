//! No process or thread can be made: a cgroup, a user or the machine has as many as it may have.

use super::{Exhaustion, FULL_PERCENT, Failed, Kind};
use crate::{
    engine::{class::Class, detect::DetectorEntry},
    signal::{
        levels::{Level, Resource},
        syscall_error::SyscallError,
    },
};

pub(in crate::engine::detect) const ENTRY: DetectorEntry = DetectorEntry {
    name: "pid_exhaustion",
    classes: &[Class::PidExhaustion],
    build: || Box::new(Exhaustion::<Tasks>::default()),
};

struct Tasks;

impl Kind for Tasks {
    const CLASS: Class = Class::PidExhaustion;

    fn is_of(resource: &Resource) -> bool {
        matches!(resource, Resource::Pids { .. } | Resource::UserProcesses { .. } | Resource::NodePids)
    }

    fn failed(error: &SyscallError, fullest: Option<&Level>) -> Option<Failed> {
        if error.errno != libc::EAGAIN {
            return None;
        }
        let level = error.level.as_ref().or(fullest).filter(|level| FULL_PERCENT <= level.percent());
        match level {
            Some(level) => {
                Some(Failed { resource: level.of.clone(), is_seen: true, level: Some(level.clone()) })
            }
            // Those who held the tasks may have ended meanwhile.
            None => Some(Failed { resource: Resource::NodePids, is_seen: false, level: None }),
        }
    }

    fn over() -> &'static str {
        "can make processes again"
    }
}
