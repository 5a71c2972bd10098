//! A bad configuration: the user's hook rolls it back, and the kernel says whether that has helped.

use std::fs;

use healer_tests::{
    home::{Home, count, signal_to, until},
    policies::policy,
    supervised::{Supervised, lives, name},
};
use rustix::process::Signal;
use serde_json::Value;

/// Reads its configuration (`$0`) at start, and refuses a bad one.
const SERVER: &str = "grep -q good \"$0\" || exit 78; exec sleep 1000";

fn rules(hook: &str, good: &str, config: &str) -> String {
    format!(
        "
  rules:
    - name: bad-config
      when: [{{class: crash_loop}}]
      escalate:
        - {{do: run_hook, command: ['{hook}', '{good}', '{config}'], timeout: 10s}}
        - {{do: restart, timeout: 20s}}
        - {{do: notify}}
    - name: down
      when: [{{class: down}}]
      escalate: [{{do: restart, timeout: 20s}}]
  safety:
    budget: {{max: 20, per: 1h}}
    backoff: {{initial: 50ms, factor: 1, max: 50ms, resetAfter: 1m}}
    breaker: {{tripAfter: 9, within: 30m, probeAfter: 1m}}
  verify: {{within: 10s, stableFor: 700ms}}
"
    )
}

#[test]
fn a_loop_by_a_bad_configuration_is_rolled_back_and_verified() {
    let name = name();
    let home = Home::new("");
    let file = |leaf: &str, text: &str| {
        let path = home.path().join(leaf);
        fs::write(&path, text).expect("the scratch directory can be written");
        path.display().to_string()
    };
    let (good, config) = (file("good.conf", "good\n"), file("server.conf", "good\n"));
    let calls = home.path().join("calls");
    let hook =
        file("roll-back", &format!("#!/bin/sh\ncat >> {}\necho >> {0}\ncp \"$1\" \"$2\"\n", calls.display()));
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
    home.write_policy(&policy("enforce", &format!("supervise: '{name}*'"), &rules(&hook, &good, &config)));
    let mut agent = home.agent();
    let service = Supervised::start(&home, &name, &["sh", "-c", SERVER, &config]);
    let twin = Supervised::start(&home, &format!("{name}-twin"), &["sh", "-c", SERVER, &good]);
    // Until it has read its configuration: a busy machine may let the shell wait for its grep.
    for one in [&service, &twin] {
        let has_read =
            || fs::read_to_string(format!("/proc/{}/comm", one.child())).is_ok_and(|comm| comm == "sleep\n");
        until("a server that serves", || has_read().then_some(()));
    }

    fs::write(&config, "bad\n").expect("the configuration can be spoilt");
    signal_to(service.child(), Signal::KILL);
    let workload = service.workload();
    agent.record(&workload, "diagnosis", "\"class\":\"crash_loop\"");
    agent.record(&workload, "result", "exit status 0");
    let healed = agent.record(&workload, "verification", "\"outcome\":\"healed\"");
    assert!(healed["says"].as_str().unwrap_or_default().contains("has lived"), "{healed}");
    agent.record(&workload, "closed", "\"outcome\":\"healed\"");
    assert!(lives(service.child()));
    assert_eq!(fs::read_to_string(&config).expect("it is there"), "good\n");

    let told = fs::read_to_string(&calls).expect("the hook has written what it read");
    let told: Vec<Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(told.len(), 1, "once: {told:?}");
    assert_eq!(told[0]["workload"], workload);
    assert!(told[0]["diagnoses"].to_string().contains("crash_loop"), "{}", told[0]);
    assert_eq!(count(&home.of(&workload), "intent", "run_hook"), 1);
    assert_eq!(home.of(&twin.workload()), Vec::<Value>::new(), "{}", agent.log());
}
