//! A real podman, asked over its socket: its containers are told by name and restarted; who was stopped is left alone.

use healer_tests::{
    agent::{Agent, number_after},
    home::signal_to,
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
