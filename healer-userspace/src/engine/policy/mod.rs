//! The checked policy language: what a file means after `config` has read it.
//! Words and meaning: `policies/README.md`.

mod action_name;
pub mod answer;
pub mod choose;
pub mod depends;
mod expect;
#[cfg(test)]
mod fixture;
pub mod glob;
pub mod maintenance;
mod pace;

use core::time::Duration;

use serde::{Deserialize, Serialize};

use self::maintenance::Maintenance;
pub use self::{
    action_name::ActionName,
    expect::{Expect, Probe, ProbeAsk},
    pace::{Backoff, Breaker, Budget},
};
use super::class::{Certainty, Class};
use crate::identity::process::Process;

/// How far a policy may go.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Diagnose and report.
    Observe,
    /// Run the whole engine, touch nothing, follow what becomes of the patient.
    #[default]
    Shadow,
    Enforce,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Shadow => "shadow",
            Self::Enforce => "enforce",
        }
    }
}

/// All policies in force, and the administrator's limits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicySet {
    pub policies: Vec<Policy>,
    /// `AgentConfig.mode` and `--mode`: caps every policy.
    pub mode_cap: Option<Mode>,
    pub node_budget: Option<Budget>,
    pub node_breaker: Option<Breaker>,
    pub storm: Option<Storm>,
    pub maintenance: Vec<Maintenance>,
    pub protect: Protect,
    /// Shown by `healer status`: changes with every load.
    pub version: String,
}

/// Never touched, whatever a policy says. Executables are compared by path here and by inode by the hands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protect {
    pub units: Vec<String>,
    pub exes: Vec<String>,
}

impl Protect {
    /// The pattern that names this unit.
    pub fn pattern_of(&self, unit: &str) -> Option<&str> {
        self.units.iter().map(String::as_str).find(|pattern| glob::matches(pattern, unit))
    }

    pub fn covers(&self, process: &Process) -> bool {
        process.place.unit.as_ref().is_some_and(|unit| self.pattern_of(unit).is_some())
            || process.exe.as_ref().is_some_and(|exe| self.exes.contains(exe))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub name: String,
    pub mode: Mode,
    pub matches: Match,
    pub avoid: Vec<Match>,
    pub expect: Expect,
    pub rules: Vec<Rule>,
    pub safety: Safety,
    pub verify: Verify,
}

/// Keys AND, values in a list OR. All empty = everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    pub supervise: Vec<String>,
    pub namespaces: Vec<String>,
    pub pod_labels: Vec<(String, String)>,
    pub containers: Vec<String>,
    pub container_labels: Vec<(String, String)>,
    pub units: Vec<String>,
    pub exes: Vec<String>,
    /// Glob with `*` and `**` on the cgroup path.
    pub cgroups: Vec<String>,
    pub comms: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    pub number: u16,
    pub protocol: Protocol,
}

impl Port {
    /// For a person.
    pub fn list(ports: &[Self]) -> String {
        ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl core::fmt::Display for Port {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(out, "{}/{protocol}", self.number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Tcp,
    Udp,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: String,
    /// OR.
    pub when: Vec<Condition>,
    pub unless: Vec<Unless>,
    /// What is kept of the patient when one of the rule's classes is first told.
    pub capture: Option<Wanted>,
    pub escalate: Vec<Rung>,
}

/// What is to be kept of a patient, and for how long it may be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub stacks: bool,
    /// Descriptors and connections.
    pub sockets: bool,
    /// Of its log, the last so many.
    pub log_lines: u32,
    pub max_time: Duration,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { stacks: true, sockets: true, log_lines: 20, max_time: Duration::from_millis(800) }
    }
}

/// Keys AND.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub class: Class,
    /// At least this sure. Default: proved for deadlock, probable elsewhere.
    pub certainty: Certainty,
    /// The finding has lasted this long.
    pub hold: Option<Duration>,
    pub exits: Option<Exits>,
    pub min_evidence: Option<u32>,
    /// `timeToLimit: {under: D}`
    pub time_to_limit_under: Option<Duration>,
    pub kind: Option<String>,
}

