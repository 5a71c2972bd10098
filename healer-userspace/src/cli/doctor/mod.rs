//! `healer doctor`: what works here, what does not, what that costs, and the command that fixes it.

mod capabilities;
mod cgroup;
mod kernel;
mod leases;
mod oldest;
mod owners;
mod place;
mod unit;

use std::{path::Path, process::ExitCode};

use serde::Serialize;

use super::{
    Global,
    administrator::{Administrator, refuse},
    output::{Cell, Mood, Paint, Table, emit, emit_json},
};
use crate::config::Agent;

#[derive(clap::Args)]
pub struct Args {
    /// For scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    administrator: Administrator,
}

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: String,
    pub state: State,
    /// What was found.
    pub says: String,
    /// What does not work because of it; empty if all does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub costs: String,
    /// What to type.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
    /// Without it no kernel program runs, and healer sees what needs none.
    pub needed_to_sense: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Ok,
    /// Works with less.
    Degraded,
    Missing,
    /// Not there, and nothing is wrong with that.
    Absent,
}

impl Check {
    fn ok(name: &str, says: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state: State::Ok,
            says: says.into(),
            costs: String::new(),
            fix: String::new(),
            needed_to_sense: false,
        }
    }

    fn absent(name: &str, says: impl Into<String>, costs: &str) -> Self {
        Self { state: State::Absent, costs: costs.into(), ..Self::ok(name, says) }
    }

    fn degraded(name: &str, says: impl Into<String>, costs: &str, fix: &str) -> Self {
        let state = State::Degraded;
        Self { state, costs: costs.into(), fix: fix.into(), ..Self::ok(name, says) }
    }

    fn missing(name: &str, says: impl Into<String>, costs: &str, fix: &str) -> Self {
        Self { state: State::Missing, ..Self::degraded(name, says, costs, fix) }
    }

    /// Marks what sensing cannot do without.
    fn needed(self) -> Self {
        Self { needed_to_sense: true, ..self }
    }
}

/// Where the checks look: `/` on a real node.
#[derive(Clone, Copy, Debug)]
pub struct Root<'a>(pub &'a Path);

impl Root<'_> {
    fn at(&self, path: &str) -> std::path::PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.at(path)).ok()
    }
}

/// `object` is the length of the embedded kernel programs, None in a build without them.
pub fn run(args: &Args, global: &Global, object: Option<usize>) -> anyhow::Result<ExitCode> {
    let agent = match args.administrator.read() {
        Ok(agent) => agent,
        Err(problems) => return refuse(&problems),
    };
    let checks = examine(Root(Path::new("/")), global.state_dir_of(&agent), object, &agent);
    let can_sense = can_sense(&checks);
    if args.json {
        emit_json(&serde_json::json!({"can_sense": can_sense, "checks": checks}))?;
    } else {
        emit(&render(&checks, Paint::of_stdout()))?;
    }
    Ok(if can_sense { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn examine(root: Root<'_>, state_dir: &Path, object: Option<usize>, agent: &Agent) -> Vec<Check> {
    let mut checks = kernel::checks(root, object);
    checks.extend(capabilities::checks(root));
    checks.extend(cgroup::checks(root));
    checks.extend(owners::checks(root, &agent.runtimes, &agent.kubernetes));
    checks.extend(place::checks(root, state_dir));
    checks.extend(unit::checks(root));
    checks.extend(leases::checks(state_dir));
    checks
}

fn can_sense(checks: &[Check]) -> bool {
    !checks.iter().any(|check| check.needed_to_sense && check.state == State::Missing)
}

fn render(checks: &[Check], paint: Paint) -> String {
    let mut table = Table::default();
    for check in checks {
        let (mood, word) = word(check.state);
        table.row([Cell::new(mood, word), Cell::from(&check.name), Cell::from(&check.says)]);
        for (head, text) in [("costs", &check.costs), ("fix", &check.fix)] {
            if !text.is_empty() && check.state != State::Ok {
                let text = format!("{head}: {text}");
                table.row([Cell::from(""), Cell::from(""), Cell::new(Mood::Faint, &text)]);
            }
        }
    }
    let verdict = if can_sense(checks) {
        paint.paint(Mood::Good, "healer can sense here.")
    } else {
        paint.paint(Mood::Bad, "healer cannot sense by kernel programs here, only by what needs none: see what is missing above.")
    };
    format!("{}\n{verdict}\n", table.render(paint))
}

fn word(state: State) -> (Mood, &'static str) {
    match state {
        State::Ok => (Mood::Good, "ok"),
        State::Degraded => (Mood::Held, "degraded"),
        State::Missing => (Mood::Bad, "missing"),
        State::Absent => (Mood::Faint, "absent"),
    }
}

#[cfg(test)]
mod tests;
