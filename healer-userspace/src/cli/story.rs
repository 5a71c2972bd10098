//! An incident as a person reads it: what the kernel said, what was concluded, what was done, each with its time.

use core::time::Duration;
use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use super::output::{Cell, Mood, Paint, Table};
use crate::{
    engine::time::Human,
    report::{
        incidents::{Incident, ended_well},
        record::{Record, number, text},
    },
    store::{captures, dir::StateDir},
};

/// What was taken before anything was done; empty if nothing was, or if the state directory is not ours to read.
pub fn evidence(state_dir: &Path, incident: &Incident) -> String {
    let Ok(dir) = StateDir::open(state_dir) else {
        return String::new();
    };
    match captures::text(&dir, &incident.id) {
        Ok(Some(text)) => format!("\nEvidence, taken before any act:\n{text}"),
        Ok(None) => String::new(),
        Err(error) => format!("\nIts evidence cannot be read: {error}\n"),
    }
}

/// One line of the chain.
pub struct Row<'a> {
    /// RFC 3339.
    pub time: &'a str,
    pub boot_ns: u64,
    /// Who speaks: `kernel`, `diagnosis`, `gate`, `act` and so on.
    pub part: &'a str,
    pub mood: Mood,
    pub says: String,
}

/// One row per kernel record, conclusion, verdict and act, in their order.
pub fn rows(incident: &Incident) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let mut told = BTreeSet::new();
    for record in &incident.timeline {
        if text(record, "record") == "diagnosis" {
            rows.extend(evidence_not_told(record, &mut told).into_iter().map(kernel_row));
        }
        let (part, (mood, says)) = words(record);
        rows.push(Row { time: text(record, "time"), boot_ns: number(record, "boot_ns"), part, mood, says });
    }
    rows
}

fn kernel_row(evidence: &Record) -> Row<'_> {
    let says = format!("{}: {}", text(evidence, "signal"), text(evidence, "says"));
    let (time, boot_ns) = (text(evidence, "time"), number(evidence, "boot_ns"));
    Row { time, boot_ns, part: "kernel", mood: Mood::Plain, says }
}

/// The chain for a terminal; times count from the fault.
pub fn chain(incident: &Incident, paint: Paint) -> String {
    let mut table = Table::indented("  ");
    for row in rows(incident) {
        table.row([
            Cell::new(Mood::Faint, clock(row.time)),
            Cell::from(since(incident.fault_boot_ns, row.boot_ns)),
            Cell::new(Mood::Faint, row.part),
            Cell::new(row.mood, &row.says),
        ]);
    }
    table.render(paint) + &left_out(incident)
}

/// What the timeline had no room for, in words; empty if it is whole.
pub fn left_out(incident: &Incident) -> String {
    match incident.omitted {
        0 => String::new(),
        omitted => format!("  … and {omitted} more records in audit.jsonl\n"),
    }
}

/// The time of day of an RFC 3339 time, to the millisecond.
pub fn clock(time: &str) -> &str {
    time.get(11..23).unwrap_or(time)
}

/// The day and the second of an RFC 3339 time.
pub fn second(time: &str) -> String {
    time.get(..19).unwrap_or_default().replace('T', " ")
}

/// `+12ms`; a signal that kills is generated before the fault, which is the end: `-1.0ms`.
pub fn since(fault: u64, at: u64) -> String {
    let sign = if at < fault { '-' } else { '+' };
    format!("{sign}{}", Human(Duration::from_nanos(at.abs_diff(fault))))
}

