use std::ffi::OsString;

use anyhow::Result;

use crate::{build, root, run, toolchain, workspace};

/// Build healer and watch it heal real failures of services made for the show
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    toolchain: toolchain::Install,
    /// Arguments of `healer demo`, after `--`
    #[arg(last = true)]
    healer: Vec<OsString>,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    build::release(args.toolchain)?;
    root::mount_tracefs();
    let mut healer = root::command(workspace::healer_release(), &[])?;
    healer.arg("demo").args(&args.healer);
    run::become_it(healer)
}
