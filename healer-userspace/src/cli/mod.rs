//! The command line: one file per subcommand.

mod audit;
mod policy;
mod run;
mod supervise;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

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
    /// Where the agent keeps its journal, audit and sockets [default: /var/lib/healer]
    #[arg(long = "state-dir", value_name = "DIR", global = true, env = "HEALER_STATE_DIR")]
    given_state_dir: Option<PathBuf>,
}

impl Global {
    pub fn state_dir(&self) -> &Path {
        self.given_state_dir.as_deref().unwrap_or(Path::new("/var/lib/healer"))
    }

    /// It wins over the agent's configuration.
    pub fn is_state_dir_given(&self) -> bool {
        self.given_state_dir.is_some()
    }
}

#[derive(Subcommand)]
pub enum Command {
    Run(run::Args),
    Supervise(supervise::Args),
    /// Check policies, print their schema
    Policy(policy::Args),
    Audit(audit::Audit),
}

pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { global, command } = cli;
    match command {
        Command::Run(args) => run::run(args, &global),
        Command::Supervise(args) => Ok(supervise::run(args, global.state_dir().to_owned())),
        Command::Policy(args) => policy::run(args, &detect::is_built),
        Command::Audit(args) => audit::run(&args, global.state_dir()),
    }
}
