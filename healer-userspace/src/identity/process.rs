//! Who: a process as the engine sees it and as traces store it.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::engine::time::BootTime;

/// One process, bound to its start time so that a recycled pid is somebody else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Thread group id in the host's pid namespace.
    pub pid: u32,
    /// `task_struct.start_boottime` of the group leader.
    pub start: BootTime,
    /// `task_struct.comm` of the group leader: 15 bytes at most, chosen by the process itself.
    pub comm: String,
    /// Absolute path of the executable, if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Arguments, 256 bytes at most in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    #[serde(default)]
    pub uid: u32,
    /// cgroup v2 id, or the memory controller's id where the process is in the v2 root.
    #[serde(default)]
    pub cgroup_id: u64,
    /// Path below the cgroup mount, for example `/system.slice/web.service`.
    #[serde(default)]
    pub cgroup: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// What a user calls it.
    pub workload: WorkloadKey,
    /// The main process of its workload: a supervised child, a unit's MainPID, a container's PID 1.
    #[serde(default)]
    pub main: bool,
    #[serde(default, skip_serializing_if = "Place::is_empty")]
    pub place: Place,
}

impl Process {
    pub fn id(&self) -> ProcessId {
        ProcessId { pid: self.pid, start: self.start }
    }
}

/// Pid and start time: the only name of a process that is never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    pub start: BootTime,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub pid: u32,
    pub start: BootTime,
    pub comm: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
}

/// Where a process runs, in the words of whoever owns it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Name given to `healer supervise`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervise: Option<String>,
    /// systemd unit, for example `web.service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
}

impl Place {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub runtime: String,
    pub id: String,
    /// Empty until the runtime has told it.
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub image: String,
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// The thing a user names; key of ordinals, budgets, breakers and scores. Never a pid.
///
/// `supervise/NAME`, `pod/NAMESPACE/POD/CONTAINER`, `container/NAME`, `unit/NAME`,
/// or `program/EXE@CGROUP<PARENT`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkloadKey(pub String);

impl WorkloadKey {
    pub fn supervise(name: &str) -> Self {
        Self(format!("supervise/{name}"))
    }

    /// First form that applies, as decided: supervise name, pod, container, unit, program.
    pub fn of(place: &Place, exe: &str, cgroup: &str, parent: &str) -> Self {
        if let Some(name) = &place.supervise {
            return Self::supervise(name);
        }
        if let (Some(pod), Some(container)) = (&place.pod, &place.container) {
            return Self(format!("pod/{}/{}/{}", pod.namespace, pod.name, container.name));
        }
        if let Some(container) = &place.container {
            let name = if container.name.is_empty() { &container.id } else { &container.name };
            return Self(format!("container/{name}"));
        }
        if let Some(unit) = &place.unit {
            return Self(format!("unit/{unit}"));
        }
        Self(format!("program/{exe}@{cgroup}<{parent}"))
    }
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}
