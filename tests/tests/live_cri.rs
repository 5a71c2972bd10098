//! A real containerd over the CRI: containers go by pod and name, are stopped through their runtime, and started again
//! by whoever owns the pod.
//!
//! act rights: a_container_at_its_limit_is_stopped_with_grace_and_comes_back

use std::{path::Path, thread, time::Duration};

use healer_tests::{
    agent::{Agent, number_after},
    containerd::{Containerd, Pod},
    home::until,
    scratch::Scratch,
};

/// The kubelet's work is done by the test, by hand.
const POLICY: &str = "
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {name: front}
spec:
  mode: enforce
  match: {namespaces: [prod], podSelector: {app: web}, avoid: [{container: mute}, {container: rotten}]}
  expect: {running: true}
  rules:
    - {name: restart, when: [{class: crash}, {class: down}], escalate: [{do: restart, grace: 1s, timeout: 4s}]}
    - {name: again, when: [{class: oom_kill}], escalate: [{do: restart, grace: 1s}]}
  verify: {within: 20s, stableFor: 500ms}
---
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {name: mute}
spec:
  mode: enforce
  match: {container: mute}
  expect: {probe: {exec: {command: [/bin/false]}, period: 1s, failures: 1, startGrace: 1s}}
  rules:
    - {name: stop, when: [{class: probe_failed}], escalate: [{do: stop, scope: container, grace: 5s, timeout: 10s}]}
  verify: {within: 20s, stableFor: 500ms}
---
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {name: rotten}
spec:
  mode: enforce
  match: {container: rotten}
  expect: {probe: {exec: {command: [/bin/false]}, period: 1s, failures: 1, startGrace: 1s}}
  rules:
    - {name: whole, when: [{class: probe_failed}], escalate: [{do: kill, scope: pod, timeout: 10s}]}
  verify: {within: 20s, stableFor: 500ms}
";

const MIB: i64 = 1 << 20;
const SLEEP: &[&str] = &["sleep", "100000"];
/// PID 1 lives on; its child is killed at the limit of the container.
const GREEDY: &[&str] = &[
    "sh",
    "-c",
    "trap 'exit 0' TERM; /bin/busybox tail /dev/zero; while :; do /bin/busybox sleep 0.1; done",
];

const POLITE: &[&str] = &["sh", "-c", "trap 'exit 0' TERM; while :; do /bin/busybox sleep 0.1; done"];

fn pod<'a>(name: &'a str, uid: &'a str) -> Pod<'a> {
    Pod { namespace: "prod", name, uid, labels: &[("app", "web")], memory: 0 }
}

fn agent(containerd: &Containerd) -> Agent {
    Agent::start(&format!("runtimes: {{cri: {}}}", containerd.socket().display()), POLICY)
}

#[test]
fn a_pods_containers_are_stopped_through_the_cri_and_started_by_the_kubelet() {
    let containerd = Containerd::start();
    let web = containerd.pod(&pod("web-0", "8d7e-1"));
    let twin = containerd.container(&web, "twin", 0, SLEEP);
    let old = containerd.pod(&pod("web-1", "8d7e-2"));
    let leaves = containerd.container(&old, "app", 0, SLEEP);
    let agent = agent(&containerd);

    // Its first life is shorter than the question for its name.
    containerd.container(&web, "brief", 0, &["sh", "-c", "exit 3"]);
    agent.wait_for(&["prod/web-0/brief", "exited with status 3"]);
    agent.wait_for(&["prod/web-0/brief", "the kubelet has not restarted", "nothing is stacked"]);

    // Started again in time: that is the kubelet's restart, and healer adds none.
    containerd.container(&web, "again", 0, &["sh", "-c", "exit 4"]);
    agent.wait_for(&["prod/web-0/again", "exited with status 4"]);
    let next = containerd.container(&web, "again", 0, SLEEP);
    agent.wait_for(&["prod/web-0/again", "the kubelet has restarted it itself", &next[..12]]);

    // Stopped on purpose, alone and with its pod.
    let living = containerd.pid(&twin);
    containerd.stop(&twin, 1);
    containerd.stop_pod(&old);
    until("the twin is over", || (!Path::new(&format!("/proc/{living}")).exists()).then_some(()));
    thread::sleep(Duration::from_secs(7));
    for name in ["web-0/twin", "web-1/app"] {
        assert_eq!(agent.lines(&[name, "is down"]), [""; 0], "{}", agent.log());
    }
    assert_eq!(containerd.state(&leaves).0, 2, "it has ended with its pod");
}

