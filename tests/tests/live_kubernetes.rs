//! An API server: conditions and cordons that are taken back, Events, and evictions that a PodDisruptionBudget holds up.
//!
//! mostly waits

use healer_tests::{
    apiserver::{ApiServer, Refusal},
    containerd::{Containerd, Pod},
    home::{Agent, Home, count, signal_to, until},
    policies::policy,
    supervised::{Supervised, lives, name},
};
use healer_userspace::kubernetes::rights::{Profile, RIGHTS};
use rustix::process::Signal;
use serde_json::json;

const NODE: &str = "/api/v1/nodes/n1";
const HANDS: &[&str] = &["base", "act"];
const STANDING: &str = "
  rules:
    - {name: down, when: [{class: down}], escalate: [{do: condition, condition: WorkloadDown}, {do: taint, taint: example.com/sick:PreferNoSchedule}, {do: cordon}, {do: restart}]}
  verify: {within: 20s, stableFor: 500ms}
";

/// By key.
fn taints(server: &ApiServer) -> Vec<String> {
    let node = server.get(NODE).unwrap();
    let all = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    all.iter().map(|one| one["key"].as_str().unwrap().to_owned()).collect()
}

fn is_cordoned(server: &ApiServer) -> bool {
    server.get(NODE).unwrap()["spec"]["unschedulable"] == true
}

#[test]
fn the_shipped_roles_grant_what_is_asked_for_and_nothing_else() {
    let profiles = [
        (Profile::Sense, "base"),
        (Profile::Act, "act"),
        (Profile::PastBudgets, "past-pdb"),
        (Profile::Probes, "probes"),
    ];
    for (profile, folder) in profiles {
        let rights = RIGHTS.iter().filter(|right| right.profile == profile);
        let asked = rights.map(|right| (right.verb.into(), right.group.into(), right.resource.into()));
        assert_eq!(healer_tests::apiserver::Granted::to(&[folder]).0, asked.collect(), "{folder}");
    }
}

#[test]
fn a_condition_a_taint_and_a_cordon_stand_until_it_is_well() {
    let name = name();
    let home = Home::new(&policy("enforce", &format!("supervise: {name}"), STANDING));
    let server = ApiServer::start("n1", HANDS);
    let mut node = server.get(NODE).unwrap();
    node["spec"]["taints"] = json!([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]);
    server.put("/api/v1/nodes", node);
    // Another writer comes between reading and writing.
    server.disturb(2);
    let mut agent = server.agent(&home, "");
    let service = Supervised::start(&home, &name, &["sleep", "1000"]);
    signal_to(service.child(), Signal::KILL);
    agent.record(&service.workload(), "result", "WorkloadDown of node n1: False → True");
    agent.record(
        &service.workload(),
        "result",
        "taint example.com/sick:PreferNoSchedule of node n1: absent → set by healer",
    );
    agent.record(&service.workload(), "result", "node n1: open → cordoned by healer");
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    assert!(lives(service.child()));
    until("the node is as it was", || (!is_cordoned(&server)).then_some(()));
    until("the taint is gone, and no other", || (taints(&server) == ["gpu"]).then_some(()));
    until("the condition is over", || (server.condition("WorkloadDown") == "False").then_some(()));
    assert_eq!(server.condition("Ready"), "True", "the kubelet's own is not touched");
    let mark = &server.get(NODE).unwrap()["metadata"]["annotations"]["healer.dev/cordoned"];
    assert!(mark.is_null(), "{mark}");
    // In no pod: told of the node.
    let told = until("an Event", || server.events("default", "CordonDone").pop());
    assert_eq!((&told["regarding"]["kind"], &told["regarding"]["name"]), (&"Node".into(), &"n1".into()));
    let asked = server.asked();
    assert!(asked.iter().all(|asked| asked.code != 403), "{asked:?}");
    let raced = server.answers("patch", "nodes").into_iter().filter(|code| *code == 409).count();
    // What is taken back may race, too.
    assert!(2 <= raced, "{asked:?}");
}

#[test]
fn a_cordon_of_somebody_else_stays() {
    let name = name();
    let home = Home::new(&policy("enforce", &format!("supervise: {name}"), STANDING));
    let server = ApiServer::start("n1", HANDS);
    let mut node = server.get(NODE).unwrap();
    node["spec"]["unschedulable"] = true.into();
    server.put("/api/v1/nodes", node);
    let mut agent = server.agent(&home, "");
    let service = Supervised::start(&home, &name, &["sleep", "1000"]);
    signal_to(service.child(), Signal::KILL);
    agent.record(&service.workload(), "result", "node n1 is cordoned already");
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    agent.signal(Signal::TERM);
    agent.end();
    assert!(is_cordoned(&server));
    assert_eq!(server.condition("WorkloadDown"), "False");
}

