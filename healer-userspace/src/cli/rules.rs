//! Options of every command that loads policies.

use std::path::PathBuf;

use crate::{config::Sources, engine::policy::Mode};

#[derive(clap::Args)]
pub(super) struct Rules {
    /// Policy file or directory; may be repeated. Without one the embedded default (shadow) holds
    #[arg(long)]
    policy: Vec<PathBuf>,
    /// The administrator's AgentConfig
    #[arg(long)]
    config: Option<PathBuf>,
    /// Caps the mode of every policy
    #[arg(long, value_parser = mode)]
    mode: Option<Mode>,
}

impl Rules {
    pub(super) fn sources(self) -> Sources {
        Sources { policies: self.policy, config: self.config, mode_cap: self.mode }
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    [Mode::Observe, Mode::Shadow, Mode::Enforce]
        .into_iter()
        .find(|mode| mode.name() == text)
        .ok_or_else(|| format!("{text:?} is none of observe, shadow, enforce"))
}
