//! What every kernel must call alike, with the same certainty; the healthy neighbour is not named. Needs root.
//!
//! guest: all
//! old guest: a_fault_in_a_thread_is_a_crash_with_its_address an_oom_kill_names_its_victim_and_who_asked_for_more
//! old guest: a_program_started_again_and_again_to_fail_is_a_crash_loop

use std::{path::Path, process::Command};

use healer_tests::{
    binary::healer,
    cgroup::{MemoryCgroup, V2Cgroup},
    home::{Agent, Home, count},
    policies::restarting,
    supervised::{Supervised, name},
    victim::{HOGS, Victim, built},
};
use healer_userspace::fault::{Fault, victim::Victim as FaultVictim};
use serde_json::Value;

const LIMIT: u64 = 64 << 20;
const FOREVER: [&str; 2] = ["sleep", "1000"];

fn home() -> (Home, String) {
    let name = name();
    (Home::new(&restarting(&format!("'{name}*'"))), name)
}

/// The first diagnosis of this class that `is_it` wants: its certainty and its sentence.
fn diagnosed(agent: &mut Agent<'_>, class: &str, is_it: impl Fn(&Value) -> bool) -> (String, String) {
    let found = agent.wait(class, |agent| {
        let mut records = agent.home().audit().into_iter();
        records.find(|record| record["record"] == "diagnosis" && record["class"] == class && is_it(record))
    });
    let word = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (word("certainty"), word("sentence"))
}

fn is_about(record: &Value, pid: u32) -> bool {
    record["target"]["pid"] == pid
}

#[test]
fn an_oom_kill_names_its_victim_and_who_asked_for_more() {
    let (home, _) = home();
    let mut agent = home.agent();
    let group = MemoryCgroup::new();
    group.set_limit(LIMIT);
    let start = |program: &Path| Victim::spawn(Command::new("/bin/sh").args(["-c", &group.run(program)]));
    let mut hog = start(&built(home.scratch(), "hog"));
    hog.has_taken(HOGS);
    let leak = start(&built(home.scratch(), "leak"));
    let pid = hog.tgid();
    let (certainty, says) = diagnosed(&mut agent, "oom_kill", |record| is_about(record, pid));
    assert_eq!(certainty, "proved", "{says}");
    let trigger = format!("when leak[{}]", leak.tgid());
    assert!(says.contains("its memory cgroup") && says.contains(&trigger), "{says}");
    hog.wait();
}

#[test]
fn a_fault_in_a_thread_is_a_crash_with_its_address() {
    let (home, _) = home();
    let mut agent = home.agent();
    let victim = Victim::start(built(home.scratch(), "segv"), &[]);
    let (certainty, says) = diagnosed(&mut agent, "crash", |record| is_about(record, victim.tgid()));
    assert_eq!(certainty, "proved", "{says}");
    assert!(says.contains("crashed with SIGSEGV at address 0x1230"), "{says}");
}

#[test]
fn a_program_started_again_and_again_to_fail_is_a_crash_loop() {
    let (home, _) = home();
    let mut agent = home.agent();
    let fault = Fault::by_name("crash-loop").unwrap();
    let parent = FaultVictim::of_binary(&healer(), fault, home.state()).unwrap();
    let is_child = |record: &Value| record["target"]["parent"]["pid"] == parent.pid();
    let (certainty, says) = diagnosed(&mut agent, "crash_loop", is_child);
    assert_eq!(certainty, "probable", "{says}");
    assert!(says.contains("SIGABRT"), "{says}");
}

#[test]
fn a_blow_by_cgroup_kill_is_told_from_others_and_healed() {
    let (home, name) = home();
    let mut agent = home.agent();
    let group = V2Cgroup::new();
    let inside = format!("echo $$ > {}/cgroup.procs; exec sleep 1000", group.path().display());
    let service = Supervised::start(&home, &name, &["sh", "-c", &inside]);
    let neighbour = Supervised::start(&home, &format!("{name}-twin"), &FOREVER);
    let (child, twin) = (service.child(), neighbour.child());
    healer_tests::home::until("the move", || group.has(child).then_some(()));
    group.kill();
    let workload = service.workload();
    let (certainty, says) = diagnosed(&mut agent, "down", |record| record["workload"] == *workload);
    assert_eq!(certainty, "proved", "{says}");
    assert!(says.contains("killed by cgroup.kill, written by "), "{says}");
    agent.record(&workload, "closed", "\"outcome\":\"healed\"");
    assert_eq!(count(&home.of(&workload), "intent", "restart"), 1);
    assert_ne!(service.child(), child);
    assert_eq!(neighbour.child(), twin);
    assert_eq!(home.of(&neighbour.workload()), Vec::<Value>::new());
}
