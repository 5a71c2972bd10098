//! `healer why TARGET`: the causal chain, from the kernel's records to the verified end.

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{
    cold, incidents,
    output::{Cell, Mood, Paint, Table, emit, emit_json},
    story,
};
use crate::{
    control::{
        Request,
        client::{AskError, ask},
    },
    report::{
        deaths::End,
        incidents::{Incident, short_name},
        view::Workload,
    },
    text::printable,
};

#[derive(clap::Args)]
pub struct Args {
    /// A pid, a workload's name or key, or an incident (i42)
    target: String,
    /// For scripts
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    /// Newest first, with timelines.
    incidents: Vec<Incident>,
    #[serde(default)]
    workload: Option<Workload>,
    /// A process that runs, and the policy that owns it.
    #[serde(default)]
    living: Option<String>,
    /// Newest first; an agent that does not run has forgotten them.
    #[serde(default)]
    ends: Vec<End>,
}

impl Known {
    fn is_something(&self) -> bool {
        !self.incidents.is_empty()
            || self.workload.is_some()
            || self.living.is_some()
            || !self.ends.is_empty()
    }

    /// Ends of which no incident tells, newest first.
    fn untold(&self) -> Vec<&End> {
        let is_told = |end: &End| {
            let of_its_life = end.start_boot_ns..=end.boot_ns + FOUND_WITHIN_NS;
            let tells = |one: &Incident| one.pid == end.pid && of_its_life.contains(&one.fault_boot_ns);
            self.incidents.iter().any(tells)
        };
        self.ends.iter().filter(|end| !is_told(end)).collect()
    }
}

/// An end may be found out later than it was.
const FOUND_WITHIN_NS: u64 = 1_000_000_000;

pub fn run(args: &Args, state_dir: &Path) -> anyhow::Result<ExitCode> {
    let known = ask_or_read(state_dir, &args.target)?;
    let found = known.is_something();
    if args.json {
        emit_json(&known)?;
    } else if found {
        let evidence = known.incidents.first().map(|latest| story::evidence(state_dir, latest));
        emit(&(render(&known, Paint::of_stdout()) + &evidence.unwrap_or_default()))?;
    }
    anyhow::ensure!(
        found || args.json,
        "nothing is known about {} in {}: no workload, no pid, no end and no incident of that name \
         (`healer status` and `healer incidents` list them)",
        printable(&args.target),
        state_dir.display()
    );
    Ok(if found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ask_or_read(state_dir: &Path, target: &str) -> anyhow::Result<Known> {
    match ask(state_dir, &Request::Why { target: target.into() }) {
        Ok(answer) => {
            let told: Known = serde_json::from_value(answer)?;
            let incidents = cold::with_older(state_dir, told.incidents, |book| book.about(target));
            Ok(Known { incidents, ..told })
        }
        Err(error @ AskError::NoAgent { .. }) => {
            let incidents = cold::book(state_dir).context(error)?.about(target);
            Ok(Known { incidents, ..Known::default() })
        }
        Err(error) => Err(error.into()),
    }
}

fn render(known: &Known, paint: Paint) -> String {
    let mut out = String::new();
    if let Some(workload) = &known.workload {
        out.push_str(&workload_line(workload, paint));
    } else if let Some(living) = &known.living {
        out.push_str(&format!("{}.\n", printable(living)));
    }
    let untold = known.untold();
    let Some((latest, earlier)) = known.incidents.split_first() else {
        let (last, earlier) =
            untold.split_first().map_or((None, &[][..]), |(last, rest)| (Some(*last), rest));
        out.push_str(&last.map_or_else(String::new, |end| end_chain(end, paint)));
        out.push_str("No incident of it is known.\n");
        return out + &ends_list("Earlier ends", earlier, paint);
    };
    // Of its last life nothing may be wrong: somebody has stopped it.
    let is_newer = |end: &&End| latest.fault_boot_ns < end.boot_ns && !latest.open;
    let (newer, older) = match untold.split_first() {
        Some((last, rest)) if is_newer(last) => (Some(*last), rest),
        Some(_) | None => (None, &untold[..]),
    };
    if let Some(end) = newer {
        out.push_str(&format!("{}\n", end_chain(end, paint)));
    }
    let (mood, standing) = story::standing(latest);
    let sentence = printable(&latest.sentence);
    out.push_str(&format!("{}\n", paint.paint(Mood::Strong, &sentence)));
    out.push_str(&format!("Incident {}: {}", latest.id, paint.paint(mood, &standing)));
    let times = story::times(latest);
    if !times.is_empty() {
        out.push_str(&format!("; {times}"));
    }
    out.push_str(".\n\n");
    out.push_str(&story::chain(latest, paint));
    if !earlier.is_empty() {
        let shown = &earlier[..earlier.len().min(EARLIER_SHOWN)];
        out.push_str(&format!("\nEarlier ({}):\n", earlier.len()));
        out.push_str(&incidents::list(shown, paint));
    }
    out + &ends_list("Ends that were no incident", older, paint)
}

/// What the kernel told, and the end.
fn end_chain(end: &End, paint: Paint) -> String {
    let mut table = Table::indented("  ");
    let last = ("process_exit", end.boot_ns, &end.time, &end.sentence);
    let pieces =
        end.evidence.iter().map(|piece| (piece.signal.as_str(), piece.boot_ns, &piece.time, &piece.says));
    for (signal, boot_ns, time, says) in pieces.chain([last]) {
        table.row([
            Cell::new(Mood::Faint, story::clock(time)),
            Cell::from(story::since(end.boot_ns, boot_ns)),
            Cell::new(Mood::Faint, "kernel"),
            Cell::new(Mood::Plain, &format!("{signal}: {says}")),
        ]);
    }
    format!("{}\n\n{}", paint.paint(Mood::Strong, &printable(&end.sentence)), table.render(paint))
}

fn ends_list(title: &str, ends: &[&End], paint: Paint) -> String {
    if ends.is_empty() {
        return String::new();
    }
    let mut table = Table::indented("  ");
    for end in ends.iter().take(EARLIER_SHOWN) {
        table.row([Cell::new(Mood::Faint, &story::second(&end.time)), Cell::new(Mood::Plain, &end.sentence)]);
    }
    format!("\n{title} ({}):\n{}", ends.len(), table.render(paint))
}

const EARLIER_SHOWN: usize = 10;

fn workload_line(workload: &Workload, paint: Paint) -> String {
    let name = printable(short_name(&workload.key));
    let state = if workload.running {
        format!("{} (pid {})", paint.paint(Mood::Good, "running"), workload.pid)
    } else {
        paint.paint(Mood::Bad, "down")
    };
    format!("{name} is {state}.\n")
}

#[cfg(test)]
#[path = "why_tests.rs"]
mod tests;
