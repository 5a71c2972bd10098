//! The agent with exactly the capabilities of the DaemonSet and of the unit, with each of them missing, and what it
//! has given up once everything is loaded.

use std::process::Command;

use healer_tests::{
    binary::healer,
    home::{Agent, Home, is, signal_to},
    policies::{policy, restarting},
    scratch::Scratch,
    supervised::{Supervised, lives, name},
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::Value;

use super::manifests::{text, yaml};

/// `bpf`, `perfmon`, … as setpriv(1) has them.
fn of_daemon_set(with_hands: bool) -> Vec<String> {
    let set = yaml("kubernetes/base/daemonset.yaml");
    let rights = &set["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"];
    assert_eq!(rights["drop"][0], "ALL");
    let mut names: Vec<String> = serde_json::from_value(rights["add"].clone()).expect("a list of names");
    if with_hands {
        let hands = yaml("kubernetes/act/hands.yaml");
        let is_right =
            |patch: &&Value| patch["path"].as_str().is_some_and(|path| path.contains("capabilities"));
        let hands = hands.as_array().expect("patches").iter().filter(is_right);
        names.extend(hands.map(|patch| patch["value"].as_str().expect("a name").to_owned()));
    }
    names.iter().map(|name| name.to_lowercase()).collect()
}

fn of_unit() -> Vec<String> {
    let unit = text("systemd/healer.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = line.expect("the unit has a bounding set").split_ascii_whitespace();
    names.map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect()
}

fn with_rights(rights: &[String]) -> Command {
    let set: String = rights.iter().map(|name| format!(",+{name}")).collect();
    let mut command = Command::new("setpriv");
    command.args([&format!("--bounding-set=-all{set}"), "--inh-caps=-all", "--no-new-privs"]);
    command.arg(healer());
    command
}

fn agent_with<'home>(home: &'home Home, rights: &[String]) -> Agent<'home> {
    let mut command = with_rights(rights);
    home.add_run(&mut command);
    home.agent_of(command)
}

fn all_sensors_are_up(home: &Home) {
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
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs is mounted");
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff");
    let bits = u64::from_str_radix(bits.trim(), 16).expect("hexadecimal");
    bits & (1 << 24) != 0
}

/// BPF and PERFMON are numbers 39 and 38. Threads that the agent starts have what it had by then.
fn what_only_loading_needs_is_gone(agent: &mut Agent<'_>) {
    let said = agent.says("rights", "")["says"].to_string();
    assert!(said.contains("are given up"), "{said}");
    for task in std::fs::read_dir(format!("/proc/{}/task", agent.pid())).expect("it lives").flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let sets =
            status.lines().filter_map(|line| line.strip_prefix("CapEff:").or(line.strip_prefix("CapPrm:")));
        for set in sets {
            let set = u64::from_str_radix(set.trim(), 16).expect("hexadecimal");
            assert_eq!(set & (1 << 38 | 1 << 39), 0, "{status}");
        }
    }
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
    let mut agent = agent_with(&home, &of_daemon_set(false));
    all_sensors_are_up(&home);
    what_only_loading_needs_is_gone(&mut agent);
    let service = Supervised::start(&home, &name, &["sh", "-c", "sleep 0.5; kill -SEGV $$"]);
    let seen = agent.record(&service.workload(), "diagnosis", "\"class\":\"crash\"");
    assert!(seen["sentence"].as_str().is_some_and(|says| says.contains("SIGSEGV")), "{seen}");
}

#[test]
fn hands_act_with_the_rights_they_are_given() {
    for rights in [of_daemon_set(true), of_unit()] {
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

/// Whichever is missing: the agent starts, and it and `doctor` name it and what it costs.
#[test]
fn a_right_that_is_missing_is_named_with_its_cost() {
    let all = of_daemon_set(true);
    let mut unit = of_unit();
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
        let said = with_rights(&others).args(["doctor", "--json"]).output().expect("healer can be started");
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
    }
}

const DEAF: &str = "
  expect: {probe: {exec: {command: [/bin/false]}, period: 1s, failures: 1, startGrace: 1ms}}
  rules:
    - {name: stop, when: [{class: probe_failed}], escalate: [{do: stop, grace: 1s, timeout: 5s}]}
  verify: {within: 5s, stableFor: 100ms}
";

/// Another user's process: with KILL it is stopped, without it the act fails in words.
#[test]
fn without_kill_the_processes_of_others_stay_and_it_is_said() {
    for (has_kill, words) in [(false, "Operation not permitted"), (true, "ended")] {
        let rights =
            of_daemon_set(true).into_iter().filter(|name| has_kill || name != "kill").collect::<Vec<_>>();
        let scratch = Scratch::new();
        let program = scratch.path().join("sleeps");
        std::fs::copy("/bin/sleep", &program).expect("the scratch directory can be written");
        let exe = program.canonicalize().expect("it is there");
        let home = Home::new(&policy("enforce", &format!("exe: {}", exe.display()), DEAF));
        let mut other = Command::new("setpriv");
        other.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&exe).arg("1000");
        let other = Victim::spawn(&mut other);
        let mut agent = agent_with(&home, &rights);
        agent.wait("the act's result", |agent| {
            let audit = agent.home().audit();
            audit.iter().any(|record| is(record, "result", words)).then_some(())
        });
        drop(other);
    }
}

/// Without either nothing is silent: the other ways are taken, and said.
#[test]
fn without_bpf_or_perfmon_the_lesser_ways_are_taken_and_said() {
    for missing in ["bpf", "perfmon"] {
        let rights: Vec<String> = of_daemon_set(true).into_iter().filter(|name| name != missing).collect();
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
