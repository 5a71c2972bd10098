//! `healer incidents [ID]`

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;
use serde_json::json;

use super::{
    cold,
    output::{Cell, Mood, Paint, Table, emit, emit_json},
    page::{Kept, document},
    story,
};
use crate::{
    control::{
        Request,
        client::{AskError, ask},
    },
    report::{
        book::Book,
        incidents::{Incident, short_name},
    },
    text::printable,
};

#[derive(clap::Args)]
pub struct Args {
    /// One incident with its timeline, for example i42
    id: Option<String>,
    /// How many to show, newest first; 0 for all
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: usize,
    /// For scripts; all of them
    #[arg(long)]
    json: bool,
    /// With ID: one page to keep, `healer incidents i42 --html > i42.html`; it needs no network and no agent
    #[arg(long, requires = "id", conflicts_with = "json")]
    html: bool,
}

pub fn run(args: &Args, state_dir: &Path) -> anyhow::Result<ExitCode> {
    let incidents = match &args.id {
        Some(id) => vec![one(state_dir, id)?],
        None => all(state_dir)?,
    };
    if args.json {
        emit_json(&json!({"incidents": incidents}))?;
    } else if args.html {
        let page = |incident| document(incident, &Kept::of(state_dir, incident));
        emit(&incidents.iter().map(page).collect::<String>())?;
    } else if args.id.is_some() {
        let paint = Paint::of_stdout();
        let whole = |incident| page(incident, paint) + &story::evidence(state_dir, incident);
        emit(&incidents.iter().map(whole).collect::<String>())?;
    } else {
        emit(&newest(&incidents, args.last, Paint::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn all(state_dir: &Path) -> anyhow::Result<Vec<Incident>> {
    let list = |book: &Book| book.newest().cloned().collect();
    match ask(state_dir, &Request::Incidents { id: None }) {
        Ok(answer) => {
            let told = serde_json::from_value(answer["incidents"].clone())?;
            Ok(cold::with_older(state_dir, told, list))
        }
        Err(error @ AskError::NoAgent { .. }) => Ok(list(&cold::book(state_dir).context(error)?)),
        Err(error) => Err(error.into()),
    }
}

/// What the agent has forgotten, the audit may still know.
fn one(state_dir: &Path, id: &str) -> anyhow::Result<Incident> {
    let of_audit = |book: &Book| book.get(id).into_iter().collect();
    let found: Vec<Incident> = match ask(state_dir, &Request::Incidents { id: Some(id.into()) }) {
        Ok(answer) => {
            let told = serde_json::from_value(answer["incidents"].clone())?;
            cold::with_older(state_dir, told, of_audit)
        }
        Err(AskError::Refused(_)) => cold::with_older(state_dir, Vec::new(), of_audit),
        Err(error @ AskError::NoAgent { .. }) => of_audit(&cold::book(state_dir).context(error)?),
        Err(error @ (AskError::Forbidden { .. } | AskError::Broken { .. })) => return Err(error.into()),
    };
    let unknown = || {
        let (id, dir) = (printable(id), state_dir.display());
        anyhow::anyhow!("no incident {id} in {dir}: `healer incidents` lists them")
    };
    found.into_iter().next().ok_or_else(unknown)
}

/// The first of the list, and how many there are besides.
fn newest(incidents: &[Incident], last: usize, paint: Paint) -> String {
    let shown = if last == 0 { incidents.len() } else { last.min(incidents.len()) };
    let mut out = list(&incidents[..shown], paint);
    let older = incidents.len() - shown;
    if older > 0 {
        out.push_str(&format!("… and {older} older (--last 0 shows all)\n"));
    }
    out
}

/// The list, newest first.
pub fn list(incidents: &[Incident], paint: Paint) -> String {
    if incidents.is_empty() {
        return "no incidents\n".into();
    }
    let head = ["ID", "FAULT (UTC)", "WORKLOAD", "CLASS", "MODE", "OUTCOME", "WHAT HAPPENED"];
    let mut table = Table::with_head(&head);
    for incident in incidents {
        let (mood, standing) = story::standing(incident);
        table.row([
            Cell::from(&incident.id),
            Cell::from(story::second(&incident.fault_time)),
            Cell::from(short_name(&incident.workload)),
            Cell::from(&incident.class),
            Cell::from(incident.mode.as_deref().unwrap_or("-")),
            Cell::new(mood, &standing),
            Cell::from(&incident.sentence),
        ]);
    }
    table.render(paint)
}

/// One incident with its timeline.
pub fn page(incident: &Incident, paint: Paint) -> String {
    let (mood, standing) = story::standing(incident);
    let mut table = Table::default();
    let mut line = |name: &str, mood: Mood, value: &str| {
        if !value.is_empty() {
            table.row([Cell::new(Mood::Faint, name), Cell::new(mood, value)]);
        }
    };
    line("incident", Mood::Strong, &incident.id);
    line("workload", Mood::Plain, &incident.workload);
    let certainty = &incident.certainty;
    line("class", Mood::Plain, &format!("{}, {certainty}", incident.class));
    line("what", Mood::Bad, &incident.sentence);
    line("outcome", mood, &standing);
    line("times", Mood::Plain, &story::times(incident));
    line("fault at", Mood::Plain, &incident.fault_time);
    format!("{}\n{}", table.render(paint), story::chain(incident, paint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_says_that_there_is_more() {
        let many = vec![Incident::default(); 5];
        let text = newest(&many, 2, Paint(false));
        assert_eq!(text.lines().count(), 4);
        assert!(text.ends_with("… and 3 older (--last 0 shows all)\n"), "{text}");
        assert_eq!(newest(&many, 0, Paint(false)).lines().count(), 6);
    }
}
