//! Who: a process as the engine sees it and as traces store it.

use core::{cmp, fmt, hash};

use serde::{Deserialize, Serialize};

use crate::engine::time::BootTime;

/// Bytes of the arguments that are kept, NULs included.
pub const ARGS_MAX: usize = 256;

/// One clock tick of `/proc/PID/stat` in nanoseconds: `USER_HZ` is 100 wherever healer runs.
pub const TICK_NS: u64 = 10_000_000;

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
///
/// Two are equal if their starts fall into the same clock tick: kernel records bring
/// nanoseconds, `/proc` whole ticks (rounded down), and both mean the same process. Within one
/// tick a pid cannot be given away and come round again.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    pub start: BootTime,
}

impl ProcessId {
    fn key(self) -> (u32, u64) {
        (self.pid, self.start.0 / TICK_NS)
    }
}

impl PartialEq for ProcessId {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ProcessId {}

impl PartialOrd for ProcessId {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ProcessId {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl hash::Hash for ProcessId {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub pid: u32,
    pub start: BootTime,
    pub comm: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// A shell whose script starts this command again and again, however it ends.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub restarts_it: bool,
    /// Not a shell, so that nobody knows what it makes of a status; or a shell that starts it until it ends well.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub may_restart_it: bool,
    /// A supervisor of services, such as runsv.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub supervises: bool,
    /// The child runs its program in its words: a fork without an exec.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub is_double: bool,
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
    /// Where its runtime keeps what it says; no part of who it is.
    #[serde(skip)]
    pub log_file: Option<String>,
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
    /// `ReplicaSet/web-5d4f8c7b9`, if the API server has told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
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
        Self::named(place).unwrap_or_else(|| Self(format!("program/{exe}@{cgroup}<{parent}")))
    }

    /// The key if the place has a name that a user chose; `None` calls for the program form.
    ///
    /// A pod or container that no runtime has named yet goes by the container's id. Slices,
    /// login sessions and `init.scope` hold unrelated programs: they name no workload.
    pub fn named(place: &Place) -> Option<Self> {
        if let Some(name) = &place.supervise {
            return Some(Self::supervise(name));
        }
        if let Some(container) = &place.container {
            return Some(Self::container(container, place.pod.as_ref()));
        }
        let unit = place.unit.as_deref().filter(|unit| is_workload(unit))?;
        Some(Self(format!("unit/{unit}")))
    }

    fn container(container: &Container, pod: Option<&Pod>) -> Self {
        let name = match container.name.as_str() {
            "" => &container.id,
            name => name,
        };
        match pod.filter(|pod| !pod.name.is_empty()) {
            Some(pod) => Self(format!("pod/{}/{}/{name}", pod.namespace, pod.name)),
            None => Self(format!("container/{name}")),
        }
    }
}

fn is_workload(unit: &str) -> bool {
    let name = unit.rsplit('/').next().unwrap_or(unit);
    let is_session = name.starts_with("session-") && name.ends_with(".scope");
    !is_session && name != "init.scope" && !name.ends_with(".slice")
}

impl WorkloadKey {
    /// The name that a person gave it; programs have none.
    pub fn given_name(&self) -> Option<&str> {
        let (kind, name) = self.0.split_once('/')?;
        (kind != "program").then_some(name)
    }
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_from_proc_and_one_from_the_kernel_name_the_same_process() {
        let id = |pid, start| ProcessId { pid, start: BootTime(start) };
        assert_eq!(id(7, 1_230_000_000), id(7, 1_239_999_999));
        assert_ne!(id(7, 1_230_000_000), id(7, 1_240_000_000));
        assert_ne!(id(7, 1_230_000_000), id(8, 1_230_000_000));
    }

    #[test]
    fn the_first_form_that_applies_is_the_key() {
        let check = |place: &Place, key: &str| {
            assert_eq!(WorkloadKey::of(place, "/x", "/g", "sh").0, key);
        };
        let mut place = Place::default();
        check(&place, "program//x@/g<sh");
        for anonymous in ["user.slice", "session-3.scope", "init.scope"] {
            place.unit = Some(anonymous.into());
            check(&place, "program//x@/g<sh");
        }
        place.unit = Some("web.service".into());
        check(&place, "unit/web.service");
        place.pod = Some(Pod::default());
        place.container = Some(Container { id: "c0ffee".into(), ..Container::default() });
        check(&place, "container/c0ffee");
        let container = place.container.as_mut().unwrap();
        container.name = "app".into();
        check(&place, "container/app");
        let pod = place.pod.as_mut().unwrap();
        (pod.namespace, pod.name) = ("prod".into(), "web-0".into());
        check(&place, "pod/prod/web-0/app");
        place.supervise = Some("line".into());
        check(&place, "supervise/line");
    }
}
