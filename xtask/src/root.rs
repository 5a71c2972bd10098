//! Steps that need root: run as they are by root, through sudo by others.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::step::Step;
use crate::workspace;

/// As target triples name it.
const LIBC: &str = if cfg!(target_env = "musl") { "musl" } else { "gnu" };

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

/// Has root run what cargo runs of a build: the tests that fail processes, and read those of others.
pub(crate) fn runs_tests(command: &mut Command) {
    if !is_root() && workspace::find_program("sudo").is_some() {
        let triple = format!("{}_unknown_linux_{}", std::env::consts::ARCH, LIBC).to_uppercase();
        // With the environment, which names the programs that the tests use.
        command.env(format!("CARGO_TARGET_{triple}_RUNNER"), "sudo -E");
    }
}

/// Mounts tracefs where nothing has: classic tracepoints are attached through it.
/// A machine that refuses goes on without; healer then says what it cannot sense.
pub(crate) fn mount_tracefs() {
    const TRACEFS: &str = "/sys/kernel/tracing";
    if is_mounted(TRACEFS) {
        return;
    }
    let Ok(mut command) = command("mount", &[]) else { return };
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

/// By proc_pid_mounts(5): what lies below may be root's alone to see.
pub(crate) fn is_mounted(dir: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(dir))
}
