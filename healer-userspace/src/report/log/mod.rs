//! The log: one readable line per fact for a person, one JSON object per line for machines.

mod format;
mod lines;
mod quiet;

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{Layer as _, filter::Targets, fmt::MakeWriter, layer::SubscriberExt as _};

use self::format::{Json, Pretty};
pub use self::lines::{Level, Line, Lines};
use super::wall::ReadClock;

/// kube tells every error by itself and in its own words; healer says what it means.
const DEFAULT: &str = "info,kube_client=off";

/// `--log`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a person
    #[default]
    Pretty,
    /// One JSON object per line
    Json,
}

/// Sends the whole process's log to stderr. `HEALER_LOG` narrows or widens it: a level, or
/// levels of modules (`info,healer_userspace::sense=debug`); default `info`, and nothing of kube's.
///
/// # Errors
/// A log was set up before, or HEALER_LOG cannot be read as a filter.
pub fn init(format: Format, clock: ReadClock) -> anyhow::Result<()> {
    let colour = wants_colour(io::stderr().is_terminal());
    let dispatch = dispatch(format, clock, colour, io::stderr, &filter_words())?;
    tracing::dispatcher::set_global_default(dispatch)?;
    Ok(())
}

fn filter_words() -> String {
    std::env::var("HEALER_LOG").unwrap_or_else(|_| DEFAULT.into())
}

/// NO_COLOR (no-color.org) and a dumb terminal win over a terminal.
pub fn wants_colour(terminal: bool) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn dispatch<Writer>(
    format: Format,
    clock: ReadClock,
    colour: bool,
    writer: Writer,
    filter: &str,
) -> anyhow::Result<tracing::Dispatch>
where
    Writer: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // `Targets`, not `EnvFilter`: that one brings regular expressions, half a megabyte of text.
    let filter: Targets = filter.parse().map_err(|error| anyhow::anyhow!("HEALER_LOG={filter}: {error}"))?;
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let registry = tracing_subscriber::registry();
    Ok(match format {
        Format::Pretty => {
            registry.with(layer.event_format(Pretty { clock, colour }).with_filter(filter)).into()
        }
        Format::Json => registry.with(layer.event_format(Json { clock }).with_filter(filter)).into(),
    })
}

/// Writes a line about an incident or about the agent. Field values are escaped by the format.
pub fn write(line: &Line) {
    let Line { level, incident, workload, record, class, part, text, mood } = line;
    let (incident, workload) = (incident.as_str(), workload.as_str());
    let (record, class, part) = (*record, *class, *part);
    macro_rules! event {
        ($level:expr) => {
            tracing::event!(target: "healer", $level, incident, workload, record, class, part, mood = mood.name(), "{text}")
        };
    }
    match level {
        Level::Warn => event!(tracing::Level::WARN),
        Level::Info => event!(tracing::Level::INFO),
        Level::Debug => event!(tracing::Level::DEBUG),
    }
}

#[cfg(test)]
mod tests;
