//! Needs root and gcc: what is kept of a patient before anything is done about it.
//!
//! act rights: stacks_and_graph_of_a_deadlock_are_kept_although_it_is_ended_at_once

use std::{fs, path::Path, process::Command};

use healer_tests::{
    binary::healer,
    hangs::build,
    home::{Home, is},
    policies::policy,
    supervised::{Supervised, name},
};

#[test]
fn stacks_and_graph_of_a_deadlock_are_kept_although_it_is_ended_at_once() {
    let name = name();
    let home = Home::new("");
    let rules = "
  rules:
    - name: stuck
      when: [{class: deadlock}]
      capture: {logLines: 2}
      escalate: [{do: stop, grace: 1s}]
";
    home.write_policy(&policy("enforce", &format!("supervise: {name}"), rules));
    let victim = build(home.scratch(), "locks.c").display().to_string();
    let mut agent = home.agent();
    let log = home.path().join("said");
    let script = format!("echo first; echo second; echo third; exec {victim} abba_live");
    let service = supervised_into(&log, &home, &name, &["sh", "-c", &script]);
    let diagnosis = agent.record(&service.workload(), "diagnosis", "deadlock");
    let incident = diagnosis["incident"].as_str().expect("a diagnosis has an incident").to_owned();
    agent.record(&service.workload(), "result", "stop");
    let text = kept(&home, &incident, "txt");
    let parts = ["wait for each other", "take_two", "pthread_mutex_lock", "descriptors", "futex"];
    for part in parts.into_iter().chain(["| second\n    | third\n", "2 last lines of"]) {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    assert!(!text.contains("| first"), "only two were asked for:\n{text}");
    let svg = kept(&home, &incident, "svg");
    assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
    for command in [["incidents", &incident], ["why", &incident]] {
        let said = home.healer(&command);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("Evidence, taken before any act:") && said.contains("take_two"), "{said}");
    }
}

/// The dead have no stacks left; what they said last, their supervisor's output still has.
#[test]
fn a_rule_keeps_the_last_words_of_the_dead_and_a_rung_looks_again() {
    let (dead, twin) = (name(), name());
    let home = Home::new("");
    let rules = "
  rules:
    - name: ended
      when: [{class: crash}, {class: down}]
      capture: {stacks: false, logLines: 3, maxTime: 2s}
      escalate: [{do: capture}, {do: restart}]
  verify: {within: 20s, stableFor: 500ms}
";
    home.write_policy(&policy("enforce", &format!("supervise: [{dead}, {twin}]"), rules));
    let mut agent = home.agent();
    let log = home.path().join("said");
    let once = home.path().join("once");
    // Its words stand on a terminal: an escape among them must not reach it.
    let script = format!(
        "test -e {once} && exec sleep 1000; touch {once}; printf 'last \\033[31mwords\\n'; kill -SEGV $$",
        once = once.display()
    );
    let healthy = supervised_into(Path::new("/dev/null"), &home, &twin, &["sleep", "1000"]);
    let service = supervised_into(&log, &home, &dead, &["sh", "-c", &script]);
    let diagnosis = agent.record(&service.workload(), "diagnosis", "crash");
    let incident = diagnosis["incident"].as_str().expect("a diagnosis has an incident").to_owned();
    let said = agent.record(&service.workload(), "result", "kept with");
    assert_eq!(said["action"], "capture", "{said}");
    agent.record(&service.workload(), "result", "restart");
    let closed = agent.record(&service.workload(), "closed", "healed");
    assert_eq!(closed["incident"], incident.as_str());
    let text = kept(&home, &incident, "txt");
    assert_eq!(text.matches("last \\x1b[31mwords").count(), 2, "{text}");
    assert!(text.contains("and later:") && text.contains("it is gone"), "{text}");
    let page = home.healer(&["incidents", &incident, "--html"]);
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains("last \\x1b[31mwords"), "{page}");
    let told: Vec<_> =
        home.of(&healthy.workload()).into_iter().filter(|one| is(one, "diagnosis", "")).collect();
    assert!(told.is_empty(), "the healthy one is not looked at: {told:?}");
}

fn kept(home: &Home, incident: &str, kind: &str) -> String {
    fs::read_to_string(home.state().join(format!("capture-{incident}.{kind}"))).expect("it was kept")
}

/// A supervisor whose output, and so its child's, goes to `file`.
fn supervised_into(file: &Path, home: &Home, name: &str, argv: &[&str]) -> Supervised {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" >>\"$0\" 2>&1"]).arg(file).arg(healer());
    command.arg("--state-dir").arg(home.state()).args(["supervise", "--name", name, "--"]).args(argv);
    Supervised::spawn(name, &mut command)
}
