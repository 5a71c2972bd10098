//! `healer policy check|schema|crd|default`: the language without an agent.

use std::{
    io::{Write, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;

use super::BAD_INPUT;
use crate::{
    action::lacks,
    config::{self, Kind, Loaded, Problems, schema},
    engine::{class::Class, policy::Policy},
};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Check policy and agent files: every fault with its line and column; exit status 2 if there is one
    Check {
        /// Files, or directories of *.yaml; none = the embedded default policy
        #[arg(value_name = "FILE|DIR")]
        paths: Vec<PathBuf>,
    },
    /// Print the JSON Schema of the files
    Schema {
        #[arg(long, value_enum, ignore_case = true, default_value_t)]
        kind: Kind,
        /// As openAPIV3Schema of a CustomResourceDefinition
        #[arg(long)]
        crd: bool,
    },
    /// Print the CustomResourceDefinition of HealPolicy, for `kubectl apply -f -`
    Crd,
    /// Print the embedded default policy
    Default,
}

/// `supported` says which classes have a detector.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: Args, supported: &dyn Fn(Class) -> bool) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Check { paths } => check(&paths, supported),
        Command::Schema { kind, crd } => {
            let schema = if crd { schema::structural(kind) } else { schema::json(kind) };
            let text = serde_json::to_string_pretty(&schema).context("write the schema as JSON")?;
            say(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Crd => {
            say(config::yaml::text(&schema::crd()).trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Default => {
            say(config::load::DEFAULT_POLICY.trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(paths: &[PathBuf], supported: &dyn Fn(Class) -> bool) -> anyhow::Result<ExitCode> {
    let checked = if paths.is_empty() {
        config::load(&config::Sources::default(), supported)
    } else {
        config::load::check(paths, supported)
    };
    match checked.and_then(can_be_done) {
        Ok(loaded) => {
            say(&summary(&loaded))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            complain(&problems)?;
            Ok(ExitCode::from(BAD_INPUT))
        }
    }
}

/// A rung that this machine cannot do is refused here, where somebody reads it; a running agent says it and goes on.
fn can_be_done(mut loaded: Loaded) -> Result<Loaded, Problems> {
    let here = lacks::Here::of(&loaded.agent.kubernetes);
    if !here.in_cluster {
        loaded.warnings.append(&mut loaded.asking);
    }
    match loaded.cannot(&|rung| lacks::lacks(rung, here)) {
        problems if problems.is_empty() => Ok(loaded),
        problems => Err(Problems(problems)),
    }
}

fn summary(loaded: &Loaded) -> String {
    let mut lines: Vec<String> =
        loaded.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
    lines.extend(loaded.policies.policies.iter().map(line));
    let source = match loaded.files.len() {
        0 => "embedded default".to_owned(),
        1 => "1 file".to_owned(),
        files => format!("{files} files"),
    };
    lines.push(format!("ok: {source}, {} policies", loaded.policies.policies.len()));
    lines.join("\n")
}

fn line(policy: &Policy) -> String {
    let rules: Vec<&str> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
    format!("policy {} ({}): rules {}", policy.name, policy.mode.name(), rules.join(", "))
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(stdout().lock(), "{text}").context("write to standard output")
}

pub(super) fn complain(problems: &Problems) -> anyhow::Result<()> {
    writeln!(stderr().lock(), "{problems}").context("write to standard error")
}
