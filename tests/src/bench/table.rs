//! The figures as markdown, and their change against an earlier run.

use core::fmt::Write as _;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    cost::Row,
    figure::{Figure, number},
    peers,
};

/// All that one run says; the JSON file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// RFC 3339.
    pub time: String,
    pub machine: String,
    pub healer: String,
    pub is_quick: bool,
    pub cost: Vec<Row>,
    pub figures: Vec<Figure>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<peers::Row>,
    /// What could not be measured, and why.
    pub not_measured: Vec<String>,
}

/// The whole page.
#[must_use]
pub fn page(results: &Results) -> String {
    let mut page = format!("# healer bench\n\n{}, {}\n{}\n", results.time, results.machine, results.healer);
    if results.is_quick {
        page.push_str("\nA quick run: figures to develop by, not to quote.\n");
    }
    if !results.cost.is_empty() {
        page.push_str(&costs(&results.cost));
    }
    if !results.figures.is_empty() {
        page.push_str(&figures(&results.figures));
    }
    if !results.peers.is_empty() {
        page.push_str(&peers::table(&results.peers));
    }
    for words in &results.not_measured {
        let _infallible = write!(page, "\nNot measured: {words}\n");
    }
    page
}

fn costs(rows: &[Row]) -> String {
    let mut text =
        "\n## Cost\n\nTime with ÷ time without, 1 is free: median [lowest..highest] of pairs run in turn. \
        The empty programs hang on the same hooks as healer's. A/A is the machine against itself: a ratio \
        inside its range means nothing.\n\n\
        | load | | healer's programs on it | without | with healer | empty programs | A/A control | aim | |\n\
        |---|---|---|--:|---|---|---|---|---|\n"
            .to_owned();
    for row in rows {
        let shown =
            |ratio: Option<super::pairs::Ratio>| ratio.map_or_else(|| "–".to_owned(), |it| it.to_string());
        let _infallible = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | ≤ {:.2} | {} |",
            row.load,
            row.what,
            row.programs,
            nanos(row.bare_ns),
            row.healer,
            shown(row.floor),
            shown(row.control),
            row.aim,
            row.verdict()
        );
    }
    text
}

fn nanos(value: f64) -> String {
    if value < 10_000.0 { format!("{value:.0} ns") } else { format!("{:.1} µs", value / 1000.0) }
}

fn figures(figures: &[Figure]) -> String {
    let mut text = "\n## Figures\n\n| | value | aim | | |\n|---|--:|---|---|---|\n".to_owned();
    for figure in figures {
        let _infallible = writeln!(
            text,
            "| {} | {} {} | {} | {} | {} |",
            figure.name,
            number(figure.value),
            figure.unit,
            figure.aim_shown(),
            figure.verdict(),
            figure.remark
        );
    }
    text
}

/// What changed since `old`, for every name that both have.
#[must_use]
pub fn changes(old: &Results, new: &Results) -> String {
    let mut text = format!("\n## Against {}\n\n| | then | now | now ÷ then |\n|---|--:|--:|--:|\n", old.time);
    let before = by_name(old);
    for (name, now) in by_name(new) {
        if let Some(then) = before.get(&name) {
            let ratio = if *then == 0.0 { "–".to_owned() } else { format!("{:.3}", now / then) };
            let _infallible = writeln!(text, "| {name} | {} | {} | {ratio} |", number(*then), number(now));
        }
    }
    text
}

fn by_name(results: &Results) -> BTreeMap<String, f64> {
    let costs = results.cost.iter().map(|row| (format!("cost: {}", row.load), row.healer.median));
    let figures =
        results.figures.iter().map(|figure| (format!("{} ({})", figure.name, figure.unit), figure.value));
    costs.chain(figures).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::pairs::Ratio;

    fn results(median: f64, attach: f64) -> Results {
        let ratio = Ratio { median, lowest: 0.99, highest: 1.2 };
        let row = Row {
            load: "sig".into(),
            what: "a signal".into(),
            programs: "signal_sent".into(),
            bare_ns: 2570.0,
            healer: ratio,
            floor: None,
            control: Some(Ratio { median: 1.0, lowest: 0.98, highest: 1.01 }),
            aim: 1.06,
        };
        let figure = Figure::new("attach", attach, "ms").at_most(300.0);
        Results { cost: vec![row], figures: vec![figure], ..Results::default() }
    }

    #[test]
    fn a_row_says_what_was_aimed_at_and_whether_it_was_reached() {
        let text = page(&results(1.1, 400.0));
        let row = "| sig | a signal | signal_sent | 2570 ns | 1.100 [0.990..1.200] | – | 1.000 [0.980..1.010] | ≤ 1.06 | MISSED |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| attach | 400 ms | ≤ 300 | MISSED |  |"), "{text}");
        assert!(page(&results(1.07, 1.0)).contains("ok within noise"));
    }

    #[test]
    fn a_change_is_told_for_what_both_have() {
        let text = changes(&results(1.0, 200.0), &results(1.1, 100.0));
        assert!(text.contains("| cost: sig | 1 | 1.10 | 1.100 |"), "{text}");
        assert!(text.contains("| attach (ms) | 200 | 100 | 0.500 |"), "{text}");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let json = serde_json::to_string(&results(1.0, 2.0)).unwrap();
        let back: Results = serde_json::from_str(&json).unwrap();
        assert_eq!(page(&back), page(&results(1.0, 2.0)));
    }
}
