//! One look at what may run out: how much is there, and how much of it is used.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::identity::process::{Process, ProcessId};

/// Only what is more than half used; whatever is missing is well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelSnapshot {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<Level>,
    /// `Some` when children were counted in this look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zombies: Option<Vec<Zombies>>,
    /// Only cgroups that were held back in most of their periods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quotas: Vec<Quota>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    pub of: Resource,
    pub used: u64,
    pub limit: u64,
    /// Whose it is, or who uses most of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Before identity: its pid. 0 if nobody in particular uses it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pid: u32,
    /// Who uses most of what is used, heaviest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// Since the look before: how often the kernel had to say no.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub refused: u64,
}

impl Level {
    pub fn new(of: Resource, used: u64, limit: u64) -> Self {
        Self { of, used, limit, process: None, pid: 0, users: Vec::new(), refused: 0 }
    }

    pub fn percent(&self) -> u64 {
        percent(self.used, self.limit)
    }

    pub fn share(&self) -> f64 {
        share(self.used, self.limit)
    }
}

/// In percent, unrounded.
pub fn share(used: u64, limit: u64) -> f64 {
    if limit == 0 { 0.0 } else { used as f64 * 100.0 / limit as f64 }
}

pub fn percent(used: u64, limit: u64) -> u64 {
    used.saturating_mul(100).checked_div(limit).unwrap_or(0)
}

/// What may run out, and whose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// `RLIMIT_NOFILE` of one process.
    Descriptors { pid: u32 },
    /// `fs.file-max`.
    Files,
    /// `pids.max` of a cgroup.
    Pids { cgroup: String },
    /// `RLIMIT_NPROC`.
    UserProcesses { uid: u32 },
    /// `kernel.pid_max` or `kernel.threads-max`.
    NodePids,
    /// Bytes of a file system.
    Space {
        /// Where whoever was asked has it.
        mount: String,
        /// `8:1`, the same in every mount namespace; empty if not known.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        device: String,
    },
    Inodes {
        mount: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        device: String,
    },
    /// `net.ipv4.ip_local_port_range` of a network namespace, for connections to one peer.
    Ports { netns: u64, peer: IpAddr, port: u16 },
}

impl Resource {
    /// What it is known by. A path says little: it is another disk in another mount namespace, or after a remount.
    #[must_use]
    pub fn key(&self) -> Self {
        let mount = String::new();
        match self {
            Self::Space { device, .. } if !device.is_empty() => Self::Space { mount, device: device.clone() },
            Self::Inodes { device, .. } if !device.is_empty() => {
                Self::Inodes { mount, device: device.clone() }
            }
            Self::Descriptors { .. }
            | Self::Files
            | Self::Pids { .. }
            | Self::UserProcesses { .. }
            | Self::NodePids
            | Self::Space { .. }
            | Self::Inodes { .. }
            | Self::Ports { .. } => self.clone(),
        }
    }
}

/// One of those who use it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub pid: u32,
    pub comm: String,
    /// In the resource's own unit, since the look before or in all.
    pub used: u64,
}

/// A living process and its dead children that it has not waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zombies {
    pub process: Process,
    /// Before identity.
    #[serde(default)]
    pub pid: u32,
    pub count: u64,
    /// Whoever of them began first: once it is gone, some have been waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eldest: Option<ProcessId>,
}

/// A cgroup that its CPU quota holds back; counts and times are since the look before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    pub cgroup: String,
    pub over_ms: u64,
    /// Of one CPU, what it may use.
    pub quota_percent: u64,
    pub periods: u64,
    pub throttled: u64,
    /// Summed over CPUs.
    pub throttled_ms: u64,
    /// Who ran most in it of late, heaviest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<CpuUser>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuUser {
    pub process: Process,
    /// Before identity.
    #[serde(default)]
    pub pid: u32,
    pub ran_ms: u64,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_zero_u64(number: &u64) -> bool {
    *number == 0
}
