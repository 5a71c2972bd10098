use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::step::Step;
use crate::toolchain::{self, ensure_ebpf};
use crate::workspace;

/// Build the kernel programs, then healer with them inside
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Optimise: the result is target/release/healer
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    toolchain: toolchain::Install,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    kernel_programs(args.toolchain)?;
    agent(args.release)
}

/// Builds the release agent with fresh kernel programs inside.
pub(crate) fn release(toolchain: toolchain::Install) -> Result<()> {
    kernel_programs(toolchain)?;
    agent(true)
}

/// Builds the kernel programs alone.
pub(crate) fn kernel_programs(toolchain: toolchain::Install) -> Result<()> {
    let object = workspace::ebpf_object();
    let was_held = fs::metadata(&object).is_ok_and(|meta| meta.len() == 0);
    Step {
        name: "build the kernel programs",
        remedy: "read what rustc says above; `cargo xtask doctor` checks the toolchain",
        command: ensure_ebpf(toolchain)?.build_command("healer-ebpf"),
    }
    .run()?;
    if was_held {
        renew(&object).with_context(|| format!("renew {}", object.display()))?;
    }
    Ok(())
}

/// Builds the bench's own kernel object, which is part of no healer.
pub(crate) fn floor(toolchain: toolchain::Install) -> Result<()> {
    Step {
        name: "build the bench's kernel programs",
        remedy: "read what rustc says above; `cargo xtask doctor` checks the toolchain",
        command: ensure_ebpf(toolchain)?.build_command("floor"),
    }
    .run()
}

/// cargo may have linked an old object to the place that build.rs held: make it newer than the
/// agent's last build, which else would stay without it.
fn renew(object: &Path) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a file's time is wall time")]
    File::open(object)?.set_modified(SystemTime::now())
}

/// healer-userspace/build.rs takes the kernel object from its place in the target directory.
pub(crate) fn agent(release: bool) -> Result<()> {
    let mut command = workspace::cargo("build");
    if release {
        command.arg("--release");
    }
    command.args(["--package", "healer-userspace"]);
    Step { name: "build healer", remedy: "read what rustc says above", command }.run()
}
