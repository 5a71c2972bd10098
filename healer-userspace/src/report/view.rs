//! What the agent lets others see: one cheap, shared picture, written by the agent's loop,
//! read by HTTP and by the control socket.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{
    book::Book,
    deaths::Deaths,
    dependencies::Dependencies,
    readiness::Readiness,
    scores::Scores,
    wall::{Now, rfc3339},
};
use crate::{
    engine::{lease::Lease, policy::PolicySet, time::BootTime},
    sense::{self, Level, SensorStatus},
};

/// A handle on the picture. A lock is held for one short closure, never over an await.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<View>>);

impl Shared {
    pub fn read<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn update<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, Default)]
pub struct View {
    pub agent: Agent,
    pub book: Book,
    pub deaths: Deaths,
    pub scores: Scores,
    pub sensors: Vec<Sensor>,
    pub policies: Policies,
    /// By workload key.
    pub workloads: BTreeMap<String, Workload>,
    pub dependencies: Dependencies,
    pub readiness: Readiness,
    /// Records lost since start, by ring.
    pub lost: BTreeMap<&'static str, u64>,
    pub audit_head: Option<String>,
    pub leases: Vec<Lent>,
}

/// Facts about the agent itself, set once at start (`paused` whenever it changes).
#[derive(Clone, Debug, Default)]
pub struct Agent {
    pub pid: u32,
    pub started: BootTime,
    pub state_dir: String,
    /// Who paused it and why; None while it acts.
    pub paused: Option<String>,
    /// Why the journal cannot be written, and so nothing is done; None while it can.
    pub not_writable: Option<String>,
}

/// One sense of the agent: a kernel program or a poll.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Sensor {
    pub name: String,
    pub state: SensorState,
    /// How it is attached: `tp_btf`, `raw_tp`, `tracepoint`, `connector`, `kmsg`, `iter/task`, `poll`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// What healer's own children showed at start about its records.
    #[serde(default)]
    pub self_check: SelfCheck,
    /// Kernel fields that its source does not give, as `struct.member`; `/proc` may add them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Why it is down, or not attached by the best way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What an administrator can do about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// How much it sees, where the overhead governor decides: `full`, `sampled` or `off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode_since_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode_why: Option<String>,
    /// Names of the signals it brings, as in `healer_signals_total{signal}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<String>,
}

/// Whether a sensor tells the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SelfCheck {
    /// Not known: it is down, it is of a kind that is not provoked, or records were lost.
    #[default]
    NotChecked,
    Truthful,
    /// It was wrong and is down.
    Lied,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SensorState {
    /// By the best way, with every field.
    Attached,
    /// By a lesser way, or with fields missing.
    Degraded,
    /// Not at all: its numbers are not shown.
    #[default]
    Down,
}

impl SensorState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

impl From<&SensorStatus> for Sensor {
    fn from(status: &SensorStatus) -> Self {
        Self {
            name: status.name.to_owned(),
            state: match status.state {
                sense::SensorState::Attached => SensorState::Attached,
                sense::SensorState::Degraded => SensorState::Degraded,
                sense::SensorState::Down => SensorState::Down,
            },
            via: status.via.map(str::to_owned),
            self_check: match status.checked {
                sense::Checked::No => SelfCheck::NotChecked,
                sense::Checked::Truthful => SelfCheck::Truthful,
                sense::Checked::Lied => SelfCheck::Lied,
            },
            missing: status.missing.clone(),
            reason: status.reason.clone(),
            remedy: status.remedy.clone(),
            mode: status.mode.as_ref().map(|mode| mode.name.to_owned()),
            mode_since_time: None,
            mode_why: status.mode.as_ref().map(|mode| mode.why.clone()),
            signals: signal_of(status.name).into_iter().map(str::to_owned).collect(),
        }
    }
}

