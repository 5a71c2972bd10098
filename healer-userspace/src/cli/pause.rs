//! `healer pause [REASON]` and `healer resume`

use std::{path::Path, process::ExitCode};

use super::output::emit;
use crate::{
    control::{Request, client::ask},
    text::printable,
};

#[derive(clap::Args)]
pub struct Args {
    /// Shown by `healer status` and kept in the audit
    reason: Option<String>,
}

/// Sensing and diagnosing go on; nothing is acted on until `resume`.
pub fn pause(args: Args, state_dir: &Path) -> anyhow::Result<ExitCode> {
    order(state_dir, &Request::Pause { reason: args.reason })
}

pub fn resume(state_dir: &Path) -> anyhow::Result<ExitCode> {
    order(state_dir, &Request::Resume)
}

fn order(state_dir: &Path, request: &Request) -> anyhow::Result<ExitCode> {
    let answer = ask(state_dir, request)?;
    let says = answer["says"].as_str().unwrap_or("done");
    emit(&format!("{}\n", printable(says)))?;
    Ok(ExitCode::SUCCESS)
}
