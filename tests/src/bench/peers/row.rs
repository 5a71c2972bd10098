//! One subject in one scene, and all of them as markdown.

use core::fmt::Write as _;
use std::fs;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    pub scene: String,
    pub who: String,
    /// Of the victim's limit, when it first said something.
    pub left_mib: Option<f64>,
    /// From its first word to the first death.
    pub ahead_s: Option<f64>,
    pub did: String,
    pub died: String,
    pub explained: String,
    /// Of the subject itself, when the scene was over.
    pub resident_mib: Option<f64>,
    pub cpu_s: Option<f64>,
}

/// Of `/proc/PID/stat` (USER_HZ).
const TICKS: f64 = 100.0;

impl Row {
    /// What the process of the subject holds and has used.
    pub(super) fn at_cost_of(mut self, pid: Option<u32>) -> Self {
        let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", pid.unwrap_or_default()));
        let (status, stat) = (read("status").unwrap_or_default(), read("stat").unwrap_or_default());
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        self.resident_mib = kib.map(|kib| kib / 1024.0);
        // User and system time are fields 14 and 15 (proc_pid_stat(5)), the 12th and 13th after the name.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks: Vec<f64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        self.cpu_s = (ticks.len() == 2).then(|| ticks.iter().sum::<f64>() / TICKS);
        self
    }
}

#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = "\n## Beside earlyoom and nohang\n\nTheir own settings; a namespace in which they see the victim \
                    alone. healer: `do: stop, grace: 1s` under `timeToLimit: 20s` (in the first scene in shadow).\n\n\
                    | victim | | first word with | ahead of the first death | did | died | explained | holds | CPU |\n\
                    |---|---|--:|--:|---|---|---|--:|--:|\n"
        .to_owned();
    for row in rows {
        let shown = |value: Option<f64>, unit: &str| {
            value.map_or("–".to_owned(), |value| format!("{value:.1} {unit}"))
        };
        let _infallible = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.scene,
            row.who,
            shown(row.left_mib, "MiB left"),
            shown(row.ahead_s, "s"),
            cell(&row.did),
            cell(&row.died),
            cell(&row.explained),
            shown(row.resident_mib, "MiB"),
            row.cpu_s.map_or("–".to_owned(), |seconds| format!("{seconds:.2} s")),
        );
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_a_word_is_a_row_all_the_same() {
        let row = Row { who: "earlyoom".into(), did: "a | b".into(), ..Row::default() };
        let said = Row { left_mib: Some(25.0), ahead_s: Some(0.25), ..row.clone() };
        let text = table(&[row, said]);
        assert!(text.contains("|  | earlyoom | – | – | a \\| b |"), "{text}");
        assert!(text.contains("| 25.0 MiB left | 0.2 s |"), "{text}");
    }

    #[test]
    fn ones_own_cost_can_be_read() {
        let row = Row::default().at_cost_of(Some(std::process::id()));
        assert!(row.resident_mib.is_some_and(|mib| 0.5 < mib) && row.cpu_s.is_some());
    }
}