#[test]
fn what_a_killed_healer_has_set_is_taken_back_by_the_next() {
    let name = name();
    // Nothing heals it: what stands goes on standing.
    let rules = "
  rules:
    - {name: down, when: [{class: down}], escalate: [{do: condition, condition: WorkloadDown}, {do: taint}, {do: cordon}]}
";
    let home = Home::new(&policy("enforce", &format!("supervise: {name}"), rules));
    let server = ApiServer::start("n1", HANDS);
    let mut agent = server.agent(&home, "");
    let service = Supervised::start(&home, &name, &["sleep", "1000"]);
    signal_to(service.child(), Signal::KILL);
    agent.record(&service.workload(), "result", "cordoned by healer");
    agent.record(&service.workload(), "closed", "");
    assert!(is_cordoned(&server));
    assert_eq!(taints(&server), ["healer.dev/sick"]);
    assert_eq!(server.condition("WorkloadDown"), "True");
    agent.signal(Signal::KILL);
    agent.end();
    let mut next = server.agent(&home, "");
    next.wait("all are taken back", |agent| (3 <= count(&agent.home().audit(), "undone", "")).then_some(()));
    assert!(!is_cordoned(&server) && taints(&server).is_empty());
    assert_eq!(server.condition("WorkloadDown"), "False");
}

#[test]
fn a_server_that_hangs_or_says_no_is_told_and_the_ladder_goes_on() {
    for (profiles, hangs, words) in
        [(HANDS, true, "no answer within 5 s"), (&["base"][..], false, "does not let healer")]
    {
        let name = name();
        let home = Home::new(&policy("enforce", &format!("supervise: {name}"), STANDING));
        let server = ApiServer::start("n1", profiles);
        server.hang(hangs);
        let mut agent = server.agent(&home, "");
        let service = Supervised::start(&home, &name, &["sleep", "1000"]);
        signal_to(service.child(), Signal::KILL);
        agent.record(&service.workload(), "result", words);
        agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
        assert!(lives(service.child()));
        server.hang(false);
    }
}

fn in_force(agent: &Agent<'_>, name: &str) -> bool {
    agent.get("/api/v1/policies").contains(&format!("\"name\":\"{name}\""))
}

#[test]
fn the_clusters_policies_are_followed_beside_the_files() {
    let name = name();
    let home = Home::new(&policy("shadow", "supervise: nobody", STANDING));
    let server = ApiServer::start("n1", HANDS);
    let restarting = |comment: u32| {
        json!({
            "mode": "enforce", "match": {"supervise": name},
            "rules": [{"name": format!("r{comment}"), "when": [{"class": "down"}], "escalate": [{"do": "restart"}]}],
            "safety": {"backoff": {"initial": "100ms", "factor": 1, "max": "100ms"}},
            "verify": {"within": "20s", "stableFor": "500ms"},
        })
    };
    server.heal("web", restarting(1));
    let mut agent = server.agent(&home, "");
    agent.wait("it is in force", |agent| in_force(agent, "web").then_some(()));
    let service = Supervised::start(&home, &name, &["sleep", "1000"]);
    signal_to(service.child(), Signal::KILL);
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    let accepted = until("its status", || server.status("web"));
    assert_eq!((&accepted["accepted"], &accepted["observedGeneration"]), (&true.into(), &1.into()));

    // A bad one, one that takes a file's name, and one of another node's hand: none disturbs the others.
    server.heal("bad", json!({"mode": "enforced"}));
    server.heal("test", json!({"match": {"supervise": "somebody"}}));
    let refused = |policy: &str, words: &str| {
        until("its refusal", || server.status(policy)?["message"].as_str()?.contains(words).then_some(()));
        assert_eq!(server.status(policy).unwrap()["accepted"], false);
    };
    refused("bad", ":6:9: mode: unknown word");
    refused("test", "exists already on this node");
    assert!(in_force(&agent, "web") && !in_force(&agent, "bad"));

    // What was watched is forgotten (410): everything is listed anew.
    server.compact();
    server.heal("web", restarting(2));
    server.heal("bad", json!({"match": {"supervise": "nobody-else"}}));
    until("the new generation", || (server.status("web")?["observedGeneration"] == 2).then_some(()));
    agent.wait("the mended one is in force", |agent| in_force(agent, "bad").then_some(()));
    let lists = server.asked().iter().filter(|asked| asked.verb == "list").count();
    assert!(2 <= lists, "{:?}", server.asked());

    server.delete_policy("web");
    agent.wait("it is in force no more", |agent| (!in_force(agent, "web")).then_some(()));
    assert!(server.asked().iter().all(|asked| asked.code < 400), "{:?}", server.asked());
}

