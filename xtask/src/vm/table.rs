//! healer-userspace/KERNELS.md: what the guests said of their sensors, as tables between two marks.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::workspace;

const BEGIN: &str = "<!-- begin: made by `cargo xtask test --vm --bless` -->\n";
const END: &str = "<!-- end -->";

/// A guest's kernel, and the lines of its tests/tests/live_facts.rs.
pub(crate) struct Facts {
    pub(crate) kernel: String,
    pub(crate) lines: Vec<String>,
}

/// A sensor by one of its ways, on one kernel.
struct Way<'a> {
    sensor: &'a str,
    rung: &'a str,
    missing: BTreeSet<&'a str>,
}

/// Compares the document with what the guests say, or writes it anew.
///
/// # Errors
/// If it says something else of a sensor. What programs cost depends on the compiler as well and may differ.
pub(crate) fn check(facts: &[Facts], bless: bool) -> Result<()> {
    let path = workspace::root().join("healer-userspace/KERNELS.md");
    let document = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (before, rest) = document.split_once(BEGIN).context("KERNELS.md has lost its first mark")?;
    let (tables, after) = rest.split_once(END).context("KERNELS.md has lost its last mark")?;
    let sensors = format!("{}\n{}", sensors(facts), otherwise(facts));
    if bless {
        let new = format!("{before}{BEGIN}\n{sensors}\n{}\n{END}{after}", programs(facts));
        return fs::write(&path, new).with_context(|| path.display().to_string());
    }
    if tables.contains(&sensors) {
        return Ok(());
    }
    bail!(
        "KERNELS.md says other things of the sensors than these kernels do:\n{sensors}\n  \
         remedy: cargo xtask test --vm --bless, and look at the difference"
    )
}

/// Sensor × rung: what every kernel lacks, then what some lack besides.
fn sensors(facts: &[Facts]) -> String {
    let kernels: Vec<_> = facts.iter().map(|facts| facts.kernel.as_str()).collect();
    let of_kernels: Vec<Vec<Way<'_>>> = facts.iter().map(|facts| ways(&facts.lines)).collect();
    let mut table =
        format!("| sensor | rung | lacks on all of {} | besides |\n|---|---|---|---|\n", kernels.join(", "));
    for way in of_kernels.first().into_iter().flatten() {
        let is_same = |other: &&Way<'_>| (other.sensor, other.rung) == (way.sensor, way.rung);
        let missing: Vec<_> = of_kernels
            .iter()
            .map(|ways| ways.iter().find(is_same).map(|way| way.missing.clone()).unwrap_or_default())
            .collect();
        let common = missing.iter().skip(1).fold(way.missing.clone(), |common, more| &common & more);
        let besides: Vec<_> = kernels
            .iter()
            .zip(&missing)
            .map(|(kernel, missing)| (kernel, missing - &common))
            .filter(|(_, missing)| !missing.is_empty())
            .map(|(kernel, missing)| format!("{kernel}: {}", words(&missing)))
            .collect();
        let _infallible = writeln!(
            table,
            "| {} | {} | {} | {} |",
            way.sensor,
            way.rung,
            words(&common),
            besides.join("; ")
        );
    }
    table
}

/// What becomes of a signal when no way to it is left: the same on every kernel.
fn otherwise(facts: &[Facts]) -> String {
    let mut table = "| sensor | with no rung at all |\n|---|---|\n".to_owned();
    let lines = facts.first().into_iter().flat_map(|facts| &facts.lines);
    for (sensor, says) in lines.filter_map(|line| line.strip_prefix("otherwise\t")?.split_once('\t')) {
        let _infallible = writeln!(table, "| {sensor} | {says} |");
    }
    table
}

fn words(missing: &BTreeSet<&str>) -> String {
    let quoted: Vec<_> = missing.iter().map(|field| format!("`{field}`")).collect();
    if quoted.is_empty() { "nothing".to_owned() } else { quoted.join(", ") }
}

fn ways(lines: &[String]) -> Vec<Way<'_>> {
    let mut ways: Vec<_> = lines.iter().filter_map(|line| way(line)).collect();
    ways.sort_by_key(|way| way.sensor);
    ways
}

fn way(line: &str) -> Option<Way<'_>> {
    let mut words = line.strip_prefix("sensor\t")?.split('\t');
    // A console's line ends with its last word.
    let (sensor, rung, missing) = (words.next()?, words.next()?, words.next().unwrap_or_default());
    Some(Way { sensor, rung, missing: missing.split(',').filter(|field| !field.is_empty()).collect() })
}

/// Program × kernel: instructions that the verifier walked through.
fn programs(facts: &[Facts]) -> String {
    let mut table = "| program |".to_owned();
    for facts in facts {
        let _infallible = write!(table, " {} |", facts.kernel);
    }
    let _infallible = writeln!(table, "\n|---|{}", "---:|".repeat(facts.len()));
    let names = facts.iter().flat_map(|facts| facts.lines.iter().filter_map(|line| cost(line)));
    let names: BTreeSet<_> = names.map(|(name, _)| name).collect();
    for name in names {
        let _infallible = write!(table, "| {name} |");
        for facts in facts {
            let found = facts.lines.iter().filter_map(|line| cost(line)).find(|(other, _)| *other == name);
            let _infallible = write!(table, " {} |", found.map_or("not taken", |(_, cost)| cost));
        }
        table.push('\n');
    }
    table
}

fn cost(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("program\t")?.split_once('\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(kernel: &str, lines: &[&str]) -> Facts {
        Facts { kernel: kernel.to_owned(), lines: lines.iter().map(|&line| line.to_owned()).collect() }
    }

    #[test]
    fn what_all_lack_is_said_once() {
        let facts = [
            facts(
                "6.1",
                &[
                    "sensor\toom\ttracepoint\ta.x,b.y",
                    "sensor\texit\ttp_btf\t",
                    "program\toom\t12",
                    "otherwise\texit\tlooked for",
                ],
            ),
            facts("6.12", &["sensor\texit\ttp_btf", "sensor\toom\ttracepoint\ta.x"]),
        ];
        let table = sensors(&facts);
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(rows, ["| exit | tp_btf | nothing |  |", "| oom | tracepoint | `a.x` | 6.1: `b.y` |"]);
        assert!(programs(&facts).ends_with("| oom | 12 | not taken |\n"));
        assert!(otherwise(&facts).ends_with("| exit | looked for |\n"));
    }
}
