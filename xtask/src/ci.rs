use anyhow::Result;

use crate::test;

/// What continuous integration runs: `cargo xtask test`, everything, by .ci/run
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn main(_args: &Args) -> Result<()> {
    test::everything()
}
