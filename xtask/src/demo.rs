use anyhow::Result;

use crate::run::{self, Args};

/// Build healer and watch it heal real failures of services made for the show
pub(crate) fn main(args: &Args) -> Result<()> {
    run::become_healer(args, |healer| {
        healer.arg("demo");
    })
}
