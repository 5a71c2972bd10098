//! The agent with exactly the capabilities of the DaemonSet and of the unit, with each of them missing, and what it
//! has given up once everything is loaded.

use std::process::Command;

use healer_tests::{
    deploy::{rights_of_daemon_set, rights_of_unit},
    home::{Agent, Home, is, signal_to},
    lent::Group,
    policies::{policy, restarting},
    rights::{healer_with, set_of},
    supervised::{Supervised, lives, name},
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::Value;

fn agent_with<'home>(home: &'home Home, rights: &[String]) -> Agent<'home> {
    let mut command = healer_with(rights);
    home.add_run(&mut command);
    home.agent_of(command)
}

pub(super) fn all_sensors_are_up(home: &Home) {
    let sensors = home.healer(&["sensors", "--json"]);
    let sensors: Value = serde_json::from_slice(&sensors.stdout).expect("sensors speak JSON");
    let sensors = sensors.as_array().cloned().unwrap_or_else(|| {
        sensors["sensors"].as_array().cloned().unwrap_or_else(|| panic!("no list of sensors: {sensors}"))
    });
    assert!(!sensors.is_empty());
    for sensor in sensors {
        let lesser = ["raw_tp", "tracepoint", "connector", "kmsg", "/proc"].map(Value::from);
        // A container of the tests may have no such right to give.
        let is_ours = sensor["reason"].as_str().is_some_and(|why| why.contains("CAP_SYS_RESOURCE"));
        let is_up = sensor["state"] == "attached" || is_ours && !may_raise_limits();
        assert!(is_up && !lesser.contains(&sensor["via"]), "{sensor}");
    }
}

/// CAP_SYS_RESOURCE is number 24 in linux/capability.h.
fn may_raise_limits() -> bool {
    set_of(std::process::id(), "CapEff:") & (1 << 24) != 0
}

/// BPF and PERFMON are numbers 39 and 38. Threads that the agent starts have what it had by then.
pub(super) fn no_thread_may_load(pid: u32) {
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let sets =
            status.lines().filter_map(|line| line.strip_prefix("CapEff:").or(line.strip_prefix("CapPrm:")));
        for set in sets {
            let set = u64::from_str_radix(set.trim(), 16).expect("hexadecimal");
            assert_eq!(set & (1 << 38 | 1 << 39), 0, "{status}");
        }
    }
}

fn what_only_loading_needs_is_gone(agent: &mut Agent<'_>) {
    let said = agent.says("rights", "")["says"].to_string();
    assert!(said.contains("are given up"), "{said}");
    no_thread_may_load(agent.pid());
    // The governor attaches its sensor again and again: it can, without those rights.
    agent.wait("system calls are counted", |agent| {
        let metrics = agent.get("/metrics");
        let counted = metrics.lines().find(|line| line.starts_with("healer_system_calls_per_second"))?;
        (counted.rsplit(' ').next()?.parse::<f64>().ok()? > 0.0).then_some(())
    });
}

#[test]
fn the_base_senses_with_the_rights_it_is_given() {
    let name = name();
    let rules =
        "  rules:\n    - {name: told, when: [{class: down}, {class: crash}], escalate: [{do: notify}]}\n";
    let home = Home::new(&policy("shadow", &format!("supervise: {name}"), rules));
    let mut agent = agent_with(&home, &rights_of_daemon_set(false));
    all_sensors_are_up(&home);
    what_only_loading_needs_is_gone(&mut agent);
    let service = Supervised::start(&home, &name, &["sh", "-c", "sleep 0.5; kill -SEGV $$"]);
    let seen = agent.record(&service.workload(), "diagnosis", "\"class\":\"crash\"");
    assert!(seen["sentence"].as_str().is_some_and(|says| says.contains("SIGSEGV")), "{seen}");
}

#[test]
fn hands_act_with_the_rights_they_are_given() {
    for rights in [rights_of_daemon_set(true), rights_of_unit()] {
        let name = name();
        let home = Home::new(&restarting(&name));
        let mut agent = agent_with(&home, &rights);
        all_sensors_are_up(&home);
        what_only_loading_needs_is_gone(&mut agent);
        let service = Supervised::start(&home, &name, &["sleep", "1000"]);
        signal_to(service.child(), Signal::KILL);
        agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
        assert!(lives(service.child()));
    }
}

/// What sees less, or by a lesser way; the rest are of the hands.
const DIMMED: [(&str, &str); 7] = [
    ("bpf", "process_exit"),
    ("perfmon", "process_exit"),
    ("sys_ptrace", "task_scan"),
    ("sys_ptrace", "levels"),
    ("sys_resource", "memory"),
    ("syslog", "oom_kill"),
    ("dac_read_search", "levels"),
];

fn is_dimmed(home: &Home, name: &str, right: &str) {
    let sensors = home.healer(&["sensors", "--json"]);
    let sensors: Value = serde_json::from_slice(&sensors.stdout).expect("sensors speak JSON");
    let mut all = sensors["sensors"].as_array().expect("a list").iter();
    let sensor = all.find(|sensor| sensor["name"] == name).expect(name);
    assert_eq!(sensor["state"], "degraded", "{sensor}");
    let said = format!("{}{}", sensor["reason"], sensor["remedy"]);
    assert!(said.contains(right), "{sensor}");
}