#[test]
fn a_container_at_its_limit_is_stopped_with_grace_and_comes_back() {
    let containerd = Containerd::start();
    let web = containerd.pod(&pod("web-0", "8d7e-3"));
    let twin = containerd.container(&web, "twin", 64 * MIB, SLEEP);
    let agent = agent(&containerd);
    let sick = containerd.container(&web, "app", 16 * MIB, GREEDY);
    agent.wait_for(&["prod/web-0/app", "OOM"]);
    agent.wait_for(&["containerd stopped container app", "the kubelet is to start it again"]);
    let (state, status, _) = containerd.state(&sick);
    assert_eq!((state, status), (2, 0), "it had its grace");
    let next = containerd.container(&web, "app", 64 * MIB, SLEEP);
    let healed = agent.wait_for(&["closed  healed", "has lived"]);
    assert_eq!(number_after(&healed, "busybox["), containerd.pid(&next));

    // The limit is the pod's.
    let small = Pod { memory: 24 * MIB, ..pod("small", "8d7e-4") };
    let small = containerd.pod(&small);
    containerd.container(&small, "greedy", 0, GREEDY);
    agent.wait_for(&["prod/small/greedy", "OOM", " of 24.0 MiB"]);

    let mute = containerd.container(&web, "mute", 0, POLITE);
    agent.wait_for(&["containerd stopped container mute"]);
    let (state, status, _) = containerd.state(&mute);
    assert_eq!((state, status), (2, 0), "it had its grace");
    assert_eq!(containerd.state(&twin).0, 1, "the healthy one is not touched");
    assert_eq!(agent.lines(&["web-0/twin", "restart"]), [""; 0], "{}", agent.log());
}

#[test]
fn a_pod_is_killed_with_all_its_containers_and_its_neighbour_is_not() {
    let containerd = Containerd::start();
    let [sick, twin] =
        [("web-0", "8d7e-5"), ("web-1", "8d7e-6")].map(|(name, uid)| containerd.pod(&pod(name, uid)));
    let beside = containerd.container(&sick, "beside", 0, SLEEP);
    let neighbour = containerd.container(&twin, "app", 0, SLEEP);
    let agent = agent(&containerd);
    let rotten = containerd.container(&sick, "rotten", 0, SLEEP);
    let done = agent.wait_for(&["act     kill prod/web-0/rotten is done", "pod8d7e-5 ended by"]);
    assert!(done.contains("3 processes of cgroup"), "with the one that holds the namespaces: {done}");
    for container in [&rotten, &beside] {
        until("it is over", || (containerd.state(container).0 == 2).then_some(()));
    }
    assert_eq!(containerd.state(&neighbour).0, 1, "the neighbour is not touched");
    // Its other containers ended by the same blow: they are no patients for that.
    thread::sleep(Duration::from_secs(7));
    assert_eq!(agent.lines(&["web-0/beside", "is down"]), [""; 0], "{}", agent.log());
}

#[test]
fn a_socket_that_hangs_or_dies_is_a_time_out_with_words() {
    let dir = Scratch::new();
    let path = dir.path().join("containerd.sock");
    // Takes the connection and never says a word.
    let _deaf = std::os::unix::net::UnixListener::bind(&path).expect("the scratch directory can be written");
    let agent = Agent::start(&format!("runtimes: {{cri: {}}}", path.display()), POLICY);
    agent.wait_for(&["no container runtime at", "no answer within 2 s", "go by their ids"]);
    assert!(Path::new(&format!("/proc/{}", agent.pid())).exists());
}
