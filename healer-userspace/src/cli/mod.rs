//! The command line: one file per subcommand.

pub mod policy;
pub mod audit;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

mod supervise;
use crate::engine::detect;

/// Exit status for wrong use or bad input; 1 is "tried and failed".
pub const BAD_INPUT: u8 = 2;

/// Senses failure in the kernel, proves it, heals it by policy, verifies the cure.
#[derive(Parser)]
#[command(name = "healer", version)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(clap::Args)]
pub struct Global {
    /// Where the agent keeps its journal, audit and socket
    #[arg(long, global = true, env = "HEALER_STATE_DIR", default_value = "/var/lib/healer")]
    pub state_dir: PathBuf,
}

#[derive(Subcommand)]
pub enum Command {
    Supervise(supervise::Args),
    /// Check policies, print their schema
    Policy(policy::Args),
    Audit(audit::Audit),
}

pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Supervise(args) => Ok(supervise::run(args, cli.global.state_dir)),
        Command::Policy(args) => policy::run(args, &detect::is_built),
        Command::Audit(args) => audit::run(&args, &cli.global.state_dir),
    }
}
