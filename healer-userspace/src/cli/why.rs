//! `healer why TARGET`: the causal chain, from the kernel's records to the verified end.

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{
    cold, incidents,
    output::{Cell, Mood, Paint, Table, emit, emit_json},
    pid_owner::{self, Owner},
    story,
};
use crate::{
    clock,
    control::{
        Request,
        client::{AskError, ask},
    },
    report::{
        deaths::End,
        incidents::{Incident, is_named, short_name},
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
    /// Of those who had the pid before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    incidents_of_others: Vec<Incident>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ends_of_others: Vec<End>,
}

impl Known {
    fn is_something(&self) -> bool {
        !self.incidents.is_empty()
            || self.workload.is_some()
            || self.living.is_some()
            || !self.ends.is_empty()
            || self.has_others()
    }

    fn has_others(&self) -> bool {
        !self.incidents_of_others.is_empty() || !self.ends_of_others.is_empty()
    }

    /// A number may be a name.
    fn is_of_a_name(&self, target: &str) -> bool {
        let incidents = self.incidents.iter().map(|incident| &incident.workload);
        let mut workloads = incidents.chain(self.ends.iter().map(|end| &end.workload));
        workloads.any(|workload| is_named(workload, target)) || self.ends.iter().any(|end| end.comm == target)
    }

    /// Sets apart what is told of others than who has the pid now, or had it last.
    fn of_one_owner(mut self, pid: u32, living: Option<(Owner, String)>, boot_id: Option<&str>) -> Self {
        let (living, says) = living.unzip();
        let lives = living.is_some();
        let owner = living.or_else(|| pid_owner::last(&self.incidents, &self.ends, pid, boot_id));
        let Some(owner) = owner else {
            return self;
        };
        let is_its = |incident: &mut Incident| owner.is_in(incident, pid);
        self.incidents_of_others = self.incidents.extract_if(.., |one| !is_its(one)).collect();
        self.ends_of_others = self.ends.extract_if(.., |end| !owner.ended_so(end, boot_id)).collect();
        if self.has_others() {
            // Whoever has the pid of a workload that is down is not it.
            self.workload = self.workload.filter(|workload| workload.running || !lives);
            self.living = self.living.or(says);
        }
        self
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
    let known = match args.target.parse() {
        Ok(pid) if !known.is_of_a_name(&args.target) => {
            let boot_id = clock::boot_id().ok();
            let living = pid_owner::living(Path::new("/proc"), pid, boot_id.as_deref());
            known.of_one_owner(pid, living, boot_id.as_deref())
        }
        Ok(_) | Err(_) => known,
    };
    let found = known.is_something();
    if args.json {
        emit_json(&known)?;
    } else if found {
        let evidence = known.incidents.first().map(|latest| story::evidence(state_dir, latest));
        let paint = Paint::of_stdout();
        emit(&(render(&known, paint) + &evidence.unwrap_or_default() + &others(&known, paint)))?;
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

/// The times tell them apart.
fn others(known: &Known, paint: Paint) -> String {
    let incidents = &known.incidents_of_others;
    let mut out = String::new();
    if !incidents.is_empty() {
        let shown = &incidents[..incidents.len().min(EARLIER_SHOWN)];
        let many = incidents.len();
        out.push_str(&format!("\nIncidents of others who had this pid before ({many}):\n"));
        out.push_str(&incidents::list(shown, paint));
    }
    let ends: Vec<&End> = known.ends_of_others.iter().collect();
    out + &ends_list("Ends of others who had this pid before", &ends, paint)
}

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
