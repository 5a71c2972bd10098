//! `healer replay`: a recorded trace through the whole engine, without a kernel, hands or root.

use std::{
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;

use super::{BAD_INPUT, output::emit, rules::Rules};
use crate::{
    config,
    engine::{detect, report::Report, time::BootTime},
    replay,
    signal::Signal,
};

/// Run a recorded trace through diagnosis, gates and verification; acts are dry runs
#[derive(clap::Args)]
pub struct Args {
    /// As `healer record` wrote it; `-` is standard input
    trace: PathBuf,
    #[command(flatten)]
    rules: Rules,
    /// One JSON object per line, as the engine reports it
    #[arg(long)]
    json: bool,
}

/// # Errors
/// The trace cannot be read.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let loaded = match config::load(&args.rules.sources(), &detect::is_built) {
        Ok(loaded) => loaded,
        Err(problems) => {
            emit_problems(&problems)?;
            return Ok(ExitCode::from(BAD_INPUT));
        }
    };
    let signals = read(&args.trace)?;
    let reports = replay::replay(&signals, loaded.policies);
    emit(&render(&signals, &reports, args.json)?)?;
    Ok(ExitCode::SUCCESS)
}

fn read(trace: &Path) -> anyhow::Result<Vec<Signal>> {
    if trace == Path::new("-") {
        return replay::read(io::stdin().lock());
    }
    let file = File::open(trace).with_context(|| format!("open {}", trace.display()))?;
    replay::read(BufReader::new(file)).with_context(|| trace.display().to_string())
}

fn render(signals: &[Signal], reports: &[Report], as_json: bool) -> anyhow::Result<String> {
    let start = signals.first().map_or(BootTime(0), |signal| signal.at);
    let mut out = String::new();
    for report in reports {
        if as_json {
            out.push_str(&serde_json::to_string(report).context("write a report as JSON")?);
        } else {
            out.push_str(&replay::line(report, start));
        }
        out.push('\n');
    }
    if !as_json {
        out.push_str(&replay::summary(signals, reports));
        out.push('\n');
    }
    Ok(out)
}

fn emit_problems(problems: &config::Problems) -> io::Result<()> {
    use io::Write as _;
    writeln!(io::stderr().lock(), "{problems}")
}
