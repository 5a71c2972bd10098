//! The incident book: what happened to whom, from first kernel record to verified recovery.
//! Built from records alone, so that a running agent and a cold audit file tell the same story.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::{Record, number, text};
use crate::engine::report::Outcome;

/// One incident, as the API, the control socket and `--json` give it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Incident {
    /// `i42`
    pub id: String,
    /// Key, for example `supervise/web`.
    pub workload: String,
    pub class: String,
    pub certainty: String,
    /// One line with numbers, for a person.
    pub sentence: String,
    pub pid: u32,
    pub open: bool,
    /// How it ended, once closed: `healed`, `recovered_alone`, `notified` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// First kernel evidence, RFC 3339.
    pub fault_time: String,
    pub fault_boot_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_time: Option<String>,
    /// Fault to diagnosis, nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_detect_ns: Option<u64>,
    /// Diagnosis to act done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_act_ns: Option<u64>,
    /// Act done to verified well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_recover_ns: Option<u64>,
    /// The records, oldest first; repeated gate verdicts are one entry with `repeats`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<BTreeMap<String, Value>>")]
    pub timeline: Vec<Record>,
    /// Records left out because the timeline is full.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Incident {
    /// Without its timeline, for lists.
    pub fn summary(&self) -> Self {
        Self { timeline: Vec::new(), ..self.clone() }
    }

    fn add(&mut self, record: &Record) {
        if self.outcome.as_deref() == Some(INTERRUPTED) {
            self.open = true;
            self.outcome = None;
        }
        match text(record, "record") {
            "diagnosis" => self.diagnosed(record),
            "plan" => self.planned(record),
            "closed" => self.close(record),
            _ => {}
        }
        self.remember(record);
    }

    fn diagnosed(&mut self, record: &Record) {
        if !self.class.is_empty() {
            return;
        }
        self.class = text(record, "class").into();
        self.certainty = text(record, "certainty").into();
        self.sentence = text(record, "sentence").into();
        self.fault_time = text(record, "fault_time").into();
        self.fault_boot_ns = number(record, "fault_boot_ns");
        let target = record.get("target").and_then(Value::as_object);
        if let Some(target) = target {
            self.pid = u32::try_from(number(target, "pid")).unwrap_or_default();
            if self.workload.is_empty() {
                self.workload = text(target, "workload").into();
            }
        }
        let detected = number(record, "detected_boot_ns");
        self.to_detect_ns = Some(detected.saturating_sub(self.fault_boot_ns));
    }

    fn planned(&mut self, record: &Record) {
        let known = |key| Some(text(record, key).to_owned()).filter(|of| !of.is_empty());
        self.policy = known("policy");
        self.rule = known("rule");
        self.mode = known("mode");
    }

    fn close(&mut self, record: &Record) {
        self.open = false;
        self.outcome = Some(text(record, "outcome").into());
        self.closed_time = Some(text(record, "time").into());
        let nanos = |key| record.get(key).and_then(Value::as_u64);
        self.to_detect_ns = nanos("to_detect_ns").or(self.to_detect_ns);
        self.to_act_ns = nanos("to_act_ns");
        self.to_recover_ns = nanos("to_recover_ns");
    }

    fn remember(&mut self, record: &Record) {
        if self.repeats_last_gate(record) {
            return;
        }
        if self.timeline.len() >= TIMELINE_CAP && text(record, "record") != "closed" {
            self.omitted += 1;
            return;
        }
        let mut entry = record.clone();
        for chained in ["incident", "workload", "seq", "prev", "hash"] {
            entry.remove(chained);
        }
        self.timeline.push(entry);
    }

    /// A gate that holds is asked again and again: counted, with its latest reason.
    fn repeats_last_gate(&mut self, record: &Record) -> bool {
        let Some(last) = self.timeline.last_mut() else {
            return false;
        };
        let same = ["record", "gate", "verdict"].iter().all(|key| last.get(*key) == record.get(*key));
        if !same || text(record, "record") != "gate" {
            return false;
        }
        let repeats = number(last, "repeats") + 1;
        last.insert("repeats".into(), repeats.into());
        last.insert("reason".into(), text(record, "reason").into());
        true
    }

    fn concerns_pid(&self, pid: u32) -> bool {
        let is_it = |of: &Value| of.get("pid").and_then(Value::as_u64) == Some(pid.into());
        self.pid == pid
            || self.timeline.iter().any(|record| {
                record.get("target").is_some_and(is_it)
                    || record.get("successor").is_some_and(is_it)
                    || record
                        .get("related")
                        .and_then(Value::as_array)
                        .is_some_and(|related| related.iter().any(is_it))
            })
    }
}

