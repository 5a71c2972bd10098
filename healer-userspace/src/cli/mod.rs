//! The command line: one file per subcommand.

pub mod audit;
mod cold;
mod doctor;
mod incidents;
pub mod output;
mod pause;
pub mod policy;
mod sensors;
mod status;
mod story;
mod supervise;
mod why;

use std::{path::PathBuf, process::ExitCode};

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
    /// How the agent is, what it follows, what is open
    Status(status::Args),
    /// What happened, newest first; with ID, one incident's timeline
    Incidents(incidents::Args),
    /// Why something died, and what was done about it: the whole chain
    Why(why::Args),
    /// What the agent can see, and what it cannot and why
    Sensors(sensors::Args),
    /// Stop acting until `resume`; sensing and diagnosing go on
    Pause(pause::Args),
    /// Act again
    Resume,
    /// What works on this machine, what does not, and the command that fixes it
    Doctor(doctor::Args),
}

pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let state_dir = &cli.global.state_dir;
    match cli.command {
        Command::Status(args) => status::run(&args, state_dir),
        Command::Incidents(args) => incidents::run(&args, state_dir),
        Command::Why(args) => why::run(&args, state_dir),
        Command::Sensors(args) => sensors::run(&args, state_dir),
        Command::Pause(args) => pause::pause(args, state_dir),
        Command::Resume => pause::resume(state_dir),
        Command::Supervise(args) => Ok(supervise::run(args, cli.global.state_dir)),
        Command::Policy(args) => policy::run(args, &detect::is_built),
        Command::Audit(args) => audit::run(&args, &cli.global.state_dir),
        Command::Doctor(args) => doctor::run(&args, state_dir, crate::sense::OBJECT.map(<[u8]>::len)),
    }
}