/// `down` and `crash` of one death rest on the same records: each is told once.
fn evidence_not_told<'a>(record: &'a Record, told: &mut BTreeSet<(&'a str, u64)>) -> Vec<&'a Record> {
    let mut new: Vec<_> = record
        .get("evidence")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .filter(|evidence| told.insert((text(evidence, "signal"), number(evidence, "boot_ns"))))
        .collect();
    new.sort_by_key(|evidence| number(evidence, "boot_ns"));
    new
}

/// First word and text of a record.
fn words(record: &Record) -> (&str, (Mood, String)) {
    let says = text(record, "says");
    match text(record, "record") {
        "diagnosis" => ("diagnosis", (Mood::Bad, diagnosis_words(record))),
        "plan" => ("rule", (Mood::Plain, says.into())),
        "gate" => ("gate", gate_words(record)),
        "intent" => ("intent", (Mood::Plain, intent_words(record))),
        "result" => ("act", result_words(record)),
        "verification" | "score" => {
            let after = Human(Duration::from_millis(number(record, "after_ms")));
            let outcome = text(record, "outcome");
            ("check", (outcome_mood(outcome), format!("{} after {after}: {says}", spaced(outcome))))
        }
        "notify" => {
            let said = format!("{} ({})", text(record, "sentence"), text(record, "reason"));
            ("notify", (Mood::Held, said))
        }
        "closed" => {
            let outcome = text(record, "outcome");
            ("closed", (outcome_mood(outcome), join(&spaced(outcome), says)))
        }
        other => (other, (Mood::Plain, says.into())),
    }
}

fn diagnosis_words(record: &Record) -> String {
    let lost = match number(record, "lost") {
        0 => String::new(),
        lost => format!(" ({lost} records were lost meanwhile)"),
    };
    let (class, certainty) = (text(record, "class"), text(record, "certainty"));
    format!("{class}, {certainty}: {}{lost}", text(record, "sentence"))
}

fn gate_words(record: &Record) -> (Mood, String) {
    let verdict = text(record, "verdict");
    let mood = if verdict == "pass" { Mood::Plain } else { Mood::Held };
    let asked = match number(record, "repeats") {
        0 => String::new(),
        repeats => format!(" (asked {} times)", repeats + 1),
    };
    let (gate, reason) = (text(record, "gate"), text(record, "reason"));
    (mood, format!("{gate} {}: {reason}{asked}", verdict_verb(verdict)))
}

fn verdict_verb(verdict: &str) -> &str {
    match verdict {
        "pass" => "passes",
        "hold" => "holds",
        "refuse" => "refuses",
        other => other,
    }
}

fn intent_words(record: &Record) -> String {
    let rung = number(record, "rung") + 1;
    let (action, mode) = (text(record, "action"), text(record, "mode"));
    format!("{action}, rung {rung}, {mode} (key {})", text(record, "key"))
}

fn result_words(record: &Record) -> (Mood, String) {
    let outcome = text(record, "outcome");
    let mood = match outcome {
        "done" => Mood::Good,
        "would_do" => Mood::Plain,
        "refused" => Mood::Held,
        _ => Mood::Bad,
    };
    let (action, says) = (text(record, "action"), text(record, "says"));
    if outcome == "would_do" && says.starts_with("would ") {
        return (mood, says.into());
    }
    let said = if outcome == "would_do" { "would be done".to_owned() } else { spaced(outcome) };
    let errno = match number(record, "errno") {
        0 => String::new(),
        errno => format!(" (errno {errno})"),
    };
    (mood, join(format!("{action} {said}").trim(), says) + &errno)
}

fn join(head: &str, says: &str) -> String {
    if says.is_empty() { head.to_owned() } else { format!("{head}: {says}") }
}

/// `recovered alone` for `recovered_alone`.
pub fn spaced(word: &str) -> String {
    word.replace('_', " ")
}

pub fn outcome_mood(outcome: &str) -> Mood {
    match outcome {
        well if ended_well(well) => Mood::Good,
        "unchanged" | "worse" | "died" | "stayed_sick" => Mood::Bad,
        "unknown" | "refused" | "interrupted" => Mood::Held,
        _ => Mood::Plain,
    }
}

/// How an incident stands, in a word or two.
pub fn standing(incident: &Incident) -> (Mood, String) {
    match &incident.outcome {
        Some(outcome) => (outcome_mood(outcome), spaced(outcome)),
        None => (Mood::Bad, "open".into()),
    }
}

/// `detected in 100µs, acted in 12ms, well in 10.8s`
pub fn times(incident: &Incident) -> String {
    let parts = [
        ("detected", incident.to_detect_ns),
        ("acted", incident.to_act_ns),
        ("well", incident.to_recover_ns),
    ];
    let said: Vec<_> = parts
        .iter()
        .filter_map(|(word, nanos)| Some((word, Duration::from_nanos((*nanos)?))))
        .map(|(word, took)| format!("{word} in {}", Human(took)))
        .collect();
    said.join(", ")
}
