//! What only pure cgroup v2 has. Guests are such machines.
//!
//! guest: all

use std::{fs, path::Path};

use healer_tests::{
    cgroup::V2Cgroup,
    home::Home,
    policies::restarting,
    supervised::name,
    victim::{Victim, built},
};

/// With `memory.oom.group` the kernel kills all members for one: each has its certificate.
#[test]
fn a_group_that_dies_as_one_has_a_certificate_for_each() {
    let home = Home::new(&restarting(&name()));
    let mut agent = home.agent();
    let group = V2Cgroup::new();
    let set = |file: &str, value: &str| fs::write(group.path().join(file), value).unwrap();
    set("memory.max", "64M");
    set("memory.swap.max", "0");
    set("memory.oom.group", "1");
    let start = |program: &Path| {
        let script = format!("echo $$ > {}/cgroup.procs; exec {}", group.path().display(), program.display());
        Victim::start("/bin/sh", &["-c", &script])
    };
    let victims = [start(&built(home.scratch(), "hog")), start(&built(home.scratch(), "leak"))];
    for victim in &victims {
        let pid = victim.tgid();
        agent.wait("the certificate", |agent| {
            let is_it = |record: &serde_json::Value| {
                record["record"] == "diagnosis"
                    && (&record["class"], &record["certainty"]) == (&"oom_kill".into(), &"proved".into())
                    && record["target"]["pid"] == pid
            };
            agent.home().audit().iter().any(is_it).then_some(())
        });
    }
    let events = fs::read_to_string(group.path().join("memory.events")).unwrap();
    // `oom_kill` may count the first victim twice.
    assert!(events.lines().any(|line| line == "oom_group_kill 1"), "{events}");
}