/// `exits: {min: 3, within: 5m, codes: {notIn: [0, 143]}}`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exits {
    pub min: u32,
    pub within: Duration,
    pub codes_not_in: Vec<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unless {
    Class(Class),
    EvidenceLost,
}

/// One step of the ladder: flat, as in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    pub action: ActionName,
    #[serde(default)]
    pub scope: Scope,
    /// Between the polite and the final signal. Default 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Duration>,
    /// The act itself must be over by then. Default 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Signal number of `stop`; default SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// argv of `restart` or `run_hook`; no shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    #[serde(default, skip_serializing_if = "Terms::is_default")]
    pub terms: Terms,
}

/// What a reversible rung turns, how far, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// At the latest.
    pub undo_after: Option<Duration>,
    /// `throttle`: percent of the memory limit.
    pub memory_high: Option<u32>,
    /// `throttle`: percent of one CPU.
    pub cpu: Option<u32>,
    /// `throttle`: as `cpu.weight` of cgroup v2, 1 to 10,000.
    pub cpu_weight: Option<u32>,
    /// `raise_limit`: percent of the present limit that is added.
    pub by: Option<u32>,
    /// `raise_limit`: never beyond, in bytes.
    pub memory_max: Option<u64>,
    pub pids_max: Option<u64>,
    pub open_files: Option<u64>,
    /// `protect`
    pub oom_score_adj: Option<i32>,
    /// `condition`: its type.
    pub condition: Option<String>,
    /// `taint`: KEY:EFFECT.
    pub taint: Option<String>,
    /// `evict`: the pod is deleted if its PodDisruptionBudget keeps it.
    pub past_budget: bool,
    /// `evict`: also a pod that nobody makes again.
    pub without_controller: bool,
    /// `capture`: as its rule says.
    pub wanted: Option<Wanted>,
}

impl Terms {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    #[default]
    Process,
    /// The process group.
    Group,
    Cgroup,
    Container,
    Pod,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Safety {
    /// The annotation by which a pod's owner says: touch nothing.
    pub pause: Option<String>,
    pub maintenance: Vec<Maintenance>,
    pub budget: Budget,
    pub backoff: Backoff,
    pub breaker: Breaker,
    pub canary: Option<Canary>,
}

/// So many instances go first; the rest once they have been well for `soak`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary {
    pub instances: u32,
    pub soak: Duration,
}

/// More than `targets` workloads and more than `percent` of all within `window` are one problem of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storm {
    pub targets: u32,
    pub percent: u32,
    pub window: Duration,
}

impl Breaker {
    /// A failure longer ago says nothing about today.
    pub fn memory(&self) -> Duration {
        self.within.max(self.probe_after * 2)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    pub within: Duration,
    pub alive: bool,
    pub listen: bool,
    /// A finding whose level, in percent, is below this counts as over.
    pub signal_below: Option<u32>,
    pub stable_for: Duration,
}

impl Default for Safety {
    fn default() -> Self {
        Self {
            budget: Budget { max: 5, per: Duration::from_secs(3600) },
            backoff: Backoff {
                initial: Duration::from_secs(10),
                factor: 2.0,
                max: Duration::from_secs(300),
                reset_after: Duration::from_secs(600),
            },
            breaker: Breaker {
                trip_after: 3,
                within: Duration::from_secs(1800),
                probe_after: Duration::from_secs(600),
            },
            canary: None,
            maintenance: Vec::new(),
            pause: None,
        }
    }
}

impl Default for Verify {
    fn default() -> Self {
        Self {
            within: Duration::from_secs(60),
            alive: true,
            listen: true,
            signal_below: None,
            stable_for: Duration::from_secs(10),
        }
    }
}
