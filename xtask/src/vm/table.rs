//! healer-userspace/KERNELS.md: what the guests said of their sensors, as tables between two marks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::workspace;

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
/// If it says something else of a sensor, or if a program costs much more. What programs cost depends on the compiler
/// as well and may differ.
pub(crate) fn check(facts: &[Facts], arch: Arch, bless: bool) -> Result<()> {
    let path = workspace::root().join("healer-userspace/KERNELS.md");
    let document = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let begin = begin(arch);
    let (before, rest) = document.split_once(begin).context("KERNELS.md has lost its first mark")?;
    let (tables, after) = rest.split_once(END).context("KERNELS.md has lost its last mark")?;
    let sensors = format!("{}\n{}", sensors(facts), otherwise(facts));
    if bless {
        let new = format!("{before}{begin}\n{sensors}\n{}\n{END}{after}", programs(facts));
        return fs::write(&path, new).with_context(|| path.display().to_string());
    }
    if tables.trim().is_empty() {
        println!("KERNELS.md has no tables of these kernels yet: --bless writes them");
        return Ok(());
    }
    if tables.contains(&sensors) {
        return within_bounds(tables, facts);
    }
    bail!(
        "KERNELS.md says other things of the sensors than these kernels do:\n{sensors}\n  \
         remedy: cargo xtask test --vm --bless, and look at the difference"
    )
}

/// Each processor's tables have a place of their own.
const fn begin(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "<!-- begin: made by `cargo xtask test --vm --bless` -->\n",
        Arch::Aarch64 => "<!-- begin: made by `cargo xtask test --vm --arch aarch64 --bless` -->\n",
    }
}

/// Twice of what was written down, and something for the small, is no other compiler's doing.
fn within_bounds(tables: &str, facts: &[Facts]) -> Result<()> {
    const SLACK: u32 = 1000;
    let known = costs(tables);
    let mut dear = Vec::new();
    for Facts { kernel, lines } in facts {
        for (program, cost) in lines.iter().filter_map(|line| cost(line)) {
            let before = known.get(&(program, kernel.as_str())).copied();
            let now: u32 = cost.trim().parse().with_context(|| format!("{program}: {cost}"))?;
            match before {
                Some(before) if now <= 2 * before + SLACK => {}
                Some(before) => dear.push(format!("{program} on {kernel}: {now}, it was {before}")),
                None => {
                    dear.push(format!("{program} on {kernel}: {now}, and KERNELS.md has no number for it"))
                }
            }
        }
    }
    if dear.is_empty() {
        return Ok(());
    }
    bail!(
        "programs cost the verifier more than KERNELS.md says:\n{}\n  \
         remedy: make them cheaper, or cargo xtask test --vm --bless",
        dear.join("\n")
    )
}

/// By program and kernel, of the table that [`programs`] writes.
fn costs(tables: &str) -> BTreeMap<(&str, &str), u32> {
    let mut lines = tables.lines().skip_while(|line| !line.starts_with("| program |"));
    let cells = |line| -> Vec<&str> {
        str::split(line, '|').map(str::trim).filter(|cell| !cell.is_empty()).collect()
    };
    let head = lines.next().map(cells).unwrap_or_default();
    let mut costs = BTreeMap::new();
    for row in lines.skip(1).take_while(|line| line.starts_with('|')).map(cells) {
        let program = row.first().copied().unwrap_or_default();
        for (kernel, cost) in head.iter().zip(&row).skip(1) {
            costs.extend(cost.parse().ok().map(|cost| ((program, *kernel), cost)));
        }
    }
    costs
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
    fn a_program_that_costs_much_more_is_told_and_a_little_more_is_not() {
        let known = [facts("6.1", &["program\toom\t9000", "program\texit\t10"])];
        let table = programs(&known);
        let told =
            |lines: &[&str]| within_bounds(&table, &[facts("6.1", lines)]).map_err(|error| error.to_string());
        assert_eq!(told(&["program\toom\t12000", "program\texit\t900\r"]), Ok(()));
        let dear = told(&["program\toom\t40000"]).unwrap_err();
        assert!(dear.contains("oom on 6.1: 40000, it was 9000"), "{dear}");
        assert!(told(&["program\tnew\t4"]).unwrap_err().contains("no number for it"));
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
