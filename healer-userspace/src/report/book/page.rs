//! One incident in the book: what is said of it, and its records as text.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    engine::class::Certainty,
    report::{
        incidents::{INTERRUPTED, Incident},
        record::{Record, number, text},
    },
};

pub(super) const TIMELINE_CAP: usize = 200;
/// Fields of a record that its incident or the chain says already.
const SAID_ELSEWHERE: [&str; 6] = ["incident", "workload", "seq", "boot_id", "prev", "hash"];

#[derive(Debug)]
pub(super) struct Page {
    /// Its timeline is empty: see `lines`.
    pub(super) incident: Incident,
    lines: Vec<Box<str>>,
    /// The last line if it is a gate's verdict: one that holds is asked again and again.
    last_gate: Option<Record>,
    pids: BTreeSet<u64>,
}

impl Page {
    pub(super) fn new(id: u64, workload: &str) -> Self {
        let incident =
            Incident { id: format!("i{id}"), workload: workload.into(), open: true, ..Incident::default() };
        Self { incident, lines: Vec::new(), last_gate: None, pids: BTreeSet::new() }
    }

    /// With its timeline.
    pub(super) fn whole(&self) -> Incident {
        let timeline = self.lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Incident { timeline, ..self.incident.clone() }
    }

    pub(super) fn concerns(&self, pid: u64) -> bool {
        self.pids.contains(&pid)
    }

    pub(super) fn interrupt(&mut self) {
        if self.incident.open {
            self.incident.open = false;
            self.incident.outcome = Some(INTERRUPTED.into());
        }
    }

    pub(super) fn add(&mut self, record: &Record) {
        if self.incident.outcome.as_deref() == Some(INTERRUPTED) {
            self.incident.open = true;
            self.incident.outcome = None;
        }
        match text(record, "record") {
            "diagnosis" => self.diagnosed(record),
            "plan" => self.planned(record),
            "closed" => self.close(record),
            _ => {}
        }
        self.note_pids(record);
        self.remember(record);
    }

    /// The first diagnosis names the incident, the surest of its class says what it is; further classes of the same death are
    /// in the timeline.
    fn diagnosed(&mut self, record: &Record) {
        let incident = &mut self.incident;
        let is_first = incident.class.is_empty();
        let is_surer = incident.class == text(record, "class")
            && certainty(&incident.certainty) < certainty(text(record, "certainty"));
        if is_first || is_surer {
            incident.certainty = text(record, "certainty").into();
            incident.sentence = text(record, "sentence").into();
        }
        if !is_first {
            return;
        }
        incident.class = text(record, "class").into();
        incident.fault_time = text(record, "fault_time").into();
        incident.fault_boot_ns = number(record, "fault_boot_ns");
        let detected = number(record, "detected_boot_ns");
        incident.to_detect_ns = Some(detected.saturating_sub(incident.fault_boot_ns));
        if let Some(target) = record.get("target").and_then(Value::as_object) {
            incident.pid = u32::try_from(number(target, "pid")).unwrap_or_default();
        }
    }

    fn planned(&mut self, record: &Record) {
        let known = |key| Some(text(record, key).to_owned()).filter(|of| !of.is_empty());
        self.incident.policy = known("policy");
        self.incident.rule = known("rule");
        self.incident.mode = known("mode");
    }

    fn close(&mut self, record: &Record) {
        let incident = &mut self.incident;
        incident.open = false;
        incident.outcome = Some(text(record, "outcome").into());
        incident.closed_time = Some(text(record, "time").into());
        let nanos = |key| record.get(key).and_then(Value::as_u64);
        incident.to_detect_ns = nanos("to_detect_ns").or(incident.to_detect_ns);
        incident.to_act_ns = nanos("to_act_ns");
        incident.to_recover_ns = nanos("to_recover_ns");
    }

    fn note_pids(&mut self, record: &Record) {
        let related = record.get("related").and_then(Value::as_array).into_iter().flatten();
        let whom = ["target", "successor"].iter().filter_map(|key| record.get(*key)).chain(related);
        self.pids.extend(whom.filter_map(|who| who.get("pid")?.as_u64()));
    }

    fn remember(&mut self, record: &Record) {
        let gate = text(record, "record") == "gate";
        if gate && self.repeats_last_gate(record) {
            return;
        }
        self.last_gate = None;
        if self.lines.len() >= TIMELINE_CAP && text(record, "record") != "closed" {
            self.incident.omitted += 1;
            return;
        }
        let mut entry = record.clone();
        entry.retain(|key, _| !SAID_ELSEWHERE.contains(&key.as_str()));
        self.lines.push(line(&entry));
        self.last_gate = gate.then_some(entry);
    }

    /// Counted, with its latest reason.
    fn repeats_last_gate(&mut self, record: &Record) -> bool {
        let (Some(last), Some(line_of_it)) = (&mut self.last_gate, self.lines.last_mut()) else {
            return false;
        };
        if ["gate", "verdict"].iter().any(|key| last.get(*key) != record.get(*key)) {
            return false;
        }
        let repeats = number(last, "repeats") + 1;
        last.insert("repeats".into(), repeats.into());
        last.insert("reason".into(), text(record, "reason").into());
        *line_of_it = line(last);
        true
    }
}

/// `None` is less than any.
fn certainty(name: &str) -> Option<Certainty> {
    serde_json::from_value(name.into()).ok()
}

fn line(entry: &Record) -> Box<str> {
    serde_json::to_string(entry).unwrap_or_default().into_boxed_str()
}
