//! What was said of whom, and what was done: pure, over the incidents' own records.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::course::Instance;
use crate::report::{
    incidents::Incident,
    record::{Record, number, text},
};

/// Of the failures, that many in a hundred must get the right class.
const RECALL_MIN: f64 = 95.0;
/// What the death of one process is called besides.
const SAID_TOO: [(&str, &str); 6] = [
    ("down", "crash"),
    ("crash", "down"),
    ("oom_kill", "memory_pressure"),
    ("oom_kill", "memory_leak"),
    ("memory_leak", "memory_pressure"),
    ("crash_loop", "crash"),
];

#[derive(Serialize)]
pub(super) struct Verdict {
    pub(super) instances: Vec<Judged>,
    /// What must not be: an innocent touched, an act done twice, a service left down, an audit that is not whole.
    pub(super) wrong: Vec<String>,
    pub(super) recall_percent: f64,
}

/// One instance and what the agent made of it.
#[derive(Serialize)]
pub(super) struct Judged {
    pub(super) fault: &'static str,
    /// What it should have been called; None for the healthy.
    pub(super) class: Option<&'static str>,
    pub(super) cgroup: String,
    pub(super) end: String,
    pub(super) incidents: Vec<String>,
    pub(super) said: BTreeSet<String>,
    /// Acts that took effect.
    pub(super) acts: Vec<String>,
    pub(super) outcomes: Vec<String>,
    /// From the fault, nanoseconds.
    pub(super) to_detect_ns: Option<u64>,
    pub(super) to_act_ns: Option<u64>,
    pub(super) to_recover_ns: Option<u64>,
}

impl Judged {
    pub(super) fn is_right(&self) -> bool {
        self.class.is_some_and(|class| self.said.contains(class))
    }

    /// Classes that are neither right nor another word for the same.
    pub(super) fn said_wrongly(&self) -> impl Iterator<Item = &String> {
        let is_fine =
            |said: &str| self.class.is_some_and(|class| class == said || SAID_TOO.contains(&(class, said)));
        self.said.iter().filter(move |said| !is_fine(said))
    }
}

impl Verdict {
    pub(super) fn is_good(&self) -> bool {
        self.wrong.is_empty() && RECALL_MIN <= self.recall_percent
    }
}

pub(super) fn judge(instances: &[Instance], incidents: &[Incident]) -> Verdict {
    let mut wrong = Vec::new();
    let judged: Vec<_> = instances.iter().map(|instance| one(instance, incidents, &mut wrong)).collect();
    let sick = judged.iter().filter(|judged| judged.class.is_some());
    let (right, all) =
        sick.fold((0_u32, 0_u32), |(right, all), judged| (right + u32::from(judged.is_right()), all + 1));
    let recall_percent = 100.0 * f64::from(right) / f64::from(all.max(1));
    Verdict { instances: judged, wrong, recall_percent }
}

fn one(instance: &Instance, incidents: &[Incident], wrong: &mut Vec<String>) -> Judged {
    // At its end its cgroup is killed: that is our doing.
    let in_time = |incident: &&Incident| incident.fault_boot_ns <= instance.ended.0;
    let own: Vec<_> =
        incidents.iter().filter(in_time).filter(|incident| is_about(incident, &instance.cgroup)).collect();
    let fault = instance.fault;
    let mut judged = Judged {
        fault: fault.name,
        class: fault.class.map(|class| class.name()),
        cgroup: instance.cgroup.clone(),
        end: instance.end.clone(),
        incidents: own.iter().map(|incident| incident.id.clone()).collect(),
        said: own
            .iter()
            .flat_map(|incident| of(incident, "diagnosis"))
            .map(|said| text(said, "class").into())
            .collect(),
        acts: Vec::new(),
        outcomes: own.iter().filter_map(|incident| incident.outcome.clone()).collect(),
        to_detect_ns: own.iter().filter_map(|incident| incident.to_detect_ns).min(),
        to_act_ns: own.iter().filter_map(|incident| incident.to_act_ns).min(),
        to_recover_ns: own.iter().filter_map(|incident| incident.to_recover_ns).min(),
    };
    let mut done: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for incident in &own {
        for result in of(incident, "result").filter(|result| may_have_touched(result)) {
            let action = text(result, "action");
            judged.acts.push(format!("{action} of {}", incident.id));
            *done.entry((action, target_of(text(result, "key")))).or_default() += 1;
        }
    }
    let twice = done.iter().filter(|(_, times)| 1 < **times);
    let name = judged.fault;
    wrong.extend(twice.map(|((action, who), times)| format!("{name}: {action} of {who}, {times} times")));
    wrong.extend(complaint(instance, &judged));
    judged
}

/// What is not known to be undone may have been done. A capture only looks.
fn may_have_touched(result: &Record) -> bool {
    matches!(text(result, "outcome"), "done" | "unknown") && text(result, "action") != "capture"
}

/// `PID@START` of an act's key, whichever incident it was for.
fn target_of(key: &str) -> &str {
    key.split(':').nth(1).unwrap_or(key)
}

/// Of the healthy: touched, or not as it should have ended. Of a service: still down.
fn complaint(instance: &Instance, judged: &Judged) -> Option<String> {
    let who = format!("{} in {}", judged.fault, judged.cgroup);
    let touched = judged.acts.iter().any(|act| !act.starts_with("notify"));
    if instance.fault.class.is_none() && touched {
        return Some(format!("the innocent {who} was touched: {}", judged.acts.join(", ")));
    }
    let must_end_so = instance.fault.class.is_none() || instance.fault.supervised;
    let lived = instance.ended.since(instance.began);
    (must_end_so && !instance.as_meant).then(|| format!("{who}: {} after {lived:.1?}", judged.end))
}

fn is_about(incident: &Incident, cgroup: &str) -> bool {
    of(incident, "diagnosis").any(|diagnosis| {
        let target = diagnosis.get("target").and_then(Value::as_object);
        target.is_some_and(|target| is_within(text(target, "cgroup"), cgroup))
    })
}

fn is_within(path: &str, cgroup: &str) -> bool {
    path.strip_prefix(cgroup).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn of<'a>(incident: &'a Incident, kind: &'static str) -> impl Iterator<Item = &'a Record> {
    incident
        .timeline
        .iter()
        .filter(move |record| text(record, "record") == kind && number(record, "boot_ns") != 0)
}

#[cfg(test)]
mod tests;
