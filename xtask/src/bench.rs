use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::arch::Arch;
use crate::step::Step;
use crate::toolchain::{self, Stage, ensure_packages};
use crate::vm::apt::Apt;
use crate::{build, dist, root, workspace};

/// Measure what healer costs and how fast it is, with the file that is shipped
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    toolchain: toolchain::Install,
    /// Arguments of healer-bench, after `--`: see `cargo xtask bench -- --help`
    #[arg(last = true)]
    bench: Vec<OsString>,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    build::kernel_programs(args.toolchain)?;
    build::floor(args.toolchain)?;
    let here = Arch::ALL.into_iter().find(|arch| arch.name() == std::env::consts::ARCH).unwrap_or_default();
    let healer = dist::of(here)?;
    ensure_packages(Stage::Bench, args.toolchain)?;
    root::mount_tracefs();
    let peers = if names_peers(&args.bench) { Some(unpacked_peers()?) } else { None };
    Step { name: "build the bench", remedy: "read what rustc says above", command: build_bench() }.run()?;
    Step {
        name: "bench",
        remedy: "read what it says above",
        command: run_bench(&healer, &args.bench, peers)?,
    }
    .run()
}

fn build_bench() -> Command {
    let mut command = workspace::cargo("build");
    command.args(["--release", "--package", "healer-tests", "--bin", "healer-bench"]);
    command
}

fn names_peers(args: &[OsString]) -> bool {
    args.iter().any(|arg| arg.to_string_lossy().split([',', '=']).any(|name| name == "peers"))
}

/// Unpacked and never installed: installed they would start, and watch over the whole machine.
fn unpacked_peers() -> Result<PathBuf> {
    let dir = workspace::target_dir().join("peers");
    let here = Arch::ALL.into_iter().find(|arch| arch.name() == std::env::consts::ARCH);
    let apt = Apt::new(here.unwrap_or_default(), &dir)?;
    for package in ["earlyoom", "nohang"] {
        apt.unpacked(package)?;
    }
    Ok(dir)
}

fn run_bench(healer: &Path, args: &[OsString], peers: Option<PathBuf>) -> Result<Command> {
    let healer = healer.display().to_string();
    let floor = workspace::floor_object().display().to_string();
    let peers = peers.unwrap_or_default().display().to_string();
    let bench = workspace::target_dir().join("release/healer-bench");
    let env = [("HEALER_BIN", &*healer), ("HEALER_FLOOR", &floor), ("HEALER_PEERS", &peers)];
    let mut command = root::command(bench, &env)?;
    command.args(args);
    Ok(command)
}