/// The last incidents, in memory.
#[derive(Debug)]
pub struct Book {
    incidents: BTreeMap<u64, Incident>,
    /// Order of arrival, oldest first.
    order: VecDeque<u64>,
    cap: usize,
}

pub const INCIDENT_CAP: usize = 1000;
const TIMELINE_CAP: usize = 200;
/// The agent ended before the incident did.
pub const INTERRUPTED: &str = "interrupted";

impl Default for Book {
    fn default() -> Self {
        Self::with_cap(INCIDENT_CAP)
    }
}

impl Book {
    pub fn with_cap(cap: usize) -> Self {
        Self { incidents: BTreeMap::new(), order: VecDeque::new(), cap: cap.max(1) }
    }

    /// From the lines of an audit file, oldest first.
    pub fn from_records<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut book = Self::default();
        for record in records {
            book.add(record);
        }
        book
    }

    /// As [`Book::from_records`], for what an agent that runs no more has written:
    /// what it left open is `interrupted` until a new agent goes on with it.
    pub fn from_history<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut book = Self::from_records(records);
        for incident in book.incidents.values_mut().filter(|incident| incident.open) {
            incident.open = false;
            incident.outcome = Some(INTERRUPTED.into());
        }
        book
    }

    /// Files a record under its incident; records of the agent itself are passed over.
    pub fn add(&mut self, record: &Record) {
        let Some(id) = record.get("incident").and_then(incident_number) else {
            return;
        };
        if !self.incidents.contains_key(&id) {
            self.make_room();
            self.order.push_back(id);
        }
        let incident = self.incidents.entry(id).or_insert_with(|| Incident {
            id: format!("i{id}"),
            workload: text(record, "workload").into(),
            open: true,
            ..Incident::default()
        });
        incident.add(record);
    }

    /// The oldest closed incident goes first, else the oldest of all.
    fn make_room(&mut self) {
        if self.order.len() < self.cap {
            return;
        }
        let closed = |id: &u64| self.incidents.get(id).is_some_and(|of| !of.open);
        let index = self.order.iter().position(closed).unwrap_or(0);
        if let Some(id) = self.order.remove(index) {
            self.incidents.remove(&id);
        }
    }

    /// By `i42` or `42`.
    pub fn get(&self, id: &str) -> Option<&Incident> {
        self.incidents.get(&parse_id(id)?)
    }

    /// Newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Incident> {
        self.order.iter().rev().filter_map(|id| self.incidents.get(id))
    }

    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        self.newest().filter(|incident| incident.open)
    }

    /// Incidents of TARGET, newest first: an incident id (`i42`), a pid, a workload's key or name.
    pub fn about(&self, target: &str) -> Vec<&Incident> {
        if target.starts_with('i')
            && let Some(incident) = self.get(target)
        {
            return vec![incident];
        }
        let named = |incident: &&Incident| is_named(&incident.workload, target);
        let by_name: Vec<_> = self.newest().filter(named).collect();
        match target.parse() {
            Ok(pid) if by_name.is_empty() => {
                self.newest().filter(|incident| incident.concerns_pid(pid)).collect()
            }
            Ok(_) | Err(_) => by_name,
        }
    }
}

/// `"i42"` as this agent writes it, `42` as a bare number.
fn incident_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| parse_id(value.as_str()?))
}

fn parse_id(id: &str) -> Option<u64> {
    id.strip_prefix('i').unwrap_or(id).parse().ok()
}

/// Does `name` mean the workload: its key, its key without the kind, or what `short_name` shows?
pub fn is_named(workload: &str, name: &str) -> bool {
    let without_kind = workload.split_once('/').map_or(workload, |(_, rest)| rest);
    workload == name || without_kind == name || short_name(workload) == name
}

/// `web` for `supervise/web`, `payments/api-0/app` for a pod, the program's file name for a program.
pub fn short_name(workload: &str) -> &str {
    match workload.split_once('/') {
        Some(("program", rest)) => {
            let exe = rest.split_once('@').map_or(rest, |(exe, _)| exe);
            exe.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(exe)
        }
        Some((_, rest)) => rest,
        None => workload,
    }
}

/// A person may look away: the patient is well, or never was in danger.
pub fn ended_well(outcome: &str) -> bool {
    [Outcome::Healed, Outcome::RecoveredAlone].iter().any(|good| good.name() == outcome)
}

#[cfg(test)]
#[path = "incidents_tests.rs"]
mod tests;