/// What a kernel program's records become.
fn signal_of(sensor: &str) -> Option<&'static str> {
    match sensor {
        "process_exit" => Some("exited"),
        "process_exec" => Some("execed"),
        "signal_sent" => Some("signal_sent"),
        "oom_kill" => Some("oom_killed"),
        "socket_state" => Some("connection_failed"),
        "tcp_retransmit" => Some("retransmitted"),
        "syscall_error" => Some("syscall_error"),
        "task_hung" => Some("task_hung"),
        _ => None,
    }
}

impl Sensor {
    /// It sees by a kernel program, and its records come through a ring.
    pub fn is_kernel(&self) -> bool {
        let by_program = |level: &Level| *level != Level::User && self.via.as_deref() == Some(level.name());
        self.is_up() && Level::ALL.iter().any(by_program)
    }

    pub fn is_up(&self) -> bool {
        self.state != SensorState::Down
    }
}

/// The policies in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Policies {
    /// Changes with every load.
    pub version: String,
    /// `--mode` or the agent's configuration: caps every policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode_cap: Option<String>,
    pub policies: Vec<PolicyLine>,
    /// Why the last reload was refused; the older policies stay in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PolicyLine {
    pub name: String,
    /// As it applies: capped.
    pub mode: String,
    pub rules: Vec<String>,
}

impl From<&PolicySet> for Policies {
    fn from(set: &PolicySet) -> Self {
        let line = |policy: &crate::engine::policy::Policy| PolicyLine {
            name: policy.name.clone(),
            mode: set.mode_cap.map_or(policy.mode, |cap| cap.min(policy.mode)).name().into(),
            rules: policy.rules.iter().map(|rule| rule.name.clone()).collect(),
        };
        Self {
            version: set.version.clone(),
            mode_cap: set.mode_cap.map(|mode| mode.name().into()),
            policies: set.policies.iter().map(line).collect(),
            refused: None,
        }
    }
}

/// A workload that the agent follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Workload {
    pub key: String,
    pub running: bool,
    /// Of its main process, the last one if it is down.
    pub pid: u32,
    pub exe: String,
    /// Main processes that ended while the agent watched.
    pub ends: u64,
}

/// What one act has borrowed: `healer undo` gives it back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Lent {
    pub incident: String,
    pub workload: String,
    pub action: String,
    /// What is turned, from what to what.
    pub turns: Vec<String>,
}

impl From<&Lease> for Lent {
    fn from(lease: &Lease) -> Self {
        Self {
            incident: lease.incident.to_string(),
            workload: lease.workload.0.clone(),
            action: lease.action.name().to_owned(),
            turns: lease.turns.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What `healer status` asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub state_dir: String,
    /// RFC 3339, when the answer was given.
    pub now_time: String,
    pub uptime_seconds: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// Why the journal cannot be written, and so nothing is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_writable: Option<String>,
    pub ready: bool,
    /// Empty if ready.
    pub not_ready_because: Vec<String>,
    pub sensors: Vec<Sensor>,
    pub lost_records: u64,
    pub policies: Policies,
    pub workloads: Vec<Workload>,
    pub open_incidents: Vec<super::incidents::Incident>,
    pub incidents: usize,
    /// What acts have borrowed and not given back yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<Lent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_head: Option<String>,
}

impl View {
    pub fn status(&self, now: Now) -> Status {
        let not_ready_because = self.readiness.complaints(&self.sensors, now.boot);
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: self.agent.pid,
            state_dir: self.agent.state_dir.clone(),
            now_time: rfc3339(now, now.boot),
            uptime_seconds: now.boot.since(self.agent.started).as_secs(),
            paused: self.agent.paused.clone(),
            not_writable: self.agent.not_writable.clone(),
            ready: not_ready_because.is_empty(),
            not_ready_because,
            sensors: self.sensors.clone(),
            lost_records: self.lost.values().sum(),
            policies: self.policies.clone(),
            workloads: self.workloads.values().cloned().collect(),
            open_incidents: self.book.newest().filter(|of| of.open).cloned().collect(),
            incidents: self.book.len(),
            leases: self.leases.clone(),
            audit_head: self.audit_head.clone(),
        }
    }
}
