//! A recorded trace through the whole engine, on the trace's own clock. Deterministic: no /proc, no kernel, no hands.
//!
//! A trace is JSONL: one [`Signal`] a line, as `healer record` writes it. Acts are answered as a dry run would,
//! at the moment they are asked for.

use std::{collections::BTreeMap, io::BufRead};

use anyhow::Context as _;

use crate::{
    engine::{
        Engine,
        command::{ActionOutcome, ActionResult, Command, JournalEntry, Recovered},
        policy::{Mode, PolicySet},
        report::{Report, ReportFact},
        time::{BootTime, Human},
    },
    identity::process::ProcessId,
    signal::{Fact, Signal},
    text,
};

/// Reads a trace. Errors name the line.
pub fn read(source: impl BufRead) -> anyhow::Result<Vec<Signal>> {
    let mut signals = Vec::new();
    for (index, line) in source.lines().enumerate() {
        let line = line.context("read the trace")?;
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let signal =
            serde_json::from_str(&line).with_context(|| format!("line {}: not a signal", index + 1))?;
        signals.push(signal);
    }
    Ok(signals)
}

/// Runs `signals` through a new engine, and then on until nothing is due (an hour at most).
pub fn replay(signals: &[Signal], policies: PolicySet) -> Vec<Report> {
    let start = signals.first().map_or(BootTime(0), |signal| signal.at);
    let mut run = Run {
        engine: Engine::new(start, policies, Recovered::default()),
        asked: BTreeMap::new(),
        reports: Vec::new(),
    };
    for signal in signals {
        run.advance_to(signal.at);
        run.engine.observe(signal.at, &run.with_todays_question(signal));
        run.drain(signal.at);
    }
    let end = signals.last().map_or(start, |signal| signal.at);
    run.advance_to(end + core::time::Duration::from_secs(3600));
    run.reports
}

struct Run {
    engine: Engine,
    /// Questions have other numbers in every run: an answer is for the last one about that process.
    asked: BTreeMap<ProcessId, u64>,
    reports: Vec<Report>,
}

impl Run {
    fn advance_to(&mut self, until: BootTime) {
        while let Some(due) = self.engine.next_deadline().filter(|due| *due <= until) {
            self.engine.advance(due);
            self.drain(due);
        }
    }

    fn drain(&mut self, now: BootTime) {
        loop {
            let mut worked = false;
            while let Some(entry) = self.engine.poll_journal() {
                worked = true;
                if let JournalEntry::Intent(intent) = entry {
                    self.engine.committed(now, &intent.act.key);
                }
            }
            while let Some(command) = self.engine.poll_command() {
                worked = true;
                self.obey(now, command);
            }
            if !worked {
                break;
            }
        }
        while self.engine.poll_tracking().is_some() {}
        while let Some(report) = self.engine.poll_report() {
            self.reports.push(report);
        }
    }

    fn obey(&mut self, now: BootTime, command: Command) {
        match command {
            Command::Act(act) => {
                let says = format!("would {} {}", act.rung.action.name(), act.workload);
                let outcome = match act.mode {
                    Mode::Enforce => ActionOutcome::Done { says },
                    Mode::Observe | Mode::Shadow => ActionOutcome::WouldDo { says },
                };
                self.engine.action_finished(now, ActionResult { key: act.key, outcome });
            }
            Command::Ask(question) => {
                self.asked.insert(question.about, question.id);
            }
            Command::Release { .. } => {}
        }
    }

    fn with_todays_question(&self, signal: &Signal) -> Signal {
        let mut signal = signal.clone();
        if let (Fact::Answered { question, .. }, Some(process)) = (&mut signal.fact, &signal.process)
            && let Some(id) = self.asked.get(&process.id())
        {
            *question = *id;
        }
        signal
    }
}

/// One line per report, times from the first signal: what the replay tests compare.
pub fn line(report: &Report, start: BootTime) -> String {
    let at = report.at.since(start);
    let incident = report.incident.map(|id| id.to_string()).unwrap_or_default();
    let workload = report.workload.as_ref().map(|key| text::printable(&key.0)).unwrap_or_default();
    let what = match &report.fact {
        ReportFact::Diagnosis(found) => {
            format!("diagnosis {} {}: {}", found.class, found.certainty.name(), found.sentence)
        }
        ReportFact::Plan(plan) => format!("plan {}", plan.says),
        ReportFact::Gate(gate) => {
            let verdict = match gate.verdict {
                crate::engine::report::Verdict::Pass => "pass",
                crate::engine::report::Verdict::Hold => "hold",
                crate::engine::report::Verdict::Refuse => "refuse",
            };
            format!("gate {} {verdict}: {}", gate.gate, gate.reason)
        }
        ReportFact::Intent(intent) => format!("intent {} of {}", intent.act.rung.action.name(), intent.rule),
        ReportFact::Result(result) => format!("result {}: {}", result.outcome.name(), result.outcome.says()),
        ReportFact::Verification(verification) => {
            format!("verification {}: {}", verification.outcome.name(), verification.says)
        }
        ReportFact::Score { outcome, says, .. } => format!("score {outcome}: {says}"),
        ReportFact::Notify { sentence, reason, .. } => format!("notify ({reason}): {sentence}"),
        ReportFact::Closed(closed) => {
            let times =
                [closed.to_act, closed.to_recover].map(|time| time.map(|time| Human(time).to_string()));
            format!(
                "closed {}: {} (act {:?}, recover {:?})",
                closed.outcome.name(),
                closed.says,
                times[0],
                times[1]
            )
        }
        ReportFact::Agent { event, says } => format!("agent {event}: {says}"),
    };
    format!("{:.3}s {incident} {workload} {what}", at.as_secs_f64())
}
