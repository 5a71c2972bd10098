//! `healer why TARGET`: the causal chain, from the kernel's records to the verified end.

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{
    cold, incidents,
    output::{Mood, Paint, emit, emit_json},
    story,
};
use crate::{
    control::{
        Request,
        client::{AskError, ask},
    },
    report::{
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
}

pub fn run(args: &Args, state_dir: &Path) -> anyhow::Result<ExitCode> {
    let known = ask_or_read(state_dir, &args.target)?;
    let found = !known.incidents.is_empty() || known.workload.is_some();
    if args.json {
        emit_json(&known)?;
    } else if found {
        let evidence = known.incidents.first().map(|latest| story::evidence(state_dir, latest));
        emit(&(render(&known, Paint::of_stdout()) + &evidence.unwrap_or_default()))?;
    }
    anyhow::ensure!(
        found || args.json,
        "nothing is known about {} in {}: no workload, no pid and no incident of that name \
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
            Ok(Known { incidents, workload: None })
        }
        Err(error) => Err(error.into()),
    }
}

fn render(known: &Known, paint: Paint) -> String {
    let mut out = String::new();
    if let Some(workload) = &known.workload {
        out.push_str(&workload_line(workload, paint));
    }
    let Some((latest, earlier)) = known.incidents.split_first() else {
        out.push_str("No incident of it is known.\n");
        return out;
    };
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
    out
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
