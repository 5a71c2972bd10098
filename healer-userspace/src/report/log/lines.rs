//! Which words a fact gets. Gates that pass are gathered into one line before the act.

use core::time::Duration;
use std::collections::BTreeMap;

use super::quiet::Quiet;
use crate::{
    engine::{
        command::{ActionOutcome, ActionResult, IncidentId, Intent},
        policy::{ActionName, Mode},
        report::{
            Closed, GateReport, Outcome, Plan, Report, ReportFact, Score, Undoing, Verdict, Verification,
        },
        time::Human,
    },
    report::{
        incidents::{ended_well, short_name},
        record::ActName,
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Warn,
    Info,
    Debug,
}

/// Colour of a line on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Plain,
    Good,
    Bad,
    Held,
}

impl Mood {
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Held => "held",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub level: Level,
    /// `i42`; empty for the agent itself.
    pub incident: String,
    pub workload: String,
    pub record: &'static str,
    pub class: &'static str,
    /// First word of an indented line (`plan`, `gates`, `act`); empty for the headline.
    pub part: &'static str,
    pub text: String,
    pub mood: Mood,
}

/// Remembers which gates passed and which one holds, per open incident.
#[derive(Debug, Default)]
pub struct Lines {
    gates: BTreeMap<IncidentId, Gates>,
    quiet: Quiet,
}

#[derive(Debug, Default)]
struct Gates {
    passed: Vec<String>,
    holds: Option<String>,
}