const EVICTING: &str = "
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {name: web}
spec:
  mode: enforce
  match: {namespaces: [prod], podSelector: {app: web}, container: app}
  expect: {probe: {exec: {command: [/bin/false]}, period: 1s, failures: 1, startGrace: 1ms}}
  rules:
    - {name: move, when: [{class: probe_failed}], escalate: [{do: evict, timeout: 8s}, {do: stop, scope: container, grace: 1s}]}
  verify: {within: 20s, stableFor: 500ms}
";

fn pod<'a>(name: &'a str, uid: &'a str, app: &'static [(&'static str, &'static str)]) -> Pod<'a> {
    Pod { namespace: "prod", name, uid, labels: app, memory: 0 }
}

#[test]
fn a_pod_is_evicted_once_its_budget_lets_it_go() {
    let containerd = Containerd::start();
    let server = ApiServer::start("n1", HANDS);
    let home = Home::new(EVICTING);
    let config = format!("runtimes: {{cri: {}}}", containerd.socket().display());
    server.refuse_evictions(&[Refusal::TooMany(Some(1)), Refusal::Trouble, Refusal::TooMany(None)]);
    for (name, uid) in [("web-0", "5d-0"), ("twin-0", "5d-1")] {
        server.pod(name, uid, "n1", "ReplicaSet");
    }
    let twin = containerd.pod(&pod("twin-0", "5d-1", &[("app", "twin")]));
    let twin = containerd.container(&twin, "app", 0, &["sleep", "100000"]);
    let mut agent = server.agent(&home, &config);
    let sick = containerd.pod(&pod("web-0", "5d-0", &[("app", "web")]));
    let app = containerd.container(&sick, "app", 0, &["sleep", "100000"]);
    let path = "/api/v1/namespaces/prod/pods/web-0";
    until("it is on its way out", || {
        server.get(path)?["metadata"]["deletionTimestamp"].is_string().then_some(())
    });
    // The kubelet's part.
    containerd.stop(&app, 0);
    let workload = "pod/prod/web-0/app";
    agent.record(workload, "result", "pod prod/web-0 evicted");
    agent.record(workload, "closed", "\"outcome\":\"healed\"");
    assert_eq!(server.answers("create", "pods/eviction"), [429, 500, 429, 201]);
    let told = until("an Event", || server.events("prod", "EvictDone").pop());
    assert_eq!(told["regarding"]["uid"], "5d-0");
    assert_eq!(containerd.state(&twin).0, 1, "the healthy one is not touched");
    assert!(
        server.get("/api/v1/namespaces/prod/pods/twin-0").unwrap()["metadata"]["deletionTimestamp"].is_null()
    );
}

/// A race of writers (409) is asked again; whom another one of its name has replaced meanwhile is gone, be the answer 409
/// or the other's budget (429).
#[test]
fn the_next_pod_of_the_same_name_is_not_evicted_for_the_last() {
    let containerd = Containerd::start();
    let server = ApiServer::start("n1", HANDS);
    let home = Home::new(EVICTING);
    let config = format!("runtimes: {{cri: {}}}", containerd.socket().display());
    let mut agent = server.agent(&home, &config);
    let cases =
        [("web-0", "5d-9", Refusal::Replaced, 409), ("web-1", "5d-a", Refusal::ReplacedBehindBudget, 429)];
    for (name, uid, replaced, code) in cases {
        let before = server.answers("create", "pods/eviction").len();
        server.refuse_evictions(&[Refusal::Conflict, replaced]);
        server.pod(name, uid, "n1", "ReplicaSet");
        let sick = containerd.pod(&pod(name, uid, &[("app", "web")]));
        let app = containerd.container(&sick, "app", 0, &["sleep", "100000"]);
        let workload = format!("pod/prod/{name}/app");
        agent.record(&workload, "result", &format!("pod prod/{name} is gone already"));
        agent.record(&workload, "gate", "is gone already");
        assert_eq!(server.answers("create", "pods/eviction")[before..], [409, code]);
        let next = server.get(&format!("/api/v1/namespaces/prod/pods/{name}")).unwrap();
        assert_eq!(next["metadata"]["uid"], "of-the-next");
        assert!(next["metadata"]["deletionTimestamp"].is_null(), "{next}");
        assert_eq!(
            count(&home.of(&workload), "intent", "\"action\":\"stop\""),
            0,
            "the next rung is for who stays"
        );
        assert_eq!(containerd.state(&app).0, 1);
    }
}

