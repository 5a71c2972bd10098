//! `healer record`: signals after identity, a line of JSON each, as `healer replay` takes them.

mod alone;

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    clock,
    control::client::{self, AskError},
    engine::time::BootTime,
};

/// Between two looks at the clock.
const PATIENCE: Duration = Duration::from_millis(200);

/// Record signals as a trace on standard output: those of the running agent, else healer's own sensing
#[derive(clap::Args)]
pub struct Args {
    /// Stop after this long, for example 30s or 5m; without it, at Ctrl-C
    #[arg(long, value_parser = crate::config::duration)]
    duration: Option<Duration>,
    /// Without a running agent: whose executables are tracked; may be repeated
    #[arg(long)]
    policy: Vec<PathBuf>,
}

/// # Errors
/// Nothing can be sensed, or standard output cannot be written.
pub fn run(args: &Args, state_dir: &Path) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        !io::stdout().is_terminal(),
        "a trace is for a file: healer record > trace.jsonl (or `| cat` to watch)"
    );
    let until = args.duration.map(|duration| clock::boot() + duration);
    match client::record(state_dir, PATIENCE) {
        Ok(stream) => copy(stream, until)?,
        Err(AskError::NoAgent { .. }) => alone::record(&args.policy, until)?,
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Whole lines only, each at once: a trace that is cut off by Ctrl-C can be replayed.
fn copy(mut from: impl io::BufRead, until: Option<BootTime>) -> anyhow::Result<()> {
    let mut line = Vec::new();
    while until.is_none_or(|until| clock::boot() < until) {
        match from.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                if !told(&line)? {
                    return Ok(());
                }
                line.clear();
            }
            Err(error) if is_silence(&error) => {}
            Err(error) => return Err(error).context("listen to the agent"),
        }
    }
    Ok(())
}

fn is_silence(error: &io::Error) -> bool {
    [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut, io::ErrorKind::Interrupted].contains(&error.kind())
}

/// False once the reader of standard output is gone.
fn told(line: &[u8]) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(line).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("write the trace"),
    }
}
