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
/// If it says something else of a sensor or nothing at all, if a kernel does not tell of its sensors, or if a program
/// costs much more. What programs cost depends on the compiler as well and may differ.
pub(crate) fn check(facts: &[Facts], arch: Arch, bless: bool) -> Result<()> {
    all_have_told(facts)?;
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
    same_sensors(tables, &sensors)?;
    within_bounds(tables, facts)
}

/// What a guest does not tell would read as what its kernel does not lack.
fn all_have_told(facts: &[Facts]) -> Result<()> {
    let silent = facts.iter().filter(|facts| ways(&facts.lines).is_empty());
    let silent: Vec<_> = silent.map(|facts| facts.kernel.as_str()).collect();
    if facts.is_empty() || !silent.is_empty() {
        bail!(
            "no guest told of its sensors, or these did not: {silent:?}\n  \
             remedy: live_facts must run in each; read target/vm/GUEST"
        );
    }
    Ok(())
}

fn same_sensors(tables: &str, sensors: &str) -> Result<()> {
    if tables.contains(sensors) {
        return Ok(());
    }
    let how = if tables.trim().is_empty() { "nothing" } else { "other things" };
    bail!(
        "KERNELS.md says {how} of the sensors than these kernels do:\n{sensors}\n  \
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
    for ((program, kernel), before) in &known {
        let mut told = facts.iter().filter(|facts| facts.kernel == *kernel);
        let is_told = |line: &String| cost(line).is_some_and(|(told, _)| told == *program);
        if told.any(|facts| !facts.lines.iter().any(is_told)) {
            dear.push(format!("{program} on {kernel}: not taken, it was {before}"));
        }
    }
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
        "KERNELS.md says other things of what programs cost the verifier:\n{}\n  \
         remedy: make them cheaper, or cargo xtask test --vm --bless, and look at the difference",
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

/// Sensor × rung: what every kernel that takes it lacks, then what some lack besides, and who does not take it.
fn sensors(facts: &[Facts]) -> String {
    let kernels: Vec<_> = facts.iter().map(|facts| facts.kernel.as_str()).collect();
    let of_kernels: Vec<Vec<Way<'_>>> = facts.iter().map(|facts| ways(&facts.lines)).collect();
    let mut table =
        format!("| sensor | rung | lacks on all of {} | besides |\n|---|---|---|---|\n", kernels.join(", "));
    for (sensor, rung) in taken_by_any(&of_kernels) {
        let is_it = |way: &&Way<'_>| (way.sensor, way.rung) == (sensor, rung);
        let missing: Vec<_> =
            of_kernels.iter().map(|ways| ways.iter().find(is_it).map(|way| &way.missing)).collect();
        let common = missing.iter().copied().flatten().cloned().reduce(|common, more| &common & &more);
        let common = common.unwrap_or_default();
        let besides: Vec<_> = kernels
            .iter()
            .zip(missing)
            .filter_map(|(kernel, missing)| Some(format!("{kernel}: {}", beside(missing, &common)?)))
            .collect();
        let (common, besides) = (words(&common), besides.join("; "));
        let _infallible = writeln!(table, "| {sensor} | {rung} | {common} | {besides} |");
    }
    table
}

/// What one kernel lacks besides; `None`: nothing.
fn beside(missing: Option<&BTreeSet<&str>>, common: &BTreeSet<&str>) -> Option<String> {
    let Some(missing) = missing else {
        return Some("not taken".to_owned());
    };
    let more = missing - common;
    (!more.is_empty()).then(|| words(&more))
}

/// Each way that some kernel takes, once; a sensor's in the order in which they were told.
fn taken_by_any<'a>(of_kernels: &[Vec<Way<'a>>]) -> Vec<(&'a str, &'a str)> {
    let mut taken = Vec::new();
    for way in of_kernels.iter().flatten().map(|way| (way.sensor, way.rung)) {
        if !taken.contains(&way) {
            taken.push(way);
        }
    }
    taken.sort_by_key(|(sensor, _)| *sensor);
    taken
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
        let new = told(&["program\tnew\t4"]).unwrap_err();
        assert!(new.contains("no number for it") && new.contains("oom on 6.1: not taken"), "{new}");
    }

    #[test]
    fn a_way_that_a_kernel_does_not_take_is_not_one_that_lacks_nothing() {
        let facts = [
            facts("6.1", &["sensor\toom\ttp_btf\t", "sensor\toom\tkmsg\ta.x"]),
            facts("6.12", &["sensor\toom\tkmsg\ta.x", "sensor\texit\traw_tp\tb.y"]),
        ];
        let table = sensors(&facts);
        let rows: Vec<_> = table.lines().skip(2).collect();
        let expected = [
            "| exit | raw_tp | `b.y` | 6.1: not taken |",
            "| oom | tp_btf | nothing | 6.12: not taken |",
            "| oom | kmsg | `a.x` |  |",
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn who_told_nothing_and_what_says_nothing_pass_no_check() {
        let told = |facts: &[Facts]| all_have_told(facts).map_err(|error| error.to_string());
        let well = || facts("6.1", &["sensor\toom\ttp_btf\t"]);
        assert_eq!(told(&[well()]), Ok(()));
        assert!(told(&[]).unwrap_err().contains("no guest told"));
        let silent = told(&[well(), facts("6.12", &["program\toom\t12"])]).unwrap_err();
        assert!(silent.contains("6.12") && !silent.contains("6.1\""), "{silent}");
        let table = sensors(&[well()]);
        assert!(same_sensors(&table, &table).is_ok());
        assert!(same_sensors("\n", &table).unwrap_err().to_string().contains("says nothing"));
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
