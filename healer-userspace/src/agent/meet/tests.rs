use super::*;
use crate::{
    engine::policy::{Expect, Match, Mode, Policy, Safety, Verify},
    identity::fixture::{Fake, Tree},
};

const NOW: BootTime = BootTime(900_000_000_000);

pub(in crate::agent) fn exe_policy(exe: &str) -> PolicySet {
    let matches = Match { exes: vec![exe.to_owned()], ..Match::default() };
    let expect = Expect { running: Some(true), ..Expect::default() };
    let policy = Policy {
        name: "served".to_owned(),
        mode: Mode::Enforce,
        matches,
        avoid: Vec::new(),
        expect,
        rules: Vec::new(),
        safety: Safety::default(),
        verify: Verify::default(),
    };
    PolicySet { policies: vec![policy], ..PolicySet::default() }
}

fn met(tree: &Tree) -> Identity {
    let mut identity = Identity::new(tree.roots());
    identity.scan(NOW);
    identity
}

/// What the engine knows once all these have begun.
fn world_of(processes: &[Process], policies: &PolicySet) -> World {
    let mut world = World::default();
    for process in processes {
        let begun = Signal { at: NOW, process: Some(process.clone()), fact: Fact::Execed };
        world.update(NOW, &begun, policies);
    }
    world
}

fn pids(processes: &[Process]) -> Vec<u32> {
    processes.iter().map(|process| process.pid).collect()
}

#[test]
fn who_is_only_not_reaped_is_gone_and_who_runs_on_in_threads_is_not() {
    let tree = Tree::new();
    let exe = tree.file("bin/server", "");
    let policies = exe_policy(&exe);
    for pid in [40, 41, 42, 43] {
        tree.process(&Fake::new(pid, "server").exe(&exe).in_cgroup(&format!("/box{pid}")));
    }
    let mut identity = met(&tree);
    let world = world_of(&newcomers(&identity, &policies, &World::default()), &policies);
    assert!(gone(&identity, &world).is_empty());
    tree.process(&Fake::new(41, "server").zombie(1));
    tree.process(&Fake::new(42, "server").zombie(3));
    tree.remove(43);
    assert_eq!(pids(&gone(&identity, &world)), [41, 43]);
    for pid in [40, 41, 42, 43] {
        let id = identity.of_id(ProcessId { pid, start: BootTime(u64::from(pid) * TICK_NS) }).unwrap().id();
        identity.track(id);
    }
    assert_eq!(identity.missing().iter().map(|id| id.pid).collect::<Vec<_>>(), [41, 43]);
}

#[test]
fn after_lost_records_a_successor_is_news_and_the_dead_are_not() {
    let tree = Tree::new();
    let exe = tree.file("bin/server", "");
    let policies = exe_policy(&exe);
    tree.process(&Fake::new(40, "server").exe(&exe));
    let mut identity = met(&tree);
    let world = world_of(&newcomers(&identity, &policies, &World::default()), &policies);
    tree.process(&Fake::new(40, "server").zombie(1));
    tree.process(&Fake::new(50, "server").exe(&exe));
    tree.process(&Fake::new(51, "other"));
    identity.scan(NOW);
    assert_eq!(pids(&newcomers(&identity, &policies, &world)), [50]);
}

#[test]
fn workers_of_a_server_are_not_met_and_programs_it_has_started_are() {
    let tree = Tree::new();
    let exe = tree.file("bin/server", "");
    let policies = exe_policy(&exe);
    tree.process(&Fake::new(40, "server").exe(&exe).stack(7000));
    tree.process(&Fake::new(41, "server").exe(&exe).child_of(40).stack(7000));
    tree.process(&Fake::new(42, "server").exe(&exe).child_of(40));
    tree.process(&Fake::new(43, "server").exe(&exe).child_of(40).stack(9000));
    let identity = met(&tree);
    assert_eq!(pids(&newcomers(&identity, &policies, &World::default())), [40, 43]);
}

#[test]
fn a_daemon_that_was_forked_is_what_its_first_process_has_left() {
    let tree = Tree::new();
    let exe = tree.file("bin/server", "");
    let policies = exe_policy(&exe);
    tree.process(&Fake::new(30, "worker").exe(&exe));
    tree.process(&Fake::new(41, "server").exe(&exe).started(40));
    let identity = met(&tree);
    let first = Process {
        pid: 40,
        start: BootTime(40 * TICK_NS + 5000),
        exe: Some(exe.clone()),
        workload: crate::identity::process::WorkloadKey("program/server".to_owned()),
        ..Process::default()
    };
    let mut world = world_of(std::slice::from_ref(&first), &policies);
    assert!(!is_missed(&world, &first));
    let end = Signal { at: NOW, process: Some(first.clone()), fact: Fact::Exited(Exit::default()) };
    world.update(NOW, &end, &policies);
    assert!(is_missed(&world, &first));
    let left = those_left(std::slice::from_ref(&first), newcomers(&identity, &policies, &world));
    assert_eq!(pids(&left), [41], "who is older is no child");
    assert!(left[0].start > first.start);
    assert!(may_leave_a_child(&first, &Exit::default()));
    assert!(!may_leave_a_child(&first, &Exit { signal: Some(libc::SIGKILL), ..Exit::default() }));
}

#[test]
fn a_doubt_waits_for_its_second() {
    let mut doubts = Doubts::default();
    let id = |pid| ProcessId { pid, start: BootTime(1) };
    doubts.tracked(NOW, id(1));
    doubts.tracked(NOW + Duration::from_millis(500), id(2));
    assert!(take_due(&mut doubts.tracked, NOW + Duration::from_millis(900)).is_empty());
    assert_eq!(take_due(&mut doubts.tracked, NOW + LOOKS_AFTER), [id(1)]);
    assert_eq!(take_due(&mut doubts.tracked, NOW + 2 * LOOKS_AFTER), [id(2)]);
}
