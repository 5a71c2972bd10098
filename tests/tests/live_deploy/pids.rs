//! The agent in a container that was not given the host's pid namespace.

use std::process::Command;

use healer_tests::{binary::healer, home::Home, policies::policy, supervised::name};
use rustix::process::Signal;
use serde_json::Value;

/// `unshare` dies with the agent, and the agent with it.
fn apart() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(healer());
    command
}

#[test]
fn in_a_pid_namespace_of_its_own_it_says_so_and_accuses_nobody() {
    let rules = "  rules:\n    - {name: told, when: [{class: down}], escalate: [{do: notify}]}\n";
    let home = Home::new(&policy("shadow", &format!("supervise: {}", name()), rules));
    let mut command = apart();
    home.add_run(&mut command);
    let agent = home.agent_of(command);
    let sensors = home.healer(&["sensors", "--json"]);
    let sensors: Value = serde_json::from_slice(&sensors.stdout).expect("sensors speak JSON");
    let sensors = sensors.as_array().or_else(|| sensors["sensors"].as_array()).expect("a list").clone();
    let kernels = ["process_exit", "process_exec", "signal_sent", "oom_kill", "reclaim_stall", "task_hung"];
    for name in kernels {
        let sensor = sensors.iter().find(|sensor| sensor["name"] == name).expect(name);
        assert_eq!(sensor["state"], "down", "{sensor}");
        let (reason, remedy) = (sensor["reason"].to_string(), sensor["remedy"].to_string());
        assert!(reason.contains("pid namespace of its own"), "{sensor}");
        assert!(remedy.contains("hostPID: true") && remedy.contains("--pid=host"), "{sensor}");
    }
    let scan = sensors.iter().find(|sensor| sensor["name"] == "task_scan").expect("the scan");
    assert_eq!(scan["via"], "proc", "{scan}");
    for sensor in &sensors {
        // Who could not be checked is no liar; a row without the word would be neither.
        let word = sensor["self_check"].as_str().expect("each says whether it was checked");
        assert!(["not_checked", "truthful"].contains(&word), "{sensor}");
    }
    assert!(!agent.log().contains("lied"), "{}", agent.log());
    // It does not hand on SIGTERM, but its end.
    agent.signal(Signal::KILL);
}

#[test]
fn the_doctor_names_the_namespace() {
    let found = apart().args(["doctor", "--json"]).output().expect("unshare is there");
    let found: Value = serde_json::from_slice(&found.stdout).expect("the doctor speaks JSON");
    let checks = found["checks"].as_array().expect("a list");
    let check = checks.iter().find(|check| check["name"] == "pid namespace").expect("the check");
    assert_eq!(check["state"], "missing", "{check}");
    assert!(check["fix"].to_string().contains("hostPID"), "{check}");
}
