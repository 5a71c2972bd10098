//! What actions may do to a machine. Everything that touches one goes through this trait.

use core::{fmt, future::Future, pin::Pin, time::Duration};
use std::{io, os::fd::OwnedFd, path::PathBuf};

use crate::{
    engine::{
        command::{Act, ActionOutcome},
        lease::{Account, Knob, Turn},
    },
    identity::process::{Process, ProcessId},
    kubernetes::Eviction,
    runtimes::{Done, Order},
    signal::Exit,
    supervise::{Name, protocol::Restart, server::RestartAnswer},
    text::printable,
};

mod control;
mod connections;
pub mod evidence;
pub mod dry_run;
#[cfg(test)]
pub(super) mod fake;
mod hook;
pub mod knobs;
mod launch;
pub mod linux;
mod plain;
mod protected;
pub(crate) mod scope;
mod shared;

pub use knobs::{Afar, Knobs};
pub(crate) use plain::reset as reset_child;

pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One process that can never become another one.
#[derive(Debug)]
pub struct Held {
    pub id: ProcessId,
    /// pidfd_open(2); the fake host has none.
    pidfd: Option<OwnedFd>,
}

/// Nobody to hold.
#[derive(Debug, thiserror::Error)]
pub enum NotHeld {
    #[error("pid {0} is gone")]
    Gone(u32),
    #[error("pid {0} is another process by now")]
    Another(u32),
    #[error("cannot hold pid {pid}: {error}")]
    Failed { pid: u32, error: io::Error },
}

/// More than one process: what `scope` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Process group id.
    Group(u32),
    /// Path below the mount for a person; directory of the hierarchy that separates it.
    Cgroup { path: String, dir: PathBuf },
}

impl fmt::Display for Domain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(id) => write!(out, "process group {id}"),
            Self::Cgroup { path, .. } => write!(out, "cgroup {}", printable(path)),
        }
    }
}

/// A program of the user's: argv, no shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub argv: Vec<String>,
    pub stdin: String,
    /// Everything of the environment beside PATH.
    pub environment: Vec<(&'static str, String)>,
    /// Then its process group is killed.
    pub limit: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookEnd {
    /// None: it was killed at the limit.
    pub exit: Option<Exit>,
    /// The first 4 KiB of stdout and stderr, as they came.
    pub output: String,
    pub cut: bool,
}

/// What a control group can limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    Freezer,
    MemoryHigh,
    MemoryMax,
    CpuQuota,
    CpuWeight,
    Pids,
}

pub trait Host: Knobs + Afar + Send + Sync {
    /// Opens the process, then compares its start: from here on nobody else can be hit.
    fn hold(&self, id: ProcessId) -> Result<Held, NotHeld>;
    /// Why it must not be touched, whatever a policy says.
    fn untouchable(&self, held: &Held) -> Option<String>;
    /// Does what a diagnosis has proved still hold? Takes some tens of milliseconds.
    ///
    /// # Errors
    /// In words: what has changed.
    fn prove_again(&self, proof: &serde_json::Value) -> Result<(), String>;
    /// How many of the proof's connections are as dead as they were.
    fn dead_connections(&self, id: ProcessId, proof: &serde_json::Value) -> io::Result<usize>;
    /// Does the process or a descendant have a listening socket that no descendant has but the `dead`? A parked master
    /// of living workers is missed by nobody.
    fn listens_in_vain(&self, id: ProcessId, dead: &[u32]) -> bool;
    /// The living child registered under that name.
    fn supervised(&self, name: &str) -> Option<ProcessId>;
    /// By /proc/PID/status.
    fn ignores(&self, held: &Held, signal: i32) -> bool;
    /// The same: it has a handler of its own.
    fn handles(&self, held: &Held, signal: i32) -> bool;
    /// `in state D, waiting in nfs_wait`; None if it is gone.
    fn state(&self, held: &Held) -> Option<String>;

    fn group(&self, held: &Held) -> io::Result<Domain>;
    fn cgroup(&self, held: &Held) -> io::Result<Domain>;
    /// Living members, without the supervisors of supervised commands.
    fn members(&self, domain: &Domain) -> io::Result<Vec<Held>>;

    /// The file that controls the group of the process.
    ///
    /// # Errors
    /// Why there is none, in words.
    fn control(&self, held: &Held, control: Control) -> Result<Knob, String>;
    /// The same through the owner, if the target's group is one that an owner keeps account of.
    fn owned(&self, target: &Process, of: Account) -> Option<Knob>;
    /// Why nobody in that group may be touched.
    fn spare(&self, knob: &Knob) -> Option<String>;
    /// Why others than the target's workload would be turned down with that group.
    fn shared(&self, knob: &Knob, target: &Process) -> Option<String>;
    /// Of its group, or of the machine; in bytes.
    fn memory_limit(&self, held: &Held) -> u64;
    /// The kernel shows what was set, and has carried it out.
    fn has_taken(&self, turn: &Turn) -> bool {
        match self.read(&turn.knob) {
            Ok(Some(value)) => value == turn.set && self.is_settled(&turn.knob),
            Ok(None) | Err(_) => true,
        }
    }

    fn signal(&self, held: &Held, signal: i32) -> io::Result<()>;
    /// Ends those of the proof's connections that are still dead; says how many.
    fn reset_connections(&self, id: ProcessId, proof: &serde_json::Value) -> io::Result<usize>;
    /// Takes the memory of a process that was killed, without waiting for it to end by itself.
    fn release_memory<'a>(&'a self, held: &'a Held) -> Later<'a, io::Result<()>>;
    /// What the kernel says of that memory now: is it as short as the proof says?
    ///
    /// # Errors
    /// In words: what has changed.
    fn memory_short_again(&self, proof: &serde_json::Value) -> Result<(), String>;
    /// Returns when the whole process has ended; a leader that left its threads behind has not.
    fn ended<'a>(&'a self, held: &'a Held) -> Later<'a, ()>;
    /// False if there is no way to do it at once, or somebody in there must live.
    fn kill_at_once(&self, domain: &Domain) -> io::Result<bool>;
    fn restart_supervised<'a>(&'a self, name: &'a Name, order: Restart) -> Later<'a, RestartAnswer>;
    /// Has the owner, systemd or a runtime, restart what healer does not supervise.
    ///
    /// # Errors
    /// The act's outcome: refused, failed or unknown, in words.
    fn restart_owned<'a>(&'a self, order: &'a Order) -> Later<'a, Done>;
    /// Has the runtime stop a container.
    ///
    /// # Errors
    /// As of `restart_owned`.
    fn stop_owned<'a>(&'a self, order: &'a Order) -> Later<'a, Done>;
    /// Has Kubernetes move a pod; returns once it is on its way out.
    ///
    /// # Errors
    /// As of `restart_owned`.
    fn evict<'a>(&'a self, eviction: &'a Eviction) -> Later<'a, Done>;
    /// What Kubernetes calls this machine.
    ///
    /// # Errors
    /// Why there is no Kubernetes here, in words.
    fn node(&self) -> Result<String, String>;
    /// Starts a program in a session of its own, in `cgroup` if that exists. Returns its pid once exec succeeded.
    fn launch(&self, argv: &[String], cgroup: &str) -> io::Result<u32>;
    fn run_hook(&self, hook: Hook) -> Later<'_, io::Result<HookEnd>>;
    /// Keeps what the target looks like now, with its incident; says how much.
    fn capture<'a>(&'a self, act: &'a Act) -> Later<'a, io::Result<String>>;

    /// What success is called here: done, or would have been done.
    fn outcome(&self, says: String) -> ActionOutcome;
}
