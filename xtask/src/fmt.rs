use anyhow::Result;

use crate::step::Step;
use crate::workspace;

/// Format the code of every crate
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Change nothing: fail if something would change
    #[arg(long)]
    check: bool,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    format(args.check)
}

/// Formats, or with `check` only looks.
pub(crate) fn format(check: bool) -> Result<()> {
    let mut command = workspace::cargo("fmt");
    command.arg("--all");
    if check {
        command.arg("--check");
    }
    Step {
        name: "fmt",
        remedy: "`cargo xtask fmt` formats the code; `rustup component add rustfmt` brings the formatter",
        command,
    }
    .run()
}
