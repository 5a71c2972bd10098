use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Result, bail};

use crate::step::shown;
use crate::{build, root, toolchain, workspace};

// Of `run` and of `demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    toolchain: toolchain::Install,
    /// Arguments of healer, after `--`
    #[arg(last = true)]
    healer: Vec<OsString>,
}

/// Build healer and run it here, as root, with its state under target/healer-state
pub(crate) fn main(args: &Args) -> Result<()> {
    become_healer(args, |healer| {
        healer.args(["run", "--state-dir"]).arg(workspace::target_dir().join("healer-state"));
    })
}

/// Builds it, and gives this process to it, as root.
pub(crate) fn become_healer(args: &Args, first_words: impl FnOnce(&mut Command)) -> Result<()> {
    build::release(args.toolchain)?;
    root::mount_tracefs();
    let mut healer = root::command(workspace::healer_release(), &[])?;
    first_words(&mut healer);
    healer.args(&args.healer);
    become_it(healer)
}

/// Gives this process to `command`: signals and the exit code are then its own.
fn become_it(mut command: Command) -> Result<()> {
    let line = shown(&command);
    eprintln!("$ {line}");
    let error = command.exec();
    bail!(
        "step `run healer` failed (did not start: {error})\n  command: {line}\n  remedy:  `cargo xtask build --release` makes the binary"
    )
}
