//! Real failures, made on purpose: for `healer chaos`, the demo and the live tests, which are one thing.
//!
//! A fault is a child of this same binary (`healer fault-child NAME`), so it works where nothing else is installed.
//! It lives in a cgroup of its own, with a limit on memory, processes and time.

use core::time::Duration;

mod alone;
mod between;
pub mod cgroup;
mod child;
mod churn;
mod crash_loop;
mod descriptors;
mod disks;
mod exits;
mod files;
mod hog;
mod killed;
mod leak;
mod locks;
mod memory;
mod peers;
mod ports;
mod served;
mod service;
mod tasks;
mod thread;
mod unkillable;
pub mod victim;
mod waits;
mod work;

pub use child::{When, run as run_child};
pub use served::PORT;
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
    /// It is a healthy service with work to do until it is asked to fail.
    prepares: bool,
    /// Limits of the cgroup: bytes, and percent of one CPU.
    pub memory: u64,
    pub cpu: Option<u32>,
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

/// THE FAULT TABLE: what fails, then what only looks as if.
pub const FAULTS: &[Fault] = &[
    thread::SEGV,
    exits::ABORT,
    exits::EXITS,
    killed::KILLED,
    memory::OOM,
    leak::SUDDEN,
    leak::LEAK_FAST,
    leak::LEAK,
    leak::LEAK_SLOW,
    leak::LEAK_SAW,
    leak::LEAK_NEIGHBOUR,
    files::THRASH,
    hog::THROTTLED,
    hog::STARVED,
    crash_loop::CRASH_LOOP,
    locks::AB_BA,
    locks::THREE,
    locks::RELOCK,
    locks::RWLOCK,
    locks::RUST,
    between::PIPES,
    between::FLOCK,
    descriptors::FD_LEAK,
    descriptors::FD_DRIP,
    descriptors::ACCEPT_LOOP,
    tasks::FORK_BOMB,
    tasks::THREADS,
    disks::DISK_FULL,
    disks::INODES_FULL,
    ports::PORTS,
    disks::IO_ERROR,
    tasks::ZOMBIES,
    served::HANG,
    served::OVERFLOW,
    served::PROBE,
    peers::REFUSED,
    peers::CUT_OFF,
    peers::LOSSY,
    unkillable::UNKILLABLE,
    hog::DEAF_HOG,
    thread::LEADER_EXITS,
    exits::EXITS_0,
    hog::BUSY,
    churn::PLATEAU,
    churn::SAW,
    churn::CACHE,
    files::STREAM,
    locks::SLOW_HOLDER,
    locks::CONTENDED,
    locks::POOL,
    between::PING_PONG,
    waits::ACCEPT,
    waits::SIGNAL,
    waits::TIMED,
    waits::STOPPED,
    waits::VFORK,
    waits::PIPELINE,
    work::BATCH,
    work::FORKS,
    work::FAILING_TESTS,
    work::WAITS_FOR,
    work::CLEANS,
    work::ANSWERS,
    work::CATCHES,
    work::THREADS,
    work::TERMINATED,
    descriptors::FD_POOL,
    tasks::BATCH,
    disks::TEMP_FILES,
    ports::CONNECTIONS,
    served::HICCUP,
    peers::RESTARTS,
    peers::SLOW,
    unkillable::SLOW_DISK,
];

impl Fault {
    /// Something that an agent should call `class`.
    pub(super) const fn failing(
        name: &'static str,
        class: Class,
        does: &'static str,
        end: End,
        child: fn() -> u8,
    ) -> Self {
        Self {
            name,
            class: Some(class),
            does,
            end,
            supervised: false,
            prepares: false,
            memory: PLENTY,
            cpu: None,
            lasts: SHORT,
            child,
        }
    }

    /// Something of which an agent should say nothing.
    pub(super) const fn healthy(name: &'static str, does: &'static str, end: End, child: fn() -> u8) -> Self {
        Self {
            name,
            class: None,
            does,
            end,
            supervised: false,
            prepares: false,
            memory: PLENTY,
            cpu: None,
            lasts: SHORT,
            child,
        }
    }

    /// The class is one of a workload's main process.
    pub(super) const fn supervised(self) -> Self {
        Self { supervised: true, ..self }
    }

    /// The child asks by itself whether its time to fail has come.
    pub(super) const fn preparing(self) -> Self {
        Self { prepares: true, ..self }
    }

    /// The limit of its cgroup, MiB.
    pub(super) const fn within(self, memory: u64) -> Self {
        Self { memory: memory * MIB, ..self }
    }

    /// Percent of one CPU.
    pub(super) const fn with_cpu(self, percent: u32) -> Self {
        Self { cpu: Some(percent), ..self }
    }

    pub(super) const fn lasting(self, seconds: u64) -> Self {
        Self { lasts: Duration::from_secs(seconds), ..self }
    }

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
    fn every_class_can_be_made() {
        for class in Class::ALL {
            assert!(Fault::of_class(*class).next().is_some(), "{class}");
        }
    }

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