/// What a fact becomes: level, colour, first word, text.
type Words = (Level, Mood, &'static str, String);

impl Lines {
    /// The lines for a fact, oldest first; `act` names the act that a result belongs to.
    pub fn of(&mut self, report: &Report, act: Option<&ActName>) -> Vec<Line> {
        let workload = report.workload.as_ref().map_or("", |key| key.0.as_str());
        let line = |(level, mood, part, text): Words| Line {
            level,
            incident: report.incident.map(|id| id.to_string()).unwrap_or_default(),
            workload: workload.to_owned(),
            record: record_name(&report.fact),
            class: class_name(&report.fact),
            part,
            text,
            mood,
        };
        let name = short_name(workload);
        let words = match &report.fact {
            ReportFact::Diagnosis(diagnosis) => {
                let heard = self.quiet.hear(report.at, workload, diagnosis.class, &diagnosis.sentence);
                let level = if heard.is_some() { Level::Warn } else { Level::Debug };
                Some((level, Mood::Bad, "", heard.unwrap_or_else(|| diagnosis.sentence.clone())))
            }
            ReportFact::Plan(plan) => Some(plan_words(plan)),
            ReportFact::Gate(gate) => self.gate_words(report.incident, gate),
            ReportFact::Intent(intent) => Some(intent_words(intent, name)),
            ReportFact::Result(result) => Some(result_words(result, act, name)),
            ReportFact::Verification(verification) => Some(verification_words(verification)),
            ReportFact::Score(score) => {
                let Score { policy, rule, outcome, says, .. } = score;
                let after = Human(Duration::from_millis(score.after_ms));
                let text = format!("{} after {after} (rule {policy}/{rule}): {says}", outcome.name());
                Some((Level::Info, Mood::Plain, "score", text))
            }
            ReportFact::Notify { sentence, reason, .. } => Some(notify_words(sentence, reason)),
            ReportFact::Closed(closed) => Some(closed_words(closed)),
            ReportFact::Undone(undone) => Some(undone_words(undone)),
            ReportFact::Agent { event, says } => Some(agent_words(event, says)),
        };
        let passed =
            self.passed_before(report).map(|words| Line { record: "gate", class: "", ..line(words) });
        passed.into_iter().chain(words.map(line)).collect()
    }

    /// A pass waits for its fellows; a hold is said once, a refusal always.
    fn gate_words(&mut self, incident: Option<IncidentId>, gate: &GateReport) -> Option<Words> {
        let gates = self.gates.entry(incident?).or_default();
        let text = |verb: &str| format!("{} {verb}: {}", gate.gate, gate.reason);
        match gate.verdict {
            Verdict::Pass => {
                gates.passed.push(gate.gate.clone());
                None
            }
            Verdict::Hold => {
                gates.passed.clear();
                let again = gates.holds.as_ref() == Some(&gate.gate);
                gates.holds = Some(gate.gate.clone());
                let level = if again { Level::Debug } else { Level::Info };
                Some((level, Mood::Held, "gate", text("holds")))
            }
            Verdict::Refuse => {
                gates.passed.clear();
                Some((Level::Warn, Mood::Held, "gate", text("refuses")))
            }
        }
    }

    fn passed_before(&mut self, report: &Report) -> Option<Words> {
        let incident = report.incident?;
        if matches!(report.fact, ReportFact::Gate(_)) {
            return None;
        }
        let gates = if matches!(report.fact, ReportFact::Closed(_)) {
            self.gates.remove(&incident)
        } else {
            self.gates.get_mut(&incident).map(core::mem::take)
        };
        let passed = gates.map(|gates| gates.passed).filter(|passed| !passed.is_empty())?;
        let text = format!("{} passed: {}", passed.len(), passed.join(", "));
        Some((Level::Info, Mood::Plain, "gates", text))
    }
}

/// A plan that only notifies is said by the diagnosis itself.
fn plan_words(plan: &Plan) -> Words {
    let acts = plan
        .ladder
        .iter()
        .any(|rung| ![ActionName::Notify.name(), ActionName::Capture.name()].contains(&rung.as_str()));
    let level = if acts { Level::Info } else { Level::Debug };
    (level, Mood::Plain, "plan", plan.says.clone())
}

/// What a rule's own `notify` says stands in the line above already; other reasons are news.
fn notify_words(sentence: &str, reason: &str) -> Words {
    let level = if reason.starts_with("rule ") { Level::Debug } else { Level::Warn };
    (level, Mood::Held, "notify", format!("{sentence} ({reason})"))
}

/// A dry run is told once, by its result.
fn intent_words(intent: &Intent, name: &str) -> Words {
    let action = intent.act.rung.action.name();
    let text = format!("{action} {name} (rung {})", intent.rung_index + 1);
    match intent.act.mode {
        Mode::Enforce => (Level::Info, Mood::Plain, "act", text),
        Mode::Observe | Mode::Shadow => (Level::Debug, Mood::Plain, "act", text),
    }
}

fn result_words(result: &ActionResult, act: Option<&ActName>, name: &str) -> Words {
    let action = act.map_or("act on", |act| act.action);
    let says = result.outcome.says();
    let because = if says.is_empty() { String::new() } else { format!(": {says}") };
    let (level, mood, text) = match &result.outcome {
        ActionOutcome::Done { .. } => (Level::Info, Mood::Plain, format!("{action} {name} is done{because}")),
        ActionOutcome::WouldDo { says } => {
            let mode = act.map_or(Mode::Shadow.name(), |act| act.mode);
            let what = if says.is_empty() { format!("would {action} {name}") } else { says.clone() };
            (Level::Info, Mood::Plain, format!("{what} ({mode})"))
        }
        ActionOutcome::Refused { .. } => {
            (Level::Warn, Mood::Held, format!("did not {action} {name}, nothing was touched{because}"))
        }
        ActionOutcome::Failed { errno, .. } => {
            let errno = errno.map(|errno| format!(" (errno {errno})")).unwrap_or_default();
            (Level::Warn, Mood::Bad, format!("could not {action} {name}{because}{errno}"))
        }
        ActionOutcome::Unknown { .. } => {
            let text = format!("{action} {name}: nobody knows whether it happened{because}");
            (Level::Warn, Mood::Bad, text)
        }
    };
    (level, mood, "act", text)
}

fn verification_words(verification: &Verification) -> Words {
    let after = Human(Duration::from_millis(verification.after_ms));
    let text = format!("{} after {after}: {}", outcome_phrase(verification.outcome), verification.says);
    let mood = if ended_well(verification.outcome.name()) { Mood::Good } else { Mood::Bad };
    (Level::Info, mood, "check", text)
}

fn closed_words(closed: &Closed) -> Words {
    let mut text = outcome_phrase(closed.outcome).to_owned();
    if !closed.says.is_empty() {
        text.push_str(&format!(": {}", closed.says));
    }
    text.push_str(&format!("; detected in {}", Human(closed.to_detect)));
    if let Some(took) = closed.to_act {
        text.push_str(&format!(", acted in {}", Human(took)));
    }
    if let Some(took) = closed.to_recover {
        text.push_str(&format!(", well in {}", Human(took)));
    }
    let mood = if ended_well(closed.outcome.name()) { Mood::Good } else { Mood::Plain };
    let level = if closed.outcome == Outcome::Notified { Level::Debug } else { Level::Info };
    (level, mood, "closed", text)
}

fn agent_words(event: &str, says: &str) -> Words {
    let text = if says.is_empty() { event.to_owned() } else { format!("{event}: {says}") };
    (Level::Info, Mood::Plain, "", text)
}

/// An outcome as one says it.
fn undone_words(undone: &Undoing) -> Words {
    let text = format!("{} because {}: {}", undone.action.name(), undone.why, undone.says);
    if undone.complete {
        (Level::Info, Mood::Plain, "undo", text)
    } else {
        (Level::Warn, Mood::Held, "undo", format!("{text}; it is tried again"))
    }
}

fn outcome_phrase(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Healed => "healed",
        Outcome::Unchanged => "not healed",
        Outcome::Worse => "worse than before",
        Outcome::RecoveredAlone => "recovered alone",
        Outcome::StayedSick => "stayed sick",
        Outcome::Died => "died",
        Outcome::Unknown => "outcome unknown",
        Outcome::Refused => "refused",
        Outcome::Notified => "notified",
    }
}

pub(crate) fn record_name(fact: &ReportFact) -> &'static str {
    match fact {
        ReportFact::Diagnosis(_) => "diagnosis",
        ReportFact::Plan(_) => "plan",
        ReportFact::Gate(_) => "gate",
        ReportFact::Intent(_) => "intent",
        ReportFact::Result(_) => "result",
        ReportFact::Verification(_) => "verification",
        ReportFact::Score { .. } => "score",
        ReportFact::Notify { .. } => "notify",
        ReportFact::Closed(_) => "closed",
        ReportFact::Undone(_) => "undone",
        ReportFact::Agent { .. } => "agent",
    }
}

fn class_name(fact: &ReportFact) -> &'static str {
    match fact {
        ReportFact::Diagnosis(diagnosis) => diagnosis.class.name(),
        ReportFact::Intent(intent) => intent.act.class.name(),
        ReportFact::Notify { class, .. } => class.name(),
        ReportFact::Plan(_)
        | ReportFact::Gate(_)
        | ReportFact::Result(_)
        | ReportFact::Verification(_)
        | ReportFact::Score { .. }
        | ReportFact::Closed(_)
        | ReportFact::Undone(_)
        | ReportFact::Agent { .. } => "",
    }
}
