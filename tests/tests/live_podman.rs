//! A real podman, asked over its socket: its containers are told by name and restarted; who was stopped is left alone.
//! What is lent goes through it as well, and comes back.

use healer_tests::{
    agent::{Agent, number_after},
    home::{Home, count, signal_to},
    podman::Podman,
};
use rustix::process::Signal;

const POLICY: &str = "
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {name: front}
spec:
  mode: enforce
  match: {containerLabels: {tier: front}}
  expect: {running: true}
  rules:
    - {name: restart, when: [{class: crash}, {class: down}], escalate: [{do: restart, grace: 1s}, {do: notify}]}
  verify: {within: 20s, stableFor: 500ms}
";

/// Sick by its probe, which needs no right of the agent's.
const FREEZE: &str = "
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {name: sick}
spec:
  mode: enforce
  match: {containerLabels: {tier: sick}}
  expect: {probe: {exec: {command: [/bin/false]}, period: 1s, failures: 1, startGrace: 1ms}}
  rules:
    - name: deaf
      when: [{class: probe_failed}]
      escalate: [{do: freeze, scope: container, undoAfter: 10m}]
  verify: {within: 90s, stableFor: 60s}
";

const FRONT: &[&str] = &["--label", "tier=front"];
const FOREVER: &[&str] = &["sleep", "100000"];

#[test]
fn containers_of_podman_are_healed_by_name_over_its_socket() {
    let podman = Podman::start();
    for name in ["web", "twin", "told"] {
        podman.run(name, FRONT, FOREVER);
    }
    let agent = Agent::start(&format!("runtimes: {{docker: {}}}", podman.socket().display()), POLICY);
    let [web, twin] = ["web", "twin"].map(|name| podman.pid(name));

    podman.podman(&["stop", "--time", "1", "told"]);
    signal_to(web, Signal::KILL);
    agent.wait_for(&["web is down", &format!("busybox[{web}] killed by SIGKILL from"), "no successor in 5"]);
    let done = agent.wait_for(&["podman restarted container web: running"]);
    let after = number_after(&done, "main pid ");
    agent.wait_for(&["closed  healed", &format!("busybox[{after}] has lived")]);

    assert_eq!(podman.pid("web"), after);
    assert_eq!(podman.pid("twin"), twin, "the healthy one is not touched");
    assert_eq!(podman.pid("told"), 0, "stopped is stopped: {}", agent.log());
    for name in ["twin", "told"] {
        let acts = agent.lines(&["podman restarted container", name]);
        assert_eq!(acts, [""; 0], "{}", agent.log());
    }
}

#[test]
fn a_container_of_podman_is_paused_through_it_and_the_next_healer_lets_it_run_again() {
    let podman = Podman::start();
    for name in ["sick", "twin"] {
        podman.run(name, &["--label", &format!("tier={name}")], FOREVER);
    }
    let home = Home::new(FREEZE);
    let config = format!("runtimes: {{docker: {}}}", podman.socket().display());
    let mut first = home.agent_with_config(&config);
    first.wait("podman's word", |_| (podman.status("sick") == "paused").then_some(()));
    first.wait("the act's result", |first| {
        (1 <= count(&first.home().audit(), "result", "\"done\"")).then_some(())
    });
    first.signal(Signal::KILL);
    first.end();
    assert_eq!(podman.status("sick"), "paused", "it is lent still");

    // The next one must not lend it anew.
    home.write_policy(&FREEZE.replace("enforce", "observe"));
    let mut next = home.agent_with_config(&config);
    next.wait("the undo", |next| {
        (count(&next.home().audit(), "undone", "healer had ended") == 1).then_some(())
    });
    assert_eq!(["sick", "twin"].map(|name| podman.status(name)), ["running", "running"]);
}
