//! What only pure cgroup v2 has. Guests are such machines.
//!
//! guest: a_group_that_dies_as_one_has_a_certificate_for_each doctor_finds_all_that_it_wants_of_v2
//! one guest: what_runs_out_in_a_group_is_called_by_its_name_and_its_twin_is_not
//! one guest: a_leak_is_slowed_by_memory_high_until_healer_stops

use std::{fs, path::Path};

use healer_tests::{
    binary::healer,
    cgroup::V2Cgroup,
    home::Home,
    policies::restarting,
    supervised::name,
    victim::{Victim, built},
};
use healer_userspace::fault::{Fault, victim::Victim as FaultVictim};
use rustix::process::Signal;

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

#[test]
fn doctor_finds_all_that_it_wants_of_v2() {
    let home = Home::new("");
    let _group = V2Cgroup::new();
    let says = String::from_utf8_lossy(&home.healer(&["doctor"]).stdout).into_owned();
    let line = |name: &str| says.lines().find(|line| line.contains(name)).unwrap_or_default();
    assert!(
        line(" cgroups ").starts_with("ok") && line(" cgroups ").ends_with("v2 at /sys/fs/cgroup"),
        "{says}"
    );
    let files = line(" cgroup files ");
    assert!(files.starts_with("ok"), "{says}");
    for file in ["cgroup.kill", "cgroup.freeze", "memory.events", "memory.high", "memory.oom.group"] {
        assert!(files.contains(file), "{says}");
    }
}

const LIMIT: u64 = 256 << 20;

fn fault(home: &Home, name: &str) -> FaultVictim {
    let fault = Fault::by_name(name).unwrap();
    FaultVictim::of_binary(&healer(), fault, home.state()).unwrap()
}

fn file(victim: &FaultVictim, name: &str) -> String {
    let group = Path::new("/sys/fs/cgroup").join(victim.cgroup.path().trim_start_matches('/'));
    fs::read_to_string(group.join(name)).unwrap().trim().to_owned()
}

#[test]
fn what_runs_out_in_a_group_is_called_by_its_name_and_its_twin_is_not() {
    let home = Home::new(&restarting(&name()));
    let mut agent = home.agent_with_config("sensors: {syscallErrors: full}");
    let twin = fault(&home, "forty-children");
    for (name, class) in
        [("fork-bomb", "pid_exhaustion"), ("fd-leak", "fd_exhaustion"), ("throttled", "cpu_throttled")]
    {
        let sick = fault(&home, name);
        agent.wait(class, |agent| said_of(agent.home(), &sick, class).then_some(()));
        assert!(!said_of(&home, &twin, class), "{name}");
    }
}

/// Whether a diagnosis of this class is about this group.
fn said_of(home: &Home, victim: &FaultVictim, class: &str) -> bool {
    let mut diagnoses = home.audit().into_iter().filter(|one| one["record"] == "diagnosis");
    diagnoses.any(|one| one["class"] == class && one["target"]["cgroup"] == victim.cgroup.path())
}

#[test]
fn a_leak_is_slowed_by_memory_high_until_healer_stops() {
    let home = Home::new("");
    let (mut leak, mut twin) = (fault(&home, "leak"), fault(&home, "plateau"));
    assert_eq!(file(&leak, "memory.max"), LIMIT.to_string());
    home.write_policy(&format!(
        "apiVersion: healer.dev/v1alpha1\nkind: HealPolicy\nmetadata: {{name: leaks}}\nspec:\n  mode: enforce\n  \
         match: {{cgroup: [\"{}\", \"{}\"]}}\n  rules:\n    - name: leak\n      \
         when: [{{class: memory_leak, timeToLimit: {{under: 20s}}}}]\n      \
         escalate: [{{do: throttle, memoryHigh: 95%, undoAfter: 10m}}]\n  \
         verify: {{within: 90s, stableFor: 60s}}\n",
        leak.cgroup.path(),
        twin.cgroup.path()
    ));
    let mut agent = home.agent();
    agent.wait("memory.high", |_| (file(&leak, "memory.high") != "max").then_some(()));
    let high: u64 = file(&leak, "memory.high").parse().unwrap();
    assert_eq!(high, (LIMIT * 95 / 100).next_multiple_of(4096) - 4096, "whole pages");
    agent.wait("the group at its new limit", |_| {
        let events = file(&leak, "memory.events");
        events.lines().any(|line| line.starts_with("high ") && line != "high 0").then_some(())
    });
    assert!(file(&leak, "memory.events").lines().any(|line| line == "oom_kill 0"), "slowed, not killed");
    agent.signal(Signal::TERM);
    assert!(agent.end().success());
    assert_eq!((file(&leak, "memory.high").as_str(), file(&twin, "memory.high").as_str()), ("max", "max"));
    assert!(leak.ended().unwrap().is_none() && twin.ended().unwrap().is_none());
}
