use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::step::Step;
use crate::toolchain::{self, Stage, ensure_packages};
use crate::{build, root, workspace};

/// Measure what healer costs and how fast it is, with the release build
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    toolchain: toolchain::Install,
    /// Arguments of healer-bench, after `--`: see `cargo xtask bench -- --help`
    #[arg(last = true)]
    bench: Vec<OsString>,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    build::release(args.toolchain)?;
    build::floor(args.toolchain)?;
    ensure_packages(Stage::Bench, args.toolchain)?;
    root::mount_tracefs();
    Step { name: "build the bench", remedy: "read what rustc says above", command: build_bench() }.run()?;
    Step { name: "bench", remedy: "read what it says above", command: run_bench(&args.bench)? }.run()
}

fn build_bench() -> Command {
    let mut command = workspace::cargo("build");
    command.args(["--release", "--package", "healer-tests", "--bin", "healer-bench"]);
    command
}

fn run_bench(args: &[OsString]) -> Result<Command> {
    let healer = workspace::healer_release().display().to_string();
    let floor = workspace::floor_object().display().to_string();
    let bench = workspace::target_dir().join("release/healer-bench");
    let mut command = root::command(bench, &[("HEALER_BIN", &healer), ("HEALER_FLOOR", &floor)])?;
    command.args(args);
    Ok(command)
}
