use std::ffi::OsString;

use anyhow::{Result, bail};

use crate::step::Step;
use crate::{build, root, toolchain, workspace};

/// Measure what healer costs and how fast it is, with the release build
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    toolchain: toolchain::Install,
    /// Arguments of healer-bench, after `--`
    #[arg(last = true)]
    bench: Vec<OsString>,
}

const SOURCE: &str = "tests/src/bin/healer-bench.rs";

pub(crate) fn main(args: &Args) -> Result<()> {
    let source = workspace::root().join(SOURCE);
    if !source.exists() && !source.with_extension("").is_dir() {
        bail!("nothing measures healer yet: {SOURCE} does not exist");
    }
    build::release(args.toolchain)?;
    root::mount_tracefs();
    let mut command = workspace::cargo("run");
    command
        .args(["--release", "--package", "healer-tests"])
        .args(["--bin", "healer-bench", "--"])
        .args(&args.bench)
        .env("HEALER_BIN", workspace::healer_release());
    Step { name: "bench", remedy: "read what it says above; it needs root", command }.run()
}
