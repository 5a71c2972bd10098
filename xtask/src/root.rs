//! Steps that need root: run as they are by root, through sudo by others.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::step::Step;
use crate::workspace;

/// Whether this process may do what root may: its effective user owns /proc/self.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// `program` with root's rights and these variables set.
/// Fails in words where neither root nor sudo is at hand.
pub(crate) fn command(program: impl AsRef<Path>, env: &[(&str, &str)]) -> Result<Command> {
    let program = program.as_ref();
    if is_root() {
        let mut command = Command::new(program);
        command.envs(env.iter().copied());
        return Ok(command);
    }
    if workspace::find_program("sudo").is_none() {
        bail!("`{}` needs root, and there is no sudo here: run this command as root", program.display());
    }
    let mut command = Command::new("sudo");
    // sudo resets the environment, so that variables go through env(1).
    if !env.is_empty() {
        command.arg("env");
        command.args(env.iter().map(|(key, value)| format!("{key}={value}")));
    }
    command.arg(program);
    Ok(command)
}

/// Mounts tracefs where nothing has: classic tracepoints are attached through it.
/// A machine that refuses goes on without; healer then says what it cannot sense.
pub(crate) fn mount_tracefs() {
    const TRACEFS: &str = "/sys/kernel/tracing";
    if Path::new(TRACEFS).join("events").exists() || !is_root() {
        return;
    }
    let mut command = Command::new("mount");
    command.args(["-t", "tracefs", "tracefs", TRACEFS]);
    let step = Step {
        name: "mount tracefs",
        remedy: "none is needed: what hangs on tracefs is reported as off",
        command,
    };
    if let Err(error) = step.run() {
        eprintln!("note: {error:#}");
    }
}
