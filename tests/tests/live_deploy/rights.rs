//! The agent with exactly the capabilities of the DaemonSet and of the unit.

use std::process::Command;

use healer_tests::{
    binary::healer,
    home::{Home, signal_to},
    policies::{policy, restarting},
    supervised::{Supervised, lives, name},
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

fn agent_with<'home>(home: &'home Home, rights: &[String]) -> healer_tests::home::Agent<'home> {
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

#[test]
fn the_base_senses_with_the_rights_it_is_given() {
    let name = name();
    let rules =
        "  rules:\n    - {name: told, when: [{class: down}, {class: crash}], escalate: [{do: notify}]}\n";
    let home = Home::new(&policy("shadow", &format!("supervise: {name}"), rules));
    let mut agent = agent_with(&home, &of_daemon_set(false));
    all_sensors_are_up(&home);
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
        let service = Supervised::start(&home, &name, &["sleep", "1000"]);
        signal_to(service.child(), Signal::KILL);
        agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
        assert!(lives(service.child()));
    }
}

/// Whichever is missing, `doctor` names it, what it costs and what mends it.
#[test]
fn a_right_that_is_missing_is_named_with_its_cost() {
    // DAC_OVERRIDE holds DAC_READ_SEARCH.
    let all: Vec<String> = of_daemon_set(true).into_iter().filter(|name| name != "dac_override").collect();
    for missing in &all {
        let others: Vec<String> = all.iter().filter(|name| *name != missing).cloned().collect();
        let said = with_rights(&others).args(["doctor", "--json"]).output().expect("healer can be started");
        let said: Value = serde_json::from_slice(&said.stdout).expect("doctor speaks JSON");
        let name = format!("CAP_{}", missing.to_uppercase());
        let checks = said["checks"].as_array().expect("checks");
        let check = checks.iter().find(|check| check["name"] == *name).unwrap_or_else(|| panic!("{name}"));
        assert_ne!(check["state"], "ok", "{check}");
        for words in ["costs", "fix"] {
            assert!(check[words].as_str().is_some_and(|words| !words.is_empty()), "{words}: {check}");
        }
    }
}

/// Without BPF nothing is silent: the other ways are taken, and said.
#[test]
fn without_bpf_the_lesser_ways_are_taken_and_said() {
    let rights: Vec<String> = of_daemon_set(true).into_iter().filter(|name| name != "bpf").collect();
    let name = name();
    let home = Home::new(&restarting(&name));
    let mut agent = agent_with(&home, &rights);
    assert!(agent.log().contains("CAP_BPF"), "{}", agent.log());
    let service = Supervised::start(&home, &name, &["sleep", "1000"]);
    signal_to(service.child(), Signal::KILL);
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
}
