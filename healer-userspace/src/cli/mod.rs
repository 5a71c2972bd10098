//! The command line: one file per subcommand.

mod administrator;
mod audit;
mod chaos;
mod cold;
mod demo;
mod dependencies;
mod doctor;
mod fault_child;
mod incidents;
mod locks;
mod output;
mod own_agent;
mod page;
mod pause;
mod pid_owner;
mod policy;
mod record;
mod replay;
mod rules;
mod run;
mod score;
mod sensors;
mod status;
mod story;
mod supervise;
mod undo;
mod why;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{config::Agent, engine::detect, sense};

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

    /// As the agent with that configuration chooses it.
    fn state_dir_of<'a>(&'a self, agent: &'a Agent) -> &'a Path {
        let configured = agent.state_dir.as_deref().filter(|_| !self.is_state_dir_given());
        configured.unwrap_or_else(|| self.state_dir())
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
    /// How the agent is, what it follows, what is open
    Status(status::Args),
    /// What happened, newest first; with ID, one incident's timeline
    Incidents(incidents::Args),
    /// Why something died, and what was done about it: the whole chain
    Why(why::Args),
    /// What the agent can see, and what it cannot and why
    Sensors(sensors::Args),
    Dependencies(dependencies::Args),
    Score(score::Args),
    Locks(locks::Args),
    /// Stop acting until `resume`; sensing and diagnosing go on
    Pause(pause::Args),
    /// Act again
    Resume,
    /// Give back what acts have borrowed (freeze, throttle, raise_limit, protect), also without an agent
    Undo(undo::Args),
    Record(record::Args),
    Replay(replay::Args),
    /// What works on this machine, what does not, and the command that fixes it
    Doctor(doctor::Args),
    Chaos(chaos::Args),
    /// See it heal: three real failures of services made for the show, at most a minute
    Demo(demo::Args),
    #[command(hide = true)]
    FaultChild(fault_child::Args),
    /// Name functions by the files on its input: for the agent's own use
    #[command(hide = true)]
    ReadSymbols,
}

pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { global, command } = cli;
    let state_dir = global.state_dir();
    match command {
        Command::Run(args) => run::run(args, &global),
        Command::Supervise(args) => Ok(supervise::run(args, state_dir.to_owned())),
        Command::Policy(args) => policy::run(args, &detect::is_built),
        Command::Audit(args) => audit::run(&args, state_dir),
        Command::Status(args) => status::run(&args, state_dir),
        Command::Incidents(args) => incidents::run(&args, state_dir),
        Command::Why(args) => why::run(&args, state_dir),
        Command::Sensors(args) => sensors::run(&args, state_dir),
        Command::Dependencies(args) => dependencies::run(&args, state_dir),
        Command::Score(args) => score::run(&args, state_dir),
        Command::Locks(args) => locks::run(&args),
        Command::Chaos(args) => chaos::run(&args, state_dir),
        Command::Demo(args) => demo::run(&args),
        Command::FaultChild(args) => Ok(fault_child::run(&args)),
        Command::ReadSymbols => Ok(sense::capture::read_symbols().map(|()| ExitCode::SUCCESS)?),
        Command::Pause(args) => pause::pause(args, state_dir),
        Command::Resume => pause::resume(state_dir),
        Command::Undo(args) => undo::run(args, &global),
        Command::Record(args) => record::run(&args, state_dir),
        Command::Replay(args) => replay::run(args),
        Command::Doctor(args) => doctor::run(&args, &global, crate::sense::OBJECT.map(<[u8]>::len)),
    }
}