/// Whichever is missing: the agent starts, and it, `doctor`, a metric and the sensor that sees less name it.
#[test]
fn a_right_that_is_missing_is_named_with_its_cost() {
    let all = rights_of_daemon_set(true);
    let mut unit = rights_of_unit();
    unit.sort();
    assert_eq!(
        {
            let mut all = all.clone();
            all.sort();
            all
        },
        unit,
        "the unit is a DaemonSet with hands"
    );
    // DAC_OVERRIDE holds DAC_READ_SEARCH.
    let left = |missing: &str| -> Vec<String> {
        let goes = |name: &str| name == missing || missing == "dac_read_search" && name == "dac_override";
        all.iter().filter(|name| !goes(name)).cloned().collect()
    };
    for missing in &all {
        let others = left(missing);
        let said = healer_with(&others).args(["doctor", "--json"]).output().expect("healer can be started");
        let said: Value = serde_json::from_slice(&said.stdout).expect("doctor speaks JSON");
        let name = format!("CAP_{}", missing.to_uppercase());
        let checks = said["checks"].as_array().expect("checks");
        let check = checks.iter().find(|check| check["name"] == *name).unwrap_or_else(|| panic!("{name}"));
        assert_ne!(check["state"], "ok", "{check}");
        let words = |key: &str| check[key].as_str().filter(|words| !words.is_empty()).map(str::to_owned);
        let costs = words("costs").unwrap_or_else(|| panic!("{check}"));
        assert!(words("fix").is_some(), "{check}");

        let home = Home::new(&restarting("nobody"));
        let agent = agent_with(&home, &others);
        assert!(agent.log().contains(&format!("no {name}: {costs}")), "{}", agent.log());
        assert!(agent.get("/healthz").contains(" 200 "));
        let metrics = agent.get("/metrics");
        assert!(metrics.contains(&format!("healer_capability_held{{capability=\"{name}\"}} 0")), "{metrics}");
        let hurt = DIMMED.iter().filter(|(right, _)| *right == missing);
        hurt.for_each(|(_, sensor)| is_dimmed(&home, sensor, &name));
    }
}

/// Another user's process in a group of that user's: without the right the act fails in words, and nothing is changed.
#[test]
fn what_hands_cannot_reach_is_said() {
    const NOBODY: u32 = 65_534;
    let stop = ("kill", "{do: stop, grace: 1s, timeout: 5s}", ["Operation not permitted", "ended"]);
    let raise = (
        "dac_override",
        "{do: raise_limit, pidsMax: 140, by: 80%, undoAfter: 10m}",
        ["Permission denied", "\"done\""],
    );
    for ((right, rung, words), is_held) in [(&stop, false), (&stop, true), (&raise, false), (&raise, true)] {
        let mut rights = rights_of_daemon_set(true);
        rights.retain(|name| is_held || name != right);
        let home = Home::new("");
        let program = home.path().join("sleeps");
        std::fs::copy("/bin/sleep", &program).expect("the scratch directory can be written");
        let exe = program.canonicalize().expect("it is there");
        home.write_policy(&policy("enforce", &format!("exe: {}", exe.display()), &deaf(rung)));
        let mut other = Command::new("setpriv");
        other.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&exe).arg("1000");
        let other = Victim::spawn(&mut other);
        let group = Group::new();
        group.set_pids_max(100);
        group.take(other.tgid());
        group.belongs_to(NOBODY);
        let mut agent = agent_with(&home, &rights);
        agent.wait(&format!("{rung}: {}", words[usize::from(is_held)]), |agent| {
            let audit = agent.home().audit();
            audit.iter().any(|record| is(record, "result", words[usize::from(is_held)])).then_some(())
        });
        let has_more = group.pids_max() == "140";
        assert_eq!(has_more, is_held && *right == "dac_override", "{}", agent.log());
        drop(agent);
        drop(other);
    }
}

fn deaf(rung: &str) -> String {
    format!(
        "
  expect: {{probe: {{exec: {{command: [/bin/false]}}, period: 1s, failures: 1, startGrace: 1ms}}}}
  rules:
    - {{name: deaf, when: [{{class: probe_failed}}], escalate: [{rung}]}}
  verify: {{within: 30s, stableFor: 20s}}
"
    )
}

/// Without either nothing is silent: the other ways are taken, and said.
#[test]
fn without_bpf_or_perfmon_the_lesser_ways_are_taken_and_said() {
    for missing in ["bpf", "perfmon"] {
        let rights: Vec<String> =
            rights_of_daemon_set(true).into_iter().filter(|name| name != missing).collect();
        let name = name();
        let home = Home::new(&restarting(&name));
        let mut agent = agent_with(&home, &rights);
        let says = format!("it lacks CAP_{}", missing.to_uppercase());
        assert!(agent.log().contains(&says), "{}", agent.log());
        let service = Supervised::start(&home, &name, &["sleep", "1000"]);
        signal_to(service.child(), Signal::KILL);
        agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    }
}
