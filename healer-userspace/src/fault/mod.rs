//! Real failures, made on purpose: for `healer chaos`, the demo and the live tests, which are one thing.
//!
//! A fault is a child of this same binary (`healer fault-child NAME`), so it works where nothing else is installed.
//! It lives in a cgroup of its own, with a limit on memory, processes and time.

use core::time::Duration;

pub mod cgroup;
mod child;
mod crash_loop;
mod exits;
mod hog;
mod killed;
mod memory;
mod service;
mod thread;
pub mod victim;

pub use child::{When, run as run_child};
pub use service::Service;

use crate::engine::class::Class;

/// One way to fail, or to look as if.
pub struct Fault {
    pub name: &'static str,
    /// What an agent should call it; None for a healthy twin, of which it should say nothing.
    pub class: Option<Class>,
    /// One line for a person.
    pub does: &'static str,
    pub end: End,
    /// The class is one of a workload's main process: made under `healer supervise`.
    pub supervised: bool,
    /// Limit of the cgroup.
    pub memory: u64,
    /// After this long its cgroup is killed.
    pub lasts: Duration,
    child: fn() -> u8,
}

/// How the child must end, or the fault was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Signal(i32),
    Status(i32),
    /// It goes on until its time is over.
    Never,
}

const MIB: u64 = 1 << 20;
const PLENTY: u64 = 256 * MIB;
const SHORT: Duration = Duration::from_secs(10);

/// THE FAULT TABLE.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "segv",
        class: Some(Class::Crash),
        does: "a worker thread, not the leader, writes to a bad address",
        end: End::Signal(libc::SIGSEGV),
        supervised: false,
        memory: PLENTY,
        lasts: SHORT,
        child: thread::segv,
    },
    Fault {
        name: "abort",
        class: Some(Class::Crash),
        does: "calls abort(3)",
        end: End::Signal(libc::SIGABRT),
        supervised: false,
        memory: PLENTY,
        lasts: SHORT,
        child: exits::abort,
    },
    Fault {
        name: "exits",
        class: Some(Class::Crash),
        does: "the main process of a supervised command ends with status 1",
        end: End::Status(1),
        supervised: true,
        memory: PLENTY,
        lasts: SHORT,
        child: exits::one,
    },
    Fault {
        name: "killed",
        class: Some(Class::Down),
        does: "somebody sends kill -9 to a supervised command",
        end: End::Signal(libc::SIGKILL),
        supervised: true,
        memory: PLENTY,
        lasts: SHORT,
        child: killed::by_somebody,
    },
    Fault {
        name: "oom",
        class: Some(Class::OomKill),
        does: "grows beyond the memory limit of its cgroup",
        end: End::Signal(libc::SIGKILL),
        supervised: false,
        memory: 64 * MIB,
        lasts: SHORT,
        child: memory::grow,
    },
    Fault {
        name: "crash-loop",
        class: Some(Class::CrashLoop),
        does: "a parent starts the same child again and again, and each aborts",
        end: End::Status(0),
        supervised: false,
        memory: PLENTY,
        lasts: SHORT,
        child: crash_loop::parent,
    },
    Fault {
        name: "deaf-hog",
        class: None,
        does: "holds 32 MiB and ignores SIGTERM: the patient of a stop that must escalate",
        end: End::Never,
        supervised: false,
        memory: PLENTY,
        lasts: SHORT,
        child: hog::deaf,
    },
    Fault {
        name: "leader-exits",
        class: None,
        does: "healthy: the main thread ends, the others go on",
        end: End::Never,
        supervised: false,
        memory: PLENTY,
        lasts: Duration::from_secs(3),
        child: thread::leader_exits,
    },
    Fault {
        name: "exits-0",
        class: None,
        does: "healthy: a command that is done",
        end: End::Status(0),
        supervised: false,
        memory: PLENTY,
        lasts: SHORT,
        child: exits::zero,
    },
    Fault {
        name: "busy",
        class: None,
        does: "healthy: a worker that computes half of the time",
        end: End::Never,
        supervised: false,
        memory: PLENTY,
        lasts: Duration::from_secs(3),
        child: hog::busy,
    },
];

impl Fault {
    pub fn by_name(name: &str) -> Option<&'static Self> {
        FAULTS.iter().find(|fault| fault.name == name)
    }

    pub fn of_class(class: Class) -> impl Iterator<Item = &'static Self> {
        FAULTS.iter().filter(move |fault| fault.class == Some(class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_can_be_typed() {
        for fault in FAULTS {
            let same = FAULTS.iter().filter(|other| other.name == fault.name);
            assert_eq!(same.count(), 1, "{}", fault.name);
            assert!(fault.name.parse::<crate::supervise::Name>().is_ok());
            assert!(fault.lasts <= Duration::from_secs(60) && fault.memory <= PLENTY);
        }
    }
}