#[test]
fn a_budget_that_never_gives_way_and_a_daemon_set_are_left_to_the_next_rung() {
    let containerd = Containerd::start();
    let server = ApiServer::start("n1", HANDS);
    let home = Home::new(EVICTING);
    let config = format!("runtimes: {{cri: {}}}", containerd.socket().display());
    server.refuse_evictions(&[Refusal::TooMany(Some(2)); 100]);
    for (name, uid, owner, words) in [
        ("web-1", "5d-2", "ReplicaSet", "may not go: asked"),
        ("web-2", "5d-3", "DaemonSet", "come back to this node"),
    ] {
        server.pod(name, uid, "n1", owner);
        let mut agent = server.agent(&home, &config);
        let sick = containerd.pod(&pod(name, uid, &[("app", "web")]));
        containerd.container(&sick, "app", 0, &["sleep", "100000"]);
        let workload = format!("pod/prod/{name}/app");
        agent.record(&workload, "result", words);
        agent.record(&workload, "result", "stopped container app");
        let path = format!("/api/v1/namespaces/prod/pods/{name}");
        assert!(server.get(&path).unwrap()["metadata"]["deletionTimestamp"].is_null(), "never deleted");
    }
    assert!(server.asked().iter().all(|asked| asked.verb != "delete"));
}

/// The annotation came after the pod: only the server knows of it.
#[test]
fn a_pod_that_its_owner_has_paused_is_left_alone_until_it_is_resumed() {
    const KEY: &str = "healer.dev/pause";
    let containerd = Containerd::start();
    let server = ApiServer::start("n1", HANDS);
    let home = Home::new(
        &EVICTING
            .replace("{do: evict, timeout: 8s}, ", "")
            .replace("  verify:", &format!("  safety: {{pause: {{annotation: {KEY}}}}}\n  verify:")),
    );
    let config = format!("runtimes: {{cri: {}}}", containerd.socket().display());
    for (name, uid) in [("web-0", "5d-7"), ("web-1", "5d-8")] {
        server.pod(name, uid, "n1", "ReplicaSet");
    }
    server.annotate("web-0", KEY, Some("upgrade"));
    let mut agent = server.agent(&home, &config);
    let [paused, other] = [("web-0", "5d-7"), ("web-1", "5d-8")].map(|(name, uid)| {
        let pod = containerd.pod(&pod(name, uid, &[("app", "web")]));
        containerd.container(&pod, "app", 0, &["sleep", "100000"])
    });
    agent.record("pod/prod/web-0/app", "gate", "paused by the annotation healer.dev/pause of pod prod/web-0");
    agent.record("pod/prod/web-1/app", "result", "stopped container app");
    until("the other one is stopped", || (containerd.state(&other).0 == 2).then_some(()));
    assert_eq!(containerd.state(&paused).0, 1, "nobody touches it");
    assert_eq!(count(&home.of("pod/prod/web-0/app"), "intent", ""), 0, "{}", agent.log());
    server.annotate("web-0", KEY, None);
    agent.record("pod/prod/web-0/app", "result", "stopped container app");
    assert!(server.asked().iter().all(|asked| asked.code < 400), "{:?}", server.asked());
}

/// The kubelet's own readiness probe is read, not doubled: what it says is answered by the policy.
#[test]
fn what_the_kubelet_has_probed_is_read() {
    let containerd = Containerd::start();
    let server = ApiServer::start("n1", &["base", "probes"]);
    let home = Home::new(
        &EVICTING
            .replace("{exec: {command: [/bin/false]}, period: 1s,", "{kubelet: true, period: 1s,")
            .replace("{do: evict, timeout: 8s}, ", ""),
    );
    let config = format!("runtimes: {{cri: {}}}", containerd.socket().display());
    let all = [("web-0", "5d-4"), ("web-1", "5d-5"), ("web-2", "5d-6")];
    for (name, uid) in all {
        server.pod(name, uid, "n1", "ReplicaSet");
    }
    // Another node's is not ours to read.
    server.pod("web-9", "5d-9", "n2", "ReplicaSet");
    let mut agent = server.agent(&home, &config);
    let [sick, twin, starting] = all.map(|(name, uid)| {
        let pod = containerd.pod(&pod(name, uid, &[("app", "web")]));
        let app = containerd.container(&pod, "app", 0, &["sleep", "100000"]);
        // Ready once, but for one that has never been: it starts.
        server.probed(name, &app, name != "web-2");
        app
    });
    server.probed("web-0", &sick, false);
    let said = agent.record("pod/prod/web-0/app", "diagnosis", "the kubelet's probe");
    assert!(said["sentence"].as_str().is_some_and(|says| says.contains("not ready")), "{said}");
    agent.record("pod/prod/web-0/app", "result", "stopped container app");
    until("it is stopped", || (containerd.state(&sick).0 == 2).then_some(()));
    agent.wait("the one that starts is asked after", |agent| {
        agent.log().contains("it has not been ready yet; nothing is concluded").then_some(())
    });
    for (name, healthy) in [("web-1", &twin), ("web-2", &starting)] {
        assert_eq!(containerd.state(healthy).0, 1, "{name} is not touched");
        assert!(home.of(&format!("pod/prod/{name}/app")).is_empty(), "{}", agent.log());
    }
    assert!(server.asked().iter().all(|asked| asked.code < 400), "{:?}", server.asked());
}
