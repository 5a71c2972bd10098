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
        lease::{Surveyed, Undone},
        policy::{Mode, PolicySet},
        report::{Report, ReportFact},
        time::{BootTime, Human},
    },
    identity::process::ProcessId,
    signal::{Fact, Signal},
    text,
};

/// Reads a trace; blank lines and those that begin with `#` are skipped. A recording that was
/// cut off may end in the middle of a line: that line is left out.
///
/// # Errors
/// The source cannot be read, or a line is no signal: it is named by its number.
pub fn read(mut source: impl BufRead) -> anyhow::Result<Vec<Signal>> {
    let mut signals = Vec::new();
    let mut line = Vec::new();
    for number in 1_u32.. {
        line.clear();
        if source.read_until(b'\n', &mut line).context("read the trace")? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() || line.starts_with(b"#") {
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(signal) => signals.push(signal),
            Err(error) if error.is_eof() && !line.ends_with(b"\n") => break,
            Err(error) => return Err(error).with_context(|| format!("line {number}: not a signal")),
        }
    }
    Ok(signals)
}

/// `# 412 signals in 31.0s; diagnoses: 1 crash, 1 down; acts: 1; incidents: 1 healed`
pub fn summary(signals: &[Signal], reports: &[Report]) -> String {
    let span = signals
        .first()
        .zip(signals.last())
        .map_or(core::time::Duration::ZERO, |(first, last)| last.at.since(first.at));
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut acts = 0;
    for report in reports {
        match &report.fact {
            ReportFact::Diagnosis(found) => *classes.entry(found.class.name()).or_default() += 1,
            ReportFact::Result(_) => acts += 1,
            ReportFact::Closed(closed) => *outcomes.entry(closed.outcome.name()).or_default() += 1,
            ReportFact::Plan(_)
            | ReportFact::Gate(_)
            | ReportFact::Intent(_)
            | ReportFact::Verification(_)
            | ReportFact::Score { .. }
            | ReportFact::Notify { .. }
            | ReportFact::Undone(_)
            | ReportFact::Agent { .. } => {}
        }
    }
    format!(
        "# {} signals in {}; diagnoses: {}; acts: {acts}; incidents: {}",
        signals.len(),
        Human(span),
        counted(&classes),
        counted(&outcomes)
    )
}

fn counted(counts: &BTreeMap<&str, usize>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let said: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    said.join(", ")
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
            // A recording has no machine: nothing is there to be turned, and nothing to be turned back.
            Command::Survey(act) => {
                self.engine.surveyed(now, Surveyed { key: act.key, turns: Ok(Vec::new()) });
            }
            Command::Undo(undo) => {
                let says = "nothing was turned".to_owned();
                self.engine.undone(now, &Undone { key: undo.key, says, complete: true });
            }
            Command::Ask(question) => {
                self.asked.insert(question.about, question.id);
            }
            // What they were is in the recording.
            Command::LookAtPeers | Command::Release { .. } => {}
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
        ReportFact::Score(score) => format!("score {}: {}", score.outcome.name(), score.says),
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
        ReportFact::Undone(undone) => {
            format!("undone {} because {}: {}", undone.action.name(), undone.why, undone.says)
        }
        ReportFact::Agent { event, says } => format!("agent {event}: {says}"),
    };
    format!("{:.3}s {incident} {workload} {what}", at.as_secs_f64())
}
