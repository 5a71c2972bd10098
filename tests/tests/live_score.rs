//! The score of a rule in shadow: of two would-be patients one recovers alone and one is killed. Needs root.

use std::fs;

use healer_tests::{
    home::{Agent, Home, signal_to},
    policies::policy,
    supervised::{Supervised, name},
};
use rustix::process::Signal;
use serde_json::{Value, json};

fn probed(name: &str, file: &str) -> String {
    let rest = format!(
        "
  expect: {{probe: {{exec: {{command: [test, -e, '{file}']}}, period: 1s, timeout: 500ms, failures: 2, startGrace: 0s}}}}
  rules:
    - name: unwell
      when: [{{class: probe_failed}}]
      escalate: [{{do: restart}}]
  safety: {{backoff: {{initial: 100ms, factor: 1, max: 100ms}}}}
  verify: {{within: 30s, stableFor: 500ms}}
"
    );
    policy("shadow", &format!("supervise: {name}"), &rest)
}

fn would_have_acted(agent: &mut Agent<'_>, workload: &str, times: usize) {
    agent.wait("a dry run", |agent| {
        let is_dry = |record: &&Value| record["record"] == "result" && record["outcome"] == "would_do";
        (agent.home().of(workload).iter().filter(is_dry).count() == times).then_some(())
    });
}

fn score(home: &Home) -> Value {
    let told = home.healer(&["score", "--json"]);
    assert!(told.status.success(), "{told:?}");
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    told["scores"][0].clone()
}

#[test]
fn who_recovers_alone_was_needless_and_who_is_killed_was_right() {
    let name = name();
    let home = Home::new("");
    let well = home.path().join("well");
    home.write_policy(&probed(&name, &well.display().to_string()));
    fs::write(&well, "").unwrap();
    let mut agent = home.agent();
    let service = Supervised::start(&home, &name, &["sleep", "1000"]);
    let workload = service.workload();

    fs::remove_file(&well).unwrap();
    would_have_acted(&mut agent, &workload, 1);
    fs::write(&well, "").unwrap();
    let needless = agent.record(&workload, "score", "\"outcome\":\"recovered_alone\"");
    assert!(needless["sick_ms"].as_u64().is_some(), "{needless}");

    fs::remove_file(&well).unwrap();
    would_have_acted(&mut agent, &workload, 2);
    signal_to(service.child(), Signal::KILL);
    let right = agent.record(&workload, "score", "\"outcome\":\"died\"");
    assert!(right["says"].as_str().unwrap().contains("killed by SIGKILL"), "{right}");

    let told = score(&home);
    let counts = ["recovered_alone", "died", "stayed_sick", "unknown"].map(|key| told[key].clone());
    assert_eq!(counts, [json!(1), json!(1), json!(0), json!(0)], "{told}");
    assert_eq!((&told["rule"], &told["classes"]["probe_failed"]), (&json!("unwell"), &json!(2)));
    assert!(agent.get("/api/v1/scores").contains("\"recovered_alone\":1"));
    assert!(agent.get("/metrics").contains("outcome=\"died\""), "{}", agent.get("/metrics"));
    agent.signal(Signal::TERM);
    agent.end();
    assert_eq!(score(&home)["died"], json!(1), "a cold audit gives the same score");
    let again = home.agent();
    assert!(again.get("/api/v1/scores").contains("\"died\":1"), "a new agent knows the old one's score");
}
