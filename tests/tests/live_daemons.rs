//! Docker, containerd and the API server are killed while healer runs, and come back: healer says so in words, heals
//! what needs none of them meanwhile, and goes on with them afterwards.
//!
//! mostly waits

use healer_tests::{
    apiserver::ApiServer,
    containerd::{Containerd, Pod},
    dockerd::Dockerd,
    home::{Agent, Home, signal_to, until},
    policies::{RESTART, policy, restarting},
    supervised::{Supervised, lives, name},
};
use rustix::process::Signal;
use serde_json::json;

const LABEL: &[&str] = &["--label", "tier=outlives"];
const FOREVER: &[&str] = &["sleep", "100000"];

/// Of containers, beside the policy of a supervised process.
const OF_DOCKER: &str = "---
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {name: labelled}
spec:
  mode: enforce
  match: {containerLabels: {tier: outlives}}
  expect: {running: true}
  rules:
    - {name: restart, when: [{class: crash}, {class: down}], escalate: [{do: restart, grace: 1s}, {do: notify}]}
  verify: {within: 20s, stableFor: 500ms}
";

/// The same of pods, which are the kubelet's: they are told of.
const OF_PODS: &str = "---
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {name: pods}
spec:
  mode: enforce
  match: {namespaces: [prod], podSelector: {app: outlives}}
  expect: {running: true}
  rules:
    - {name: tell, when: [{class: crash}, {class: down}], escalate: [{do: notify}]}
";

/// The node's condition first.
const STANDING: &str = "{do: condition, condition: WorkloadDown}, {do: restart, timeout: 20s}";

fn says(agent: &mut Agent<'_>, words: &str) {
    agent.wait(words, |agent| agent.log().contains(words).then_some(()));
}

/// Strikes the supervised process, and waits until it is well again.
fn is_healed(agent: &mut Agent<'_>, service: &Supervised) {
    let before = service.child();
    signal_to(before, Signal::KILL);
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    assert!(lives(service.successor(before)));
}

fn is_in_force(agent: &Agent<'_>, policy: &str) -> bool {
    agent.get("/api/v1/policies").contains(&format!("\"name\":\"{policy}\""))
}

fn times(agent: &Agent<'_>, words: &str) -> usize {
    agent.log().matches(words).count()
}

#[test]
fn docker_dies_and_its_containers_are_healed_through_its_next_life() {
    let mut docker = Dockerd::start_with_live_restore();
    docker.run("web", LABEL, FOREVER);
    docker.run("twin", LABEL, FOREVER);
    let [web, twin] = ["web", "twin"].map(|name| docker.pid(name));
    let name = name();
    let home = Home::new(&(restarting(&name) + OF_DOCKER));
    let mut agent = home.agent_with_config(&format!("runtimes: {{docker: {}}}", docker.socket().display()));
    let service = Supervised::start(&home, &name, &["sleep", "1000"]);

    docker.kill();
    says(&mut agent, "; containers go by their ids until it answers");
    is_healed(&mut agent, &service);
    says(&mut agent, "no Docker at");
    assert!(lives(web) && lives(twin), "they need no Docker to live");
    docker.restart();
    says(&mut agent, "Docker answers again");
    assert_eq!(docker.pid("web"), web, "it is the same one");

    signal_to(web, Signal::KILL);
    agent.record("container/web", "diagnosis", "killed by SIGKILL");
    agent.record("container/web", "result", "docker restarted container web: running");
    agent.record("container/web", "closed", "\"outcome\":\"healed\"");
    assert!(![0, web].contains(&docker.pid("web")), "{}", agent.log());
    assert_eq!(docker.pid("twin"), twin, "the healthy one is not touched");
    assert!(home.of("container/twin").is_empty(), "{}", agent.log());
    assert_eq!(times(&agent, "Docker answers again"), 1, "{}", agent.log());
}

#[test]
fn containerd_dies_and_what_ends_in_its_next_life_is_told_by_pod_and_name() {
    let mut containerd = Containerd::start();
    let labels = &[("app", "outlives")];
    let pod = containerd.pod(&Pod { namespace: "prod", name: "web-0", uid: "da-1", labels, memory: 0 });
    let [app, twin] = ["app", "twin"].map(|name| containerd.container(&pod, name, 0, FOREVER));
    let [app, twin] = [app, twin].map(|id| containerd.pid(&id));
    let name = name();
    let home = Home::new(&(restarting(&name) + OF_PODS));
    let mut agent = home.agent_with_config(&format!("runtimes: {{cri: {}}}", containerd.socket().display()));
    let service = Supervised::start(&home, &name, &["sleep", "1000"]);

    containerd.kill();
    says(&mut agent, "; containers and pods go by their ids until it answers");
    is_healed(&mut agent, &service);
    says(&mut agent, "no container runtime at");
    assert!(lives(app) && lives(twin), "they need no containerd to live");
    containerd.restart();
    says(&mut agent, "containerd answers again");

    containerd.container(&pod, "late", 0, &["sh", "-c", "exit 3"]);
    agent.record("pod/prod/web-0/late", "diagnosis", "exited with status 3");
    signal_to(app, Signal::KILL);
    agent.record("pod/prod/web-0/app", "diagnosis", "killed by SIGKILL");
    assert!(lives(twin) && home.of("pod/prod/web-0/twin").is_empty(), "{}", agent.log());
    assert_eq!(times(&agent, "containerd answers again"), 1, "{}", agent.log());
}

#[test]
fn the_api_server_dies_and_the_next_one_there_is_followed_and_written_to() {
    let name = name();
    let rest = RESTART.replace("{do: restart, timeout: 20s}", STANDING);
    let home = Home::new(&policy("enforce", &format!("supervise: {name}"), &rest));
    let server = ApiServer::start("n1", &["base", "act"]);
    server.heal("before", json!({"match": {"supervise": "nobody"}}));
    let mut agent = server.agent(&home, "");
    agent.wait("it is followed", |agent| is_in_force(agent, "before").then_some(()));
    let service = Supervised::start(&home, &name, &["sleep", "1000"]);

    let address = server.die();
    says(&mut agent, "HealPolicies of the cluster are not followed: ");
    is_healed(&mut agent, &service);
    agent.record(&service.workload(), "result", "get nodes of Kubernetes: ");
    assert!(is_in_force(&agent, "before"), "what is known stays in force");

    let server = ApiServer::start_at(address, "n1", &["base", "act"]);
    server.heal("after", json!({"match": {"supervise": "somebody-else"}}));
    agent.wait("the next one is followed", |agent| is_in_force(agent, "after").then_some(()));
    assert!(!is_in_force(&agent, "before"), "nobody keeps it any more");
    let before = service.child();
    signal_to(before, Signal::KILL);
    agent.record(&service.workload(), "result", "WorkloadDown of node n1: False → True");
    let _next = service.successor(before);
    until("the condition is over", || {
        let conditions = server.get("/api/v1/nodes/n1")?["status"]["conditions"].as_array()?.clone();
        conditions.iter().any(|one| one["type"] == "WorkloadDown" && one["status"] == "False").then_some(())
    });
}
