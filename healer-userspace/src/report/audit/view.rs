//! What a line of the audit shows: the facts with wall time beside boot time, identities whole, words for numbers.

mod detail;
mod target;

use serde::Serialize;

use self::target::{Target, target};
use crate::{
    engine::{
        command::{ActionOutcome, ActionResult, Intent},
        diagnosis::Diagnosis,
        report::{Closed, Outcome, Report, ReportFact, Verdict},
        time::BootTime,
    },
    report::record::ActName,
    store::row::Stamp,
};

/// Everything of a line but `prev` and `hash`.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    pub seq: u64,
    time: String,
    boot_ns: u64,
    boot_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    incident: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'a str>,
    #[serde(flatten)]
    fact: Fact<'a>,
}

impl<'a> Line<'a> {
    /// `doing` is the act that a result belongs to.
    pub(crate) fn new(seq: u64, report: &'a Report, doing: Option<&'a ActName>, stamp: &'a Stamp) -> Self {
        Self {
            seq,
            time: wall(report.at, stamp),
            boot_ns: report.at.0,
            boot_id: &stamp.boot_id,
            incident: report.incident.map(|incident| incident.to_string()),
            workload: report.workload.as_ref().map(|key| key.0.as_str()),
            fact: fact(&report.fact, doing, stamp),
        }
    }
}

/// The `record` field and what belongs to it.
#[derive(Serialize)]
#[serde(rename_all = "snake_case", tag = "record")]
enum Fact<'a> {
    Diagnosis(Box<DiagnosisView<'a>>),
    Intent(Box<IntentView<'a>>),
    Result(ResultView<'a>),
    Verification(Box<VerificationView<'a>>),
    Gate {
        gate: &'a str,
        verdict: Verdict,
        reason: &'a str,
        mode: &'static str,
    },
    Closed(ClosedView<'a>),
    #[serde(untagged)]
    AsIs(&'a ReportFact),
}

fn fact<'a>(fact: &'a ReportFact, doing: Option<&'a ActName>, stamp: &'a Stamp) -> Fact<'a> {
    match fact {
        ReportFact::Diagnosis(it) => Fact::Diagnosis(Box::new(diagnosis(it, stamp))),
        ReportFact::Intent(it) => Fact::Intent(Box::new(intent(it, stamp))),
        ReportFact::Result(it) => Fact::Result(result(it, doing)),
        ReportFact::Verification(it) => Fact::Verification(Box::new(VerificationView {
            outcome: it.outcome,
            after_ms: it.after_ms,
            says: &it.says,
            successor: it.successor.as_ref().map(|who| target(who, stamp)),
        })),
        ReportFact::Gate(it) => {
            Fact::Gate { gate: &it.gate, verdict: it.verdict, reason: &it.reason, mode: it.mode.name() }
        }
        ReportFact::Closed(it) => Fact::Closed(closed(it)),
        ReportFact::Plan(_)
        | ReportFact::Score { .. }
        | ReportFact::Notify { .. }
        | ReportFact::Undone(_)
        | ReportFact::Agent { .. } => Fact::AsIs(fact),
    }
}

#[derive(Serialize)]
struct DiagnosisView<'a> {
    class: &'static str,
    certainty: &'static str,
    target: Target<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related: Vec<Target<'a>>,
    fault_time: String,
    fault_boot_ns: u64,
    detected_time: String,
    detected_boot_ns: u64,
    sentence: &'a str,
    evidence: Vec<EvidenceView<'a>>,
    lost: u64,
    from_absence: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<detail::DetailView<'a>>,
}

#[derive(Serialize)]
struct EvidenceView<'a> {
    signal: &'a str,
    time: String,
    boot_ns: u64,
    says: &'a str,
}

fn diagnosis<'a>(it: &'a Diagnosis, stamp: &'a Stamp) -> DiagnosisView<'a> {
    DiagnosisView {
        class: it.class.name(),
        certainty: it.certainty.name(),
        target: target(&it.target, stamp),
        related: it.related.iter().map(|who| target(who, stamp)).collect(),
        fault_time: wall(it.fault_at, stamp),
        fault_boot_ns: it.fault_at.0,
        detected_time: wall(it.detected_at, stamp),
        detected_boot_ns: it.detected_at.0,
        sentence: &it.sentence,
        evidence: it
            .evidence
            .iter()
            .map(|piece| EvidenceView {
                signal: &piece.signal,
                time: wall(piece.at, stamp),
                boot_ns: piece.at.0,
                says: &piece.says,
            })
            .collect(),
        lost: it.lost,
        from_absence: it.from_absence,
        detail: (!it.detail.is_empty()).then(|| detail::detail(&it.detail)),
    }
}

#[derive(Serialize)]
struct IntentView<'a> {
    action: &'static str,
    rung: usize,
    key: &'a str,
    class: &'static str,
    mode: &'static str,
    policy: &'a str,
    rule: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    command: &'a [String],
    target: Target<'a>,
}

fn intent<'a>(it: &'a Intent, stamp: &'a Stamp) -> IntentView<'a> {
    IntentView {
        action: it.act.rung.action.name(),
        rung: it.rung_index,
        key: &it.act.key.0,
        class: it.act.class.name(),
        mode: it.act.mode.name(),
        policy: &it.policy,
        rule: &it.rule,
        signal: it.act.rung.signal,
        command: &it.act.rung.command,
        target: target(&it.act.target, stamp),
    }
}

#[derive(Serialize)]
struct ResultView<'a> {
    #[serde(flatten)]
    doing: Option<&'a ActName>,
    key: &'a str,
    outcome: &'static str,
    says: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
}

fn result<'a>(it: &'a ActionResult, doing: Option<&'a ActName>) -> ResultView<'a> {
    let errno = match &it.outcome {
        ActionOutcome::Failed { errno, .. } => *errno,
        ActionOutcome::Done { .. }
        | ActionOutcome::WouldDo { .. }
        | ActionOutcome::Refused { .. }
        | ActionOutcome::Unknown { .. } => None,
    };
    ResultView { doing, key: &it.key.0, outcome: it.outcome.name(), says: it.outcome.says(), errno }
}

#[derive(Serialize)]
struct VerificationView<'a> {
    outcome: Outcome,
    after_ms: u64,
    says: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    successor: Option<Target<'a>>,
}

#[derive(Serialize)]
struct ClosedView<'a> {
    outcome: Outcome,
    says: &'a str,
    to_detect_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_act_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_recover_ns: Option<u64>,
}

fn closed(it: &Closed) -> ClosedView<'_> {
    let nanos = |span: core::time::Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    ClosedView {
        outcome: it.outcome,
        says: &it.says,
        to_detect_ns: nanos(it.to_detect),
        to_act_ns: it.to_act.map(nanos),
        to_recover_ns: it.to_recover.map(nanos),
    }
}

/// RFC 3339 with nanoseconds, in UTC.
fn wall(at: BootTime, stamp: &Stamp) -> String {
    format!("{:.9}", stamp.moment.wall_at(at))
}
