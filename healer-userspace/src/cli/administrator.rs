//! `--config FILE`: what the administrator has set, for commands that are not the agent.

use std::{path::PathBuf, process::ExitCode};

use super::{BAD_INPUT, policy::complain};
use crate::{
    config::{self, Agent, Problems, Sources},
    engine::detect,
};

#[derive(clap::Args)]
pub(super) struct Administrator {
    /// The administrator's AgentConfig, as `healer run` has it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Administrator {
    /// # Errors
    /// Every problem of the file.
    pub(super) fn read(&self) -> Result<Agent, Problems> {
        let sources = Sources { config: self.config.clone(), ..Sources::default() };
        Ok(config::load(&sources, &detect::is_built)?.agent)
    }
}

/// # Errors
/// Standard error cannot be written.
pub(super) fn refuse(problems: &Problems) -> anyhow::Result<ExitCode> {
    complain(problems)?;
    Ok(ExitCode::from(BAD_INPUT))
}
