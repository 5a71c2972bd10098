//! The house rules as code: what clippy cannot know.

mod engine;
mod files;
mod layout;
mod metrics;
mod namesakes;
mod scrub;
mod tables;
mod tree;

use std::fmt;

use anyhow::{Result, bail};

use self::tree::Tree;
use crate::workspace;

/// Check the house rules
#[derive(clap::Args)]
pub(crate) struct Args {}

/// A place where a rule is broken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    /// Counted from 1; 0 is the file as a whole.
    line: usize,
    message: String,
}

type Rule = fn(&Tree) -> Vec<Finding>;

/// THE RULES. One about a folder that does not exist yet holds until the folder does.
const RULES: &[(&str, Rule)] = &[
    ("layout", layout::check),
    ("engine is pure", engine::check),
    ("file length", files::length),
    ("no placeholders", files::placeholders),
    ("no machine's paths", files::machine_paths),
    ("namesakes", namesakes::check),
    ("tables", tables::check),
    ("metrics are documented", metrics::check),
];

pub(crate) fn main(_args: &Args) -> Result<()> {
    check()
}

/// Checks the repository, printing every place where a rule is broken.
pub(crate) fn check() -> Result<()> {
    let tree = Tree::load(&workspace::root())?;
    let mut broken = 0;
    for (name, rule) in RULES {
        for finding in rule(&tree) {
            broken += 1;
            println!("{finding} [{name}]");
        }
    }
    if broken > 0 {
        bail!("step `tidy` failed: house rules are broken in {broken} places, listed above");
    }
    println!("tidy: {} rules hold in {} files", RULES.len(), tree.len());
    Ok(())
}

impl Finding {
    fn file(path: &str, message: impl Into<String>) -> Self {
        Self::line(path, 0, message)
    }

    fn line(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}
