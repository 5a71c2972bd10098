//! The bench's command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Measures healer: cost of its hooks, footprint, latency, throughput
#[derive(Clone, Debug, Parser)]
#[command(name = "healer-bench")]
pub struct Args {
    /// Print the change against an earlier run's JSON
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
    /// Loads and sections to run: names of the table's first column, or cost, syscalls, footprint, plateau, latency, ring, engine, memory, waits, network, peers (earlyoom and nohang beside it; only if named)
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub only: Vec<String>,
    /// Pairs of runs without and with healer
    #[arg(long)]
    pub pairs: Option<usize>,
    /// Seconds that the idle agent is watched
    #[arg(long, value_name = "SECONDS")]
    pub idle: Option<u64>,
    /// Services killed for the latency figures
    #[arg(long)]
    pub kills: Option<usize>,
    /// A first look in a minute: one pair, shorter loads; figures to develop by, not to quote
    #[arg(long)]
    pub quick: bool,
    /// Where the figures go as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[command(subcommand)]
    pub part: Option<Part>,
}

/// What the bench starts of itself.
#[derive(Clone, Debug, Subcommand)]
pub enum Part {
    /// Runs one micro load, prints median and mean in ns
    #[command(hide = true)]
    Micro { load: String, millis: u64 },
    /// Appends its pid and its start on the boot clock to a file, then waits
    #[command(hide = true)]
    Service { file: PathBuf },
    /// Ends with status 3 after a moment
    #[command(hide = true)]
    Fail,
    /// Makes this many processes a second that end with status 1
    #[command(hide = true)]
    Storm { per_second: u64, millis: u64 },
    /// Makes this many processes, each with a name of its own, that end with status 1
    #[command(hide = true)]
    Crowd { first: u32, count: u32 },
    /// Threads that wait for work, and threads that lock each other out in pairs; says when they are there
    #[command(hide = true)]
    Threads { idle: u32, stuck: u32 },
    /// So many sockets, connected with each other
    #[command(hide = true)]
    Sockets { count: u32 },
    /// A connection to each of so many addresses
    #[command(hide = true)]
    Flows { count: u32 },
    /// The same to as many others
    #[command(hide = true)]
    MoreFlows { count: u32 },
}

impl Args {
    /// Pairs of the cost table.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.pairs.unwrap_or(if self.quick { 1 } else { 5 }).max(1)
    }

    /// Milliseconds of one micro load.
    #[must_use]
    pub fn micro_millis(&self) -> u64 {
        if self.quick { 100 } else { 250 }
    }

    /// Seconds of idling.
    #[must_use]
    pub fn idle_seconds(&self) -> u64 {
        self.idle.unwrap_or(if self.quick { 10 } else { 60 }).max(1)
    }

    /// Supervised services to kill.
    #[must_use]
    pub fn kills(&self) -> usize {
        self.kills.unwrap_or(if self.quick { 5 } else { 20 }).max(1)
    }

    /// Whether `name` is to be run: everything is, unless `--only` says otherwise.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}
