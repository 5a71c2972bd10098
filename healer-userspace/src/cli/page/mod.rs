//! `healer incidents ID --html`: one incident as one page that needs nothing else, for a post-mortem.

mod edge;
mod picture;

use std::path::Path;

use super::{output::Mood, story};
use crate::{
    report::incidents::Incident,
    store::{captures, dir::StateDir},
    text::printable,
};

const STYLE: &str = include_str!("style.css");

/// What was kept beside the audit.
#[derive(Default)]
pub struct Kept {
    pub text: String,
    /// The lock graph.
    pub svg: String,
}

impl Kept {
    /// Empty where nothing was taken; in words where it cannot be read.
    pub fn of(state_dir: &Path, incident: &Incident) -> Self {
        let read = StateDir::open(state_dir).map_err(|error| error.to_string()).and_then(|dir| {
            let read = |kind| captures::read(&dir, &incident.id, kind).map_err(|error| error.to_string());
            Ok(Self { text: read("txt")?.unwrap_or_default(), svg: read("svg")?.unwrap_or_default() })
        });
        read.unwrap_or_else(|error| Self {
            text: format!("The evidence cannot be read: {error}\n"),
            svg: String::new(),
        })
    }
}

/// The whole document. Nothing in it is loaded from elsewhere, and nothing in it can run.
pub fn document(incident: &Incident, kept: &Kept) -> String {
    let title = format!("{} {}", incident.id, safe(&incident.sentence));
    let body = [
        head(incident),
        section("Course", &picture::course(incident)),
        section("Chain", &chain(incident)),
        section("Who waits for whom", &kept.svg),
        section("Who depends on whom", &edge::svg(incident)),
        section("Evidence, taken before any act", &preformatted(&kept.text)),
        records(incident),
    ]
    .concat();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{title}</title><style>{STYLE}</style></head>\n<body><main>\n{body}</main></body></html>\n"
    )
}

fn head(incident: &Incident) -> String {
    let (mood, standing) = story::standing(incident);
    let rule = match (&incident.policy, &incident.rule) {
        (Some(policy), Some(rule)) => format!("{policy}, rule {rule}"),
        (Some(policy), None) => policy.clone(),
        (None, _) => String::new(),
    };
    let facts = [
        ("workload", incident.workload.clone()),
        ("process", if incident.pid == 0 { String::new() } else { incident.pid.to_string() }),
        ("fault at", incident.fault_time.clone()),
        ("closed at", incident.closed_time.clone().unwrap_or_default()),
        ("times", story::times(incident)),
        ("policy", rule),
        ("mode", incident.mode.clone().unwrap_or_default()),
    ];
    let shown = facts.iter().filter(|(_, value)| !value.is_empty());
    let list: String =
        shown.map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>\n", safe(value))).collect();
    format!(
        "<header><p class=\"marks\"><b>{}</b> <span class=\"mark\">{}</span> <span class=\"mark\">{}</span> \
         <span class=\"mark {}\">{}</span></p>\n<h1>{}</h1>\n<dl>\n{list}</dl></header>\n",
        safe(&incident.id),
        safe(&incident.class),
        safe(&incident.certainty),
        class_of(mood),
        safe(&standing),
        safe(&incident.sentence),
    )
}

fn chain(incident: &Incident) -> String {
    let row = |row: &story::Row<'_>| {
        format!(
            "<tr class=\"{}\"><td title=\"{}\">{}</td><td>{}</td><td>{}</td></tr>\n",
            class_of(row.mood),
            safe(row.time),
            story::since(incident.fault_boot_ns, row.boot_ns),
            safe(row.part),
            safe(&row.says),
        )
    };
    let rows: String = story::rows(incident).iter().map(row).collect();
    let left_out = safe(&story::left_out(incident));
    format!(
        "<table><thead><tr><th>since the fault</th><th>from</th><th>what</th></tr></thead>\n<tbody>\n{rows}</tbody></table>\
         <p>{left_out}</p>\n"
    )
}

/// As the audit has them, for whoever wants to check.
fn records(incident: &Incident) -> String {
    let lines = incident.timeline.iter().filter_map(|record| serde_json::to_string_pretty(record).ok());
    let text: String = lines.map(|line| line + "\n").collect();
    if text.is_empty() {
        return String::new();
    }
    format!("<details><summary>Records</summary>{}</details>\n", preformatted(&text))
}

/// Nothing, if there is nothing to say.
fn section(title: &str, content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!("<section><h2>{title}</h2>\n{content}</section>\n")
}

fn preformatted(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let lines: Vec<_> = text.lines().map(safe).collect();
    format!("<pre>{}</pre>\n", lines.join("\n"))
}

fn class_of(mood: Mood) -> &'static str {
    match mood {
        Mood::Good => "good",
        Mood::Held => "held",
        Mood::Bad => "bad",
        Mood::Faint => "faint",
        Mood::Plain | Mood::Strong => "plain",
    }
}

/// Names and arguments are the choice of whoever started the program.
pub(super) fn safe(text: &str) -> String {
    let text = printable(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
