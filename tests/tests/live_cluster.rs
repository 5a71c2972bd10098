//! An API server at its worst: it forgets, has too much to do, and keeps what belongs to others; and what is lent or
//! asked of it ends when the policy says so.
//!
//! mostly waits

use std::time::Duration;

use healer_tests::{
    apiserver::{ApiServer, Refusal},
    containerd::{Containerd, Pod},
    home::{Agent, Home, count, signal_to, until},
    policies::policy,
    supervised::{Supervised, name},
};
use rustix::process::Signal;
use serde_json::{Value, json};

const HANDS: &[&str] = &["base", "act"];
const PAST_BUDGETS: &[&str] = &["base", "act", "past-pdb"];

/// Nothing heals it: what stands does so until its time is over.
fn standing(rungs: &str) -> String {
    format!("\n  rules:\n    - {{name: down, when: [{{class: down}}], escalate: [{rungs}]}}\n")
}

/// Nobody starts it again.
fn dead(home: &Home, name: &str) -> Supervised {
    let service = Supervised::start(home, name, &["sleep", "1000"]);
    signal_to(service.child(), Signal::KILL);
    service
}

#[test]
fn a_condition_ends_with_its_time_though_the_patient_stays_sick() {
    let name = name();
    let rungs = standing("{do: condition, condition: WorkloadDown, undoAfter: 2s}, {do: cordon}");
    let home = Home::new(&policy("enforce", &format!("supervise: {name}"), &rungs));
    let server = ApiServer::start("n1", HANDS);
    let mut agent = server.agent(&home, "");
    let service = dead(&home, &name);
    let workload = service.workload();
    agent.record(&workload, "result", "WorkloadDown of node n1: False → True");
    agent.record(&workload, "result", "cordoned by healer");
    agent.record(&workload, "undone", "its time is over");
    assert_eq!(server.condition("WorkloadDown"), "False");
    assert_eq!(server.answers("patch", "nodes/status"), [200, 200], "set once, and taken back once");
    assert!(service.child_now().is_none(), "it is as sick as before");
    assert_eq!(count(&home.of(&workload), "undone", ""), 1, "{}", agent.log());
    assert_eq!(
        server.get("/api/v1/nodes/n1").unwrap()["spec"]["unschedulable"],
        true,
        "its own time is longer"
    );
}

#[test]
fn a_condition_that_somebody_else_keeps_is_not_overwritten() {
    let name = name();
    let rungs = standing("{do: condition, condition: WorkloadDown}, {do: cordon}");
    let home = Home::new(&policy("enforce", &format!("supervise: {name}"), &rungs));
    let server = ApiServer::start("n1", HANDS);
    server.keep_condition("monitor", "WorkloadDown", false);
    let before = server.get("/api/v1/nodes/n1").unwrap()["status"].clone();
    let mut agent = server.agent(&home, "");
    let service = dead(&home, &name);
    agent.record(&service.workload(), "result", "Apply failed with");
    agent.record(&service.workload(), "result", "cordoned by healer");
    assert_eq!(server.get("/api/v1/nodes/n1").unwrap()["status"], before);
    assert_eq!(server.answers("patch", "nodes/status"), [409], "neither forced nor taken back");
}

