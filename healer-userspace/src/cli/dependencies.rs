//! `healer dependencies`

use std::{path::Path, process::ExitCode};

use super::output::{Cell, Mood, Paint, Table, emit, emit_json};
use crate::{
    control::{Request, client::ask},
    report::dependencies::{Dependency, EdgeState},
    text::printable,
};

/// Who connects to whom, and how that goes
#[derive(clap::Args)]
pub struct Args {
    /// For scripts
    #[arg(long, conflicts_with = "dot")]
    json: bool,
    /// For Graphviz: `healer dependencies --dot | dot -Tsvg`
    #[arg(long)]
    dot: bool,
}

pub fn run(args: &Args, state_dir: &Path) -> anyhow::Result<ExitCode> {
    let answer = ask(state_dir, &Request::Dependencies)?;
    if args.json {
        emit_json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let edges: Vec<Dependency> = serde_json::from_value(answer["dependencies"].clone())?;
    emit(&if args.dot { dot(&edges) } else { render(&edges, Paint::of_stdout()) })?;
    Ok(ExitCode::SUCCESS)
}

fn render(edges: &[Dependency], paint: Paint) -> String {
    if edges.is_empty() {
        return "no connections seen yet\n".into();
    }
    let mut table =
        Table::with_head(&["WORKLOAD", "PEER", "STATE", "OK", "FAILED", "PER S", "SLOWEST", "RTT", "SERVER"]);
    for edge in edges {
        let mood = match edge.state {
            EdgeState::Ok => Mood::Good,
            EdgeState::Failing => Mood::Bad,
            EdgeState::Declared => Mood::Plain,
        };
        table.row([
            Cell::from(printable(&edge.workload).into_owned()),
            Cell::from(&edge.peer),
            Cell::new(mood, edge.state.name()),
            Cell::from(edge.ok.to_string()),
            Cell::from(edge.failed.to_string()),
            Cell::from(edge.per_second.to_string()),
            Cell::from(millis(edge.slowest_us)),
            Cell::from(edge.rtt_us.map_or("-".into(), millis)),
            Cell::from(edge.server.as_deref().map_or("-".into(), printable).into_owned()),
        ]);
    }
    table.render(paint)
}

fn millis(us: u32) -> String {
    format!("{:.1}ms", f64::from(us) / 1e3)
}

/// A peer that is a workload of this node is drawn as that workload.
fn dot(edges: &[Dependency]) -> String {
    let mut text = String::from("digraph dependencies {\n  rankdir=LR;\n");
    for edge in edges {
        let to = edge.server.as_ref().unwrap_or(&edge.peer);
        let colour = match edge.state {
            EdgeState::Ok => "",
            EdgeState::Failing => ", color=red",
            EdgeState::Declared => ", style=dashed",
        };
        let label = format!("{} ({} ok, {} failed)", edge.peer, edge.ok, edge.failed);
        text.push_str(&format!(
            "  {} -> {} [label={}{colour}];\n",
            quoted(&edge.workload),
            quoted(to),
            quoted(&label)
        ));
    }
    text.push_str("}\n");
    text
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", printable(text).replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn edge() -> Dependency {
        serde_json::from_value(json!({
            "workload": "unit/\"api\"", "peer": "10.0.0.5:5432", "server": "unit/db", "netns": 1, "state": "failing",
            "ok": 3, "failed": 2, "per_second": 0.5, "retransmits": 0, "slowest_us": 1500, "rtt_us": 240,
            "last_ok_boot_ns": null, "last_bad_boot_ns": 5,
        }))
        .unwrap()
    }

    #[test]
    fn an_edge_is_a_line() {
        let text = render(&[edge()], Paint(false));
        assert!(
            text.contains("10.0.0.5:5432  failing  3   2       0.5    1.5ms    0.2ms  unit/db"),
            "{text}"
        );
        assert_eq!(render(&[], Paint(false)), "no connections seen yet\n");
    }

    #[test]
    fn names_cannot_leave_their_quotes() {
        let text = dot(&[edge()]);
        assert!(
            text.contains(
                r#"  "unit/\"api\"" -> "unit/db" [label="10.0.0.5:5432 (3 ok, 2 failed)", color=red];"#
            ),
            "{text}"
        );
    }
}
