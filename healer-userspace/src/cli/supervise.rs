//! `healer supervise --name N -- CMD…`

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use crate::supervise::{Name, client};

/// Runs a command that the agent can restart
///
/// Restarts nothing by itself: it registers with the agent, passes signals on, and returns its child's last exit
/// status (128 + signal for a signal, 127 not found, 126 cannot be run). Without an agent it just runs the command.
/// If the supervisor itself is killed, the command lives on.
#[derive(clap::Args)]
pub struct Args {
    /// What policies and incidents call it: A-Z a-z 0-9 . _ -
    #[arg(long)]
    name: Name,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn run(args: Args, state_dir: PathBuf) -> ExitCode {
    let shown = state_dir.clone();
    let away = |error: std::io::Error| {
        say(&format!("no agent at {}: {error}; running the command all the same", shown.display()));
    };
    match client::run(args.name, args.command, state_dir, away) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say(&error.to_string());
            ExitCode::from(error.status())
        }
    }
}

#[expect(clippy::print_stderr, reason = "the supervisor's own words; stdout belongs to the child")]
fn say(words: &str) {
    eprintln!("healer supervise: {words}");
}
