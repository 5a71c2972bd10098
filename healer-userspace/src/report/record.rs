//! A fact as the JSON object that scripts hold on to: the line of the audit (without its chain),
//! the entry of an incident's timeline, the answer of the API.

use serde_json::{Map, Value, json};

use super::{detail, wall::Now};
use crate::{
    engine::{
        command::{ActionOutcome, ActionResult, Intent},
        diagnosis::Diagnosis,
        report::{Closed, Report, ReportFact, Verification},
    },
    identity::process::Process,
};

pub type Record = Map<String, Value>;

/// What an intent said, kept until its result: a result carries the key alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActName {
    pub action: &'static str,
    pub rung: usize,
    pub mode: &'static str,
}

impl From<&Intent> for ActName {
    fn from(intent: &Intent) -> Self {
        Self { action: intent.act.rung.action.name(), rung: intent.rung_index, mode: intent.act.mode.name() }
    }
}

/// Turns facts into records.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    pub now: Now,
    /// `/proc/sys/kernel/random/boot_id`: start times mean nothing in another boot.
    pub boot_id: &'a str,
    /// Of the act that a result belongs to.
    pub act: Option<&'a ActName>,
}

impl Writer<'_> {
    /// `time`, `boot_ns`, `incident`, `workload`, `record` and the fields of that record.
    pub fn record(&self, report: &Report) -> Record {
        let mut record = self.fields(&report.fact);
        let mut put = |key: &str, value: Value| record.insert(key.into(), value);
        put("time", self.now.rfc3339(report.at).into());
        put("boot_ns", report.at.0.into());
        if let Some(incident) = report.incident {
            put("incident", incident.to_string().into());
        }
        if let Some(workload) = &report.workload {
            put("workload", workload.0.clone().into());
        }
        record
    }

    fn fields(&self, fact: &ReportFact) -> Record {
        let value = match fact {
            ReportFact::Diagnosis(diagnosis) => self.diagnosis(diagnosis),
            ReportFact::Plan(plan) => json!({
                "record": "plan", "policy": plan.policy, "rule": plan.rule,
                "mode": plan.mode.name(), "ladder": plan.ladder, "says": plan.says,
            }),
            ReportFact::Gate(gate) => json!({
                "record": "gate", "gate": gate.gate, "verdict": gate.verdict,
                "reason": gate.reason, "mode": gate.mode.name(),
            }),
            ReportFact::Intent(intent) => self.intent(intent),
            ReportFact::Result(result) => self.result(result),
            ReportFact::Verification(verification) => self.verification(verification),
            ReportFact::Score { policy, rule, outcome, after_ms, says } => json!({
                "record": "score", "policy": policy, "rule": rule, "outcome": outcome,
                "after_ms": after_ms, "says": says,
            }),
            ReportFact::Notify { class, sentence, reason } => json!({
                "record": "notify", "class": class.name(), "sentence": sentence, "reason": reason,
            }),
            ReportFact::Closed(closed) => self.closed(closed),
            ReportFact::Agent { event, says } => json!({
                "record": "agent", "event": event, "says": says,
            }),
        };
        match value {
            Value::Object(fields) => fields.into_iter().filter(|(_, v)| !v.is_null()).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Record::new()
            }
        }
    }

    fn diagnosis(&self, diagnosis: &Diagnosis) -> Value {
        let related: Vec<Value> = diagnosis.related.iter().map(|of| self.target(of)).collect();
        let evidence: Vec<Value> = diagnosis
            .evidence
            .iter()
            .map(|item| {
                json!({
                    "signal": item.signal, "time": self.now.rfc3339(item.at),
                    "boot_ns": item.at.0, "says": item.says,
                })
            })
            .collect();
        json!({
            "record": "diagnosis",
            "class": diagnosis.class.name(),
            "certainty": diagnosis.certainty.name(),
            "target": self.target(&diagnosis.target),
            "related": related,
            "fault_time": self.now.rfc3339(diagnosis.fault_at),
            "fault_boot_ns": diagnosis.fault_at.0,
            "detected_time": self.now.rfc3339(diagnosis.detected_at),
            "detected_boot_ns": diagnosis.detected_at.0,
            "sentence": diagnosis.sentence,
            "evidence": evidence,
            "lost": diagnosis.lost,
            "from_absence": diagnosis.from_absence.then_some(true),
            "detail": (!diagnosis.detail.is_empty()).then(|| detail::view(&diagnosis.detail)),
        })
    }

    /// `{pid, start_boot_ns, boot_id, comm, exe?, args?, uid, cgroup, cgroup_id, workload, parent?, supervise?, unit?,
    /// container?, pod?}`
    fn target(&self, process: &Process) -> Value {
        let place = &process.place;
        let value = json!({
            "pid": process.pid,
            "start_boot_ns": process.start.0,
            "boot_id": self.boot_id,
            "comm": process.comm,
            "exe": process.exe,
            "args": (!process.args.is_empty()).then_some(&process.args),
            "uid": process.uid,
            "cgroup": process.cgroup,
            "cgroup_id": process.cgroup_id,
            "workload": process.workload.0,
            "parent": process.parent.as_ref().map(|of| json!({
                "pid": of.pid, "start_boot_ns": of.start.0, "comm": of.comm, "exe": of.exe,
            })),
            "supervise": place.supervise,
            "unit": place.unit,
            "container": place.container.as_ref().map(|of| json!({
                "runtime": of.runtime, "id": of.id, "name": of.name, "image": of.image,
            })),
            "pod": place.pod.as_ref().map(|of| json!({
                "namespace": of.namespace, "name": of.name, "uid": of.uid,
            })),
        });
        without_nulls(value)
    }

    fn intent(&self, intent: &Intent) -> Value {
        let act = &intent.act;
        json!({
            "record": "intent", "action": act.rung.action.name(), "rung": intent.rung_index,
            "scope": act.rung.scope, "key": act.key.0, "mode": act.mode.name(),
            "class": act.class.name(), "policy": intent.policy, "rule": intent.rule,
            "signal": act.rung.signal,
            "command": (!act.rung.command.is_empty()).then_some(&act.rung.command),
            "target": self.target(&act.target),
        })
    }

    fn result(&self, result: &ActionResult) -> Value {
        let (says, errno) = outcome_words(&result.outcome);
        json!({
            "record": "result", "action": self.act.map(|act| act.action),
            "rung": self.act.map(|act| act.rung), "mode": self.act.map(|act| act.mode),
            "key": result.key.0, "outcome": result.outcome.name(), "says": says, "errno": errno,
        })
    }

    fn verification(&self, verification: &Verification) -> Value {
        json!({
            "record": "verification", "outcome": verification.outcome.name(),
            "after_ms": verification.after_ms, "says": verification.says,
            "successor": verification.successor.as_ref().map(|of| self.target(of)),
        })
    }

    fn closed(&self, closed: &Closed) -> Value {
        json!({
            "record": "closed", "outcome": closed.outcome.name(), "says": closed.says,
            "to_detect_ns": nanos(closed.to_detect),
            "to_act_ns": closed.to_act.map(nanos),
            "to_recover_ns": closed.to_recover.map(nanos),
        })
    }
}

/// What an outcome says, and its errno if it has one.
pub fn outcome_words(outcome: &ActionOutcome) -> (&str, Option<i32>) {
    match outcome {
        ActionOutcome::Done { says } | ActionOutcome::WouldDo { says } => (says, None),
        ActionOutcome::Refused { reason } | ActionOutcome::Unknown { reason } => (reason, None),
        ActionOutcome::Failed { error, errno } => (error, *errno),
    }
}

pub(super) fn nanos(duration: core::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().filter(|(_, v)| !v.is_null()).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => value,
    }
}

/// A number of a record; 0 if absent.
pub fn number(record: &Record, key: &str) -> u64 {
    record.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// A text field of a record; empty if absent.
pub fn text<'a>(record: &'a Record, key: &str) -> &'a str {
    record.get(key).and_then(Value::as_str).unwrap_or_default()
}
