//! From the moment something breaks to its diagnosis, beside what the experiment needed.

use std::{fs, panic, path::Path, thread, time::Duration};

use anyhow::{Context as _, anyhow};
use healer_userspace::{clock, engine::time::BootTime};
use serde_json::Value;

use crate::{
    bench::{agent::Agent, args::Args, figure::Figure, pairs, say},
    network::{Net, SERVERS},
    scenarios::{ROWS, Row, Scenario},
    scratch::Scratch,
};

const POLICY: &str = "apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {name: network}
spec:
  mode: shadow
  rules: [{name: tell, when: [{class: network_isolation}, {class: dependency_failure}], escalate: [{do: notify}]}]
";
/// Its peers have answered by then, and its namespace is looked at.
const IS_WELL: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(40);
/// Scenarios that are there at once; they break one after the other.
const AT_ONCE: usize = 3;

pub(super) fn times(args: &Args) -> anyhow::Result<Vec<Figure>> {
    let repeats = if args.quick { 1 } else { 3 };
    // The scenarios are the tests', and panic where the machine lacks something.
    let measured = panic::catch_unwind(|| of_all(repeats));
    measured.unwrap_or_else(|_panic| Err(anyhow!("a scenario cannot be made (root, iproute2, iptables)")))
}

fn of_all(repeats: usize) -> anyhow::Result<Vec<Figure>> {
    let home = Scratch::new();
    let policy = home.path().join("policy.yaml");
    fs::write(&policy, POLICY)?;
    let state = home.path().join("state");
    let _agent = Agent::start_in(&state, &["--policy", &policy.display().to_string()])?;
    // Whoever is cut off is not the whole node.
    let mut healthy = Net::new("healthy", false);
    healthy.serve("", &SERVERS);
    healthy.client("--keep", &SERVERS);
    let mut figures = Vec::new();
    for rows in ROWS.chunks(AT_ONCE) {
        let mut seconds = vec![Vec::new(); rows.len()];
        for _repeat in 0..repeats {
            let all: Vec<Scenario> = rows.iter().map(|row| Scenario::begin(row, false)).collect();
            thread::sleep(IS_WELL);
            for (one, seconds) in all.iter().zip(&mut seconds) {
                say(&format!("network: {}", one.row.name));
                seconds.push(time(one, &state)?);
            }
        }
        figures.extend(rows.iter().zip(seconds).map(|(row, seconds)| figure(row, seconds)));
    }
    Ok(figures)
}

/// Who was not found counts as found when the patience was over, which misses the aim.
fn figure(row: &Row, seconds: Vec<Option<f64>>) -> Figure {
    let patience = PATIENCE.as_secs_f64();
    let missed = seconds.iter().filter(|second| second.is_none()).count();
    let sorted = pairs::sorted(seconds.into_iter().map(|second| second.unwrap_or(patience)));
    let mut shown: Vec<String> = sorted.iter().map(|second| format!("{second:.2}")).collect();
    shown.truncate(sorted.len() - missed);
    if 0 < missed {
        shown.push(format!("and {missed} NOT FOUND in {patience} s"));
    }
    let beside = row.experiment.map_or_else(|| "none".to_owned(), |seconds| format!("{seconds:.2} s"));
    let name = format!("{} {}: fault to diagnosis, {}", row.class, row.kind, row.name);
    Figure::new(&name, pairs::median(&sorted).unwrap_or(patience), "s")
        .at_most(patience - 1.0)
        .remark(format!("of {}; the experiment: {beside}", shown.join(", ")))
}

/// Seconds until the right diagnosis; a doubt before it is none. `None` if it does not come.
fn time(one: &Scenario, state: &Path) -> anyhow::Result<Option<f64>> {
    let broken = clock::boot();
    (one.row.breaks)(one);
    while clock::boot().since(broken) < PATIENCE {
        let text = fs::read_to_string(state.join("audit.jsonl")).unwrap_or_default();
        let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(found) = records.into_iter().find(|record| is_it(record, one)) {
            let detected = found["detected_boot_ns"].as_u64().context("a diagnosis has its time")?;
            return Ok(Some(BootTime(detected).since(broken).as_secs_f64()));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(None)
}

fn is_it(record: &Value, one: &Scenario) -> bool {
    record["record"] == "diagnosis"
        && record["class"] == one.row.class
        && record["detail"]["kind"] == one.row.kind
        && record["certainty"] != "suspected"
        && record["target"].to_string().contains(&one.patient)
}
