//! `healer fault-child NAME`: the process in which a fault happens.

use std::process::ExitCode;

use super::BAD_INPUT;
use crate::fault::{self, Fault, When};

#[derive(clap::Args)]
pub struct Args {
    name: String,
    /// Be healthy until SIGUSR1 comes
    #[arg(long)]
    asked: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let when = if args.asked { When::Asked } else { When::Now };
    match Fault::by_name(&args.name) {
        Some(fault) => ExitCode::from(fault::run_child(fault, when)),
        None => ExitCode::from(BAD_INPUT),
    }
}
