use anyhow::Result;

use crate::step::Step;
use crate::{fmt, workspace};

/// Check the format, then let clippy read every crate, the kernel programs too
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn main(_args: &Args) -> Result<()> {
    all()
}

/// Format and clippy, warnings being errors. One look finds all that is to be mended.
pub(crate) fn all() -> Result<()> {
    let format = fmt::format(true);
    let agent = clippy(&["--workspace", "--exclude", "healer-ebpf", "--all-targets"]);
    // The kernel crate is read on the host target: no second clippy has to be installed.
    let kernel = clippy(&["--package", "healer-ebpf", "--profile", "kernel-lint"]);
    format.and(agent).and(kernel)
}

fn clippy(what: &[&str]) -> Result<()> {
    let mut command = workspace::cargo("clippy");
    command.args(what).args(["--", "-D", "warnings"]);
    Step {
        name: "clippy",
        remedy: "mend what it says above; `rustup component add clippy` brings it",
        command,
    }
    .run()
}
