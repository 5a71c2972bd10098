//! Needs root and gcc: what is kept of a deadlock before anything is done about it.

use std::fs;

use healer_tests::{
    hangs::build,
    home::Home,
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
      escalate: [{do: stop, grace: 1s}]
";
    home.write_policy(&policy("enforce", &format!("supervise: {name}"), rules));
    let victim = build(home.scratch(), "locks.c").display().to_string();
    let mut agent = home.agent();
    let service = Supervised::start(&home, &name, &[victim.as_str(), "abba_live"]);
    let diagnosis = agent.record(&service.workload(), "diagnosis", "deadlock");
    let incident = diagnosis["incident"].as_str().expect("a diagnosis has an incident").to_owned();
    agent.record(&service.workload(), "result", "stop");
    let text = fs::read_to_string(home.state().join(format!("capture-{incident}.txt"))).expect("it was kept");
    for part in ["wait for each other", "take_two", "pthread_mutex_lock", "descriptors", "futex"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let svg = fs::read_to_string(home.state().join(format!("capture-{incident}.svg"))).expect("it was drawn");
    assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
    for command in [["incidents", &incident], ["why", &incident]] {
        let said = home.healer(&command);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("Evidence, taken before any act:") && said.contains("take_two"), "{said}");
    }
}