/// A part of its prefix and its name are as long as they may be.
#[test]
fn a_taint_is_one_that_the_server_keeps() {
    let name = name();
    let taint = format!("{}.example.com/{}", "d".repeat(63), "k".repeat(63));
    let rungs = standing(&format!("{{do: taint, taint: \"{taint}:PreferNoSchedule\"}}"));
    let home = Home::new(&policy("enforce", &format!("supervise: {name}"), &rungs));
    let server = ApiServer::start("n1", HANDS);
    let mut agent = server.agent(&home, "");
    let service = dead(&home, &name);
    agent.record(&service.workload(), "result", "absent → set by healer");
    let kept = server.get("/api/v1/nodes/n1").unwrap()["spec"]["taints"].clone();
    assert_eq!((&kept[0]["key"], &kept[1]), (&json!(taint), &Value::Null), "{kept}");
    assert_eq!(server.answers("patch", "nodes"), [200]);
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
    - {name: move, when: [{class: probe_failed}], escalate: [{do: evict, respectPDB: false, timeout: 8s}]}
  verify: {within: 20s, stableFor: 500ms}
";

const SICK: &str = "/api/v1/namespaces/prod/pods/web-0";
const APP: &str = "pod/prod/web-0/app";

fn is_going(server: &ApiServer) -> bool {
    server.get(SICK).unwrap()["metadata"]["deletionTimestamp"].is_string()
}

/// A budget that never gives way, a server that grants these profiles, and what becomes of the sick pod.
fn behind_a_budget(profiles: &[&str], then: impl FnOnce(&ApiServer, &mut Agent<'_>, &dyn Fn())) {
    let containerd = Containerd::start();
    let server = ApiServer::start("n1", profiles);
    let home = Home::new(EVICTING);
    server.refuse_evictions(&[Refusal::TooMany(Some(1)); 100]);
    server.pod("web-0", "5e-0", "n1", "ReplicaSet");
    let config = format!("runtimes: {{cri: {}}}", containerd.socket().display());
    let mut agent = server.agent(&home, &config);
    let labels = &[("app", "web")];
    let sick = containerd.pod(&Pod { namespace: "prod", name: "web-0", uid: "5e-0", labels, memory: 0 });
    let app = containerd.container(&sick, "app", 0, &["sleep", "100000"]);
    then(&server, &mut agent, &|| containerd.stop(&app, 0));
}

#[test]
fn past_a_budget_a_pod_is_deleted_where_that_is_granted() {
    behind_a_budget(PAST_BUDGETS, |server, agent, kubelet| {
        until("it is on its way out", || is_going(server).then_some(()));
        kubelet();
        agent.record(APP, "result", "pod prod/web-0 deleted, for pod prod/web-0 may not go: asked");
        agent.record(APP, "closed", "\"outcome\":\"healed\"");
        let evictions = server.answers("create", "pods/eviction");
        assert!(
            2 <= evictions.len() && evictions.iter().all(|code| *code == 429),
            "asked first: {evictions:?}"
        );
        let deletions = server.answers("delete", "pods");
        assert!(matches!(deletions[..], [200..300]), "{deletions:?}");
    });
}

#[test]
fn past_a_budget_without_leave_is_a_refusal_in_words() {
    behind_a_budget(HANDS, |server, agent, _kubelet| {
        agent.record(APP, "result", "does not let healer delete pods (403");
        assert!(!is_going(server));
        assert_eq!(server.answers("delete", "pods").first(), Some(&403));
    });
}

fn following(name: &str, rule: &str) -> Value {
    json!({
        "match": {"supervise": name},
        "rules": [{"name": rule, "when": [{"class": "down"}], "escalate": [{"do": "notify"}]}],
    })
}

fn in_force(agent: &mut Agent<'_>, policy: &str) {
    let named = format!("\"name\":\"{policy}\"");
    agent
        .wait("the policy is in force", |agent| agent.get("/api/v1/policies").contains(&named).then_some(()));
}

/// Told within a watch it is another answer: see live_kubernetes.
#[test]
fn a_watch_from_what_is_forgotten_is_refused_and_all_is_listed_anew() {
    let home = Home::new(&policy("shadow", "supervise: nobody", &standing("{do: notify}")));
    let server = ApiServer::start("n1", HANDS);
    server.heal("first", following("one", "a"));
    let mut agent = server.agent(&home, "");
    in_force(&mut agent, "first");
    // A list alone may have told it.
    until("a watch", || server.answers("watch", "healpolicies").contains(&200).then_some(()));
    server.end_watches();
    server.compact();
    server.heal("second", following("two", "b"));
    in_force(&mut agent, "second");
    let watches = server.answers("watch", "healpolicies");
    assert_eq!(watches.iter().filter(|code| **code == 410).count(), 1, "{watches:?}");
    assert!(2 <= server.answers("list", "healpolicies").len());
    until("the second one's status", || server.status("second"));
    server.heal("third", following("three", "c"));
    in_force(&mut agent, "third");
    assert!(!agent.log().contains("are not followed"), "it is no failure: {}", agent.log());
}

/// Between the first refusal and the next question of its kind.
fn waited(server: &ApiServer, verb: &str, resource: &str) -> Duration {
    let mut asked = server.asked();
    asked.retain(|asked| asked.verb == verb && asked.resource == resource);
    let refused = asked.iter().position(|asked| 429 <= asked.code).expect("it was refused");
    asked[refused + 1].at.since(asked[refused].at)
}

#[test]
fn what_a_server_with_too_much_to_do_refuses_is_done_when_it_has_time() {
    const ASKED: [(&str, &str); 4] =
        [("get", "nodes"), ("patch", "nodes/status"), ("patch", "nodes"), ("create", "events")];
    for (times, seconds, refusals) in [(1, Some(3), &[429][..]), (2, None, &[503, 500][..])] {
        let name = name();
        let rungs = standing("{do: condition, condition: WorkloadDown}, {do: cordon}");
        let home = Home::new(&policy("enforce", &format!("supervise: {name}"), &rungs));
        let server = ApiServer::start("n1", HANDS);
        for (verb, resource) in ASKED {
            server.overload(verb, resource, times, seconds);
        }
        let mut agent = server.agent(&home, "");
        let service = dead(&home, &name);
        agent.record(&service.workload(), "result", "WorkloadDown of node n1: False → True");
        agent.record(&service.workload(), "result", "cordoned by healer");
        assert_eq!(server.condition("WorkloadDown"), "True");
        until("an Event", || server.events("default", "CordonDone").pop());
        for (verb, resource) in ASKED {
            let answers = server.answers(verb, resource);
            assert!(answers.starts_with(refusals), "{verb} {resource}: {answers:?}");
            assert!(
                answers[refusals.len()..].iter().all(|code| *code < 300),
                "{verb} {resource}: {answers:?}"
            );
            let least = seconds.map_or(Duration::from_millis(500), |asked| Duration::from_secs(asked.into()));
            assert!(least <= waited(&server, verb, resource), "{verb} {resource}");
        }
    }
}

#[test]
fn policies_are_followed_again_when_the_server_has_time() {
    // Longer than healer's own first pauses.
    for (times, seconds, words) in [(1, Some(5), "429"), (2, None, "503")] {
        let home = Home::new(&policy("shadow", "supervise: nobody", &standing("{do: notify}")));
        let server = ApiServer::start("n1", HANDS);
        server.overload("list", "healpolicies", times, seconds);
        server.overload("watch", "healpolicies", times, seconds);
        server.heal("first", following("one", "a"));
        let mut agent = server.agent(&home, "");
        in_force(&mut agent, "first");
        until("a watch", || server.answers("watch", "healpolicies").contains(&200).then_some(()));
        server.heal("second", following("two", "b"));
        in_force(&mut agent, "second");
        let told = format!("HealPolicies of the cluster are not followed: {words}");
        assert!(agent.log().contains(&told), "{}", agent.log());
        let least = Duration::from_secs(seconds.unwrap_or(1).into());
        for verb in ["list", "watch"] {
            assert!(least <= waited(&server, verb, "healpolicies"), "{verb}: {:?}", server.asked());
        }
    }
}
