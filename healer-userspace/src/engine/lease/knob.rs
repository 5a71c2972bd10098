//! What can be turned, and what each is called.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{identity::process::ProcessId, text::printable};

/// One thing that can be turned, and turned back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Knob {
    /// A file of a control group. Device and inode of the directory: another group of that name is not touched.
    Cgroup {
        dir: String,
        dev: u64,
        inode: u64,
        file: String,
    },
    /// `running`, or `stopped` by SIGSTOP.
    Running(ProcessId),
    /// `RLIMIT_NOFILE`, as `soft:hard`.
    OpenFiles(ProcessId),
    OomScoreAdj(ProcessId),
    /// What systemd keeps account of for a unit, by the socket of its bus.
    Unit {
        bus: String,
        unit: String,
        of: Account,
    },
    /// What Docker keeps account of for a container, by its socket.
    Container {
        socket: String,
        id: String,
        of: Account,
    },
    /// Of the cluster's node: `open`, `cordoned`, or `cordoned by healer (KEY)`.
    Cordon {
        node: String,
    },
    /// Of the cluster's node, KEY:EFFECT: `absent`, `set`, or `set by healer (VALUE)`.
    Taint {
        node: String,
        taint: String,
    },
    /// Of the cluster's node: `False`, or `True: MESSAGE`.
    Condition {
        node: String,
        name: String,
    },
}

impl Knob {
    /// Kubernetes' API server and Docker keep it across a boot: Docker writes down what it was told to update, but not that a
    /// container is paused. What systemd is told for the run time lies below `/run`.
    pub fn outlives_a_boot(&self) -> bool {
        self.is_afar() || matches!(self, Self::Container { of, .. } if *of != Account::Running)
    }

    /// Kubernetes' API server has it: asking takes time.
    pub fn is_afar(&self) -> bool {
        match self {
            Self::Cordon { .. } | Self::Taint { .. } | Self::Condition { .. } => true,
            Self::Cgroup { .. }
            | Self::Running(_)
            | Self::OpenFiles(_)
            | Self::OomScoreAdj(_)
            | Self::Unit { .. }
            | Self::Container { .. } => false,
        }
    }
}

/// What an owner keeps account of: turned behind its back, it would be wrong about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// `running` or `halted`.
    Running,
    /// In nanoseconds per second, or `infinity`.
    CpuTime,
    /// `CPUWeight` of a unit, shares of a container; or `unset`.
    CpuWeight,
    /// `MemoryHigh` in bytes, or `infinity`.
    MemoryHigh,
    /// In bytes, or `infinity`.
    MemoryMax,
    /// `TasksMax` of a unit, `PidsLimit` of a container; or `infinity`.
    Tasks,
}

impl fmt::Display for Account {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Running => "state",
            Self::CpuTime => "CPU time per second (ns)",
            Self::CpuWeight => "CPU weight",
            Self::MemoryHigh => "MemoryHigh",
            Self::MemoryMax => "memory limit",
            Self::Tasks => "limit of tasks",
        })
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup { dir, file, .. } => write!(out, "{file} of {}", printable(dir)),
            Self::Running(id) => write!(out, "pid {}", id.pid),
            Self::OpenFiles(id) => write!(out, "the limit of open files of pid {}", id.pid),
            Self::OomScoreAdj(id) => write!(out, "oom_score_adj of pid {}", id.pid),
            Self::Unit { unit, of, .. } => write!(out, "{of} of unit {}", printable(unit)),
            Self::Container { id, of, .. } => write!(out, "{of} of container {:.12}", printable(id)),
            Self::Cordon { node } => write!(out, "node {}", printable(node)),
            Self::Taint { node, taint } => {
                write!(out, "taint {} of node {}", printable(taint), printable(node))
            }
            Self::Condition { node, name } => write!(out, "{name} of node {}", printable(node)),
        }
    }
}
