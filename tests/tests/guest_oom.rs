//! The whole node runs out of memory. Only a guest may.
//!
//! one third guest: all

use std::{fs, path::Path};

use healer_tests::{
    home::{Agent, Home},
    policies::restarting,
    supervised::name,
    victim::{Victim, built},
};
use healer_userspace::identity::procfs::machine_memory;
use serde_json::Value;

/// The kernel prefers whoever has most of both: this score and memory.
fn start(program: &Path, score: &str) -> Victim {
    let script = format!("echo {score} > /proc/self/oom_score_adj; exec {}", program.display());
    Victim::start("/bin/sh", &["-c", &script])
}

fn oom_kill(agent: &mut Agent<'_>, pid: u32) -> Value {
    agent.wait("the certificate", |agent| {
        let is_it = |record: &Value| {
            (&record["record"], &record["class"]) == (&"diagnosis".into(), &"oom_kill".into())
                && record["target"]["pid"] == pid
        };
        agent.home().audit().into_iter().find(is_it)
    })
}

#[test]
fn when_the_node_is_full_victim_and_trigger_are_named_with_its_memory() {
    let is_guest = Path::new("/t/plan").exists();
    assert!(is_guest, "this test fills the memory: `cargo xtask test --vm 6.1-cloud` runs it in a guest");
    // Neither the test nor the agent is to be chosen.
    fs::write("/proc/self/oom_score_adj", "-1000").unwrap();
    let home = Home::new(&restarting(&name()));
    let mut agent = home.agent();
    let hog = built(home.scratch(), "hog");
    let (mut twin, victim) = (start(&hog, "0"), start(&hog, "1000"));
    let eater = start(&built(home.scratch(), "eats"), "100");
    let found = [victim.tgid(), eater.tgid()].map(|pid| oom_kill(&mut agent, pid));
    for found in &found {
        let cause = &found["detail"]["certificate"];
        assert_eq!((&found["certainty"], &cause["scope"]), (&"proved".into(), &"global".into()), "{found}");
        assert_eq!(cause["limit_bytes"].as_u64(), machine_memory(Path::new("/proc")), "{cause}");
        let says = found["sentence"].as_str().unwrap_or_default();
        let asker = format!("{}[{}]", cause["trigger"]["comm"].as_str().unwrap(), cause["trigger"]["pid"]);
        assert!(says.contains("OOM-killed because the whole node (") && says.contains(&asker), "{says}");
    }
    // Whoever wants a page just then is the trigger: mostly the one that eats, but the agent and this test want some too.
    // Who sleeps wants none.
    let triggers = found.each_ref().map(|found| &found["detail"]["certificate"]["trigger"]["pid"]);
    let asleep = [victim.tgid(), twin.tgid()].map(Value::from);
    assert!(!triggers.iter().any(|trigger| asleep.contains(trigger)), "{triggers:?} of {asleep:?}");
    assert!(twin.try_wait().is_none());
    let of_twin = |record: &Value| record["target"]["pid"] == twin.tgid();
    assert_eq!(home.audit().into_iter().find(of_twin), None, "{}", agent.log());
}
