//! `healer run`: the agent.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use super::{BAD_INPUT, Global, rules::Rules};
use crate::{
    agent::{self, Options, StartError},
    report::log,
    sense::Level,
};

/// Run the agent: sense, diagnose, heal by policy, verify
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    rules: Rules,
    /// Address for metrics and the read-only API [default: 127.0.0.1:9469]
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Stop after this long, for example 30s or 5m
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Shape of the log on stderr
    #[arg(long, value_enum, default_value_t)]
    log: log::Format,
    /// Also write every signal, after identity, to this file as a trace for `healer replay`
    #[arg(long)]
    record: Option<PathBuf>,
    /// The best rung that sensors may take: tp_btf, raw_tp, tracepoint or user
    #[arg(long, hide = true, env = "HEALER_SENSE_RUNG", default_value = "tp_btf", value_parser = rung)]
    sense_rung: Level,
}

/// # Errors
/// The agent could not start, or its event loop broke.
pub fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let options = Options {
        sources: args.rules.sources(),
        state_dir: global.state_dir().to_owned(),
        state_dir_given: global.is_state_dir_given(),
        listen: args.listen,
        duration: args.duration,
        log: args.log,
        record: args.record,
        sense_rung: args.sense_rung,
    };
    match agent::run(options) {
        Ok(code) => Ok(code),
        Err(StartError::Policy(problems)) => {
            #[expect(clippy::print_stderr, reason = "the log is not set up before the policies are read")]
            {
                eprintln!("{problems}");
            }
            Ok(ExitCode::from(BAD_INPUT))
        }
        Err(StartError::Store(error)) => Err(error.into()),
        Err(StartError::Other(error)) => Err(error),
    }
}

fn rung(text: &str) -> Result<Level, String> {
    Level::ALL
        .into_iter()
        .find(|level| level.name() == text)
        .ok_or_else(|| format!("{text:?} is none of tp_btf, raw_tp, tracepoint, user"))
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::config::duration(text)
}
