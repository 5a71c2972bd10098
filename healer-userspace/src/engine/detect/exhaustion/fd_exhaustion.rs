//! No file descriptors are left: to a process (`RLIMIT_NOFILE`) or to the machine.

use super::{Exhaustion, FULL_PERCENT, Failed, Kind};
use crate::{
    engine::{class::Class, detect::DetectorEntry},
    signal::{
        levels::{Level, Resource},
        syscall_error::SyscallError,
    },
};

pub(in crate::engine::detect) const ENTRY: DetectorEntry = DetectorEntry {
    name: "fd_exhaustion",
    classes: &[Class::FdExhaustion],
    build: || Box::new(Exhaustion::<Fds>::default()),
};

struct Fds;

impl Kind for Fds {
    const CLASS: Class = Class::FdExhaustion;

    fn is_of(resource: &Resource) -> bool {
        matches!(resource, Resource::Descriptors { .. } | Resource::Files)
    }

    /// EMFILE of a process that has descriptors left is another limit, or over already; ENFILE of a machine that has
    /// files left is one, too: that of a user's pipes.
    fn failed(error: &SyscallError, _fullest: Option<&Level>) -> Option<Failed> {
        let level = error.level.as_ref()?;
        let is_of_them = matches!(error.errno, libc::EMFILE | libc::ENFILE);
        (is_of_them && FULL_PERCENT <= level.percent()).then(|| Failed {
            resource: level.of.clone(),
            is_seen: true,
            level: Some(level.clone()),
        })
    }

    fn over() -> &'static str {
        "has file descriptors again"
    }
}
