use super::*;
use crate::{
    engine::{
        memory::Memory,
        policy::{Condition as Wanted, Expect, Match, Mode, Policy, Rule, Safety, Verify},
        world::World,
    },
    identity::process::Process,
    signal::waits::{Condition, Owner, Source, Task, Wait, WaitKind, WaitingProcess},
};

const MS: u64 = 1_000_000;

fn task(tgid: u32, tid: u32, waits: Vec<Wait>) -> Task {
    Task {
        tid,
        start: BootTime(u64::from(tid)),
        tgid,
        comm: format!("t{tid}"),
        condition: Condition::Stuck,
        syscall: 202,
        args: [0x1000, 128, 2, 0],
        waited_ms: 1_500,
        switches: 7,
        waits,
        file_system: None,
    }
}

fn wait(source: Source, owners: &[Owner]) -> Wait {
    Wait {
        kind: WaitKind::Mutex,
        lock: "0x1000".into(),
        source,
        word: Some(2),
        owners: owners.to_vec(),
        says: "test".into(),
    }
}

fn held_by(owner: u32) -> Vec<Wait> {
    vec![wait(Source::Layout, &[Owner::Task(owner)])]
}

fn process(pid: u32, threads: u32) -> WaitingProcess {
    let process = Process { pid, start: BootTime(u64::from(pid)), comm: "app".into(), ..Process::default() };
    WaitingProcess { process, threads, parked: 0, wakers: Vec::new() }
}

fn snapshot(tasks: Vec<Task>, processes: Vec<WaitingProcess>) -> WaitSnapshot {
    WaitSnapshot { scan: 1, tasks, processes, deaf: Vec::new() }
}

/// What the detector says of each snapshot, a second apart.
fn run(snapshots: &[WaitSnapshot]) -> Vec<Vec<Finding>> {
    run_under(&PolicySet::default(), snapshots)
}

fn run_under(policies: &PolicySet, snapshots: &[WaitSnapshot]) -> Vec<Vec<Finding>> {
    let mut detector = Deadlock::default();
    let (world, memory) = (World::default(), Memory::default());
    let observe = |(index, one): (usize, &WaitSnapshot)| {
        let now = BootTime(100_000 * MS + index as u64 * 1_000 * MS);
        let mut found = Vec::new();
        let context = Context { now, world: &world, memory: &memory, policies, certificate: None };
        let signal = Signal { at: now, process: None, fact: Fact::Waits(one.clone()) };
        detector.observe(&context, &signal, &mut found);
        found
    };
    snapshots.iter().enumerate().map(observe).collect()
}

fn dead(snapshot: &WaitSnapshot) -> BTreeSet<u32> {
    Graph::new(snapshot).dead(graph::Grade::Proof)
}

#[test]
fn a_cycle_is_proved_by_its_second_look() {
    let one = snapshot(
        vec![
            task(1, 1, vec![wait(Source::Kernel, &[Owner::Task(2)])]),
            task(1, 2, held_by(3)),
            task(1, 3, held_by(2)),
        ],
        vec![process(1, 3)],
    );
    let found = run(&[one.clone(), one.clone(), one, WaitSnapshot::default(), WaitSnapshot::default()]);
    assert!(found[0].is_empty() && found[2].is_empty() && found[3].is_empty());
    let [Finding::Raised { subject, diagnosis }] = &found[1][..] else {
        panic!("{found:?}");
    };
    let id = ProcessId { pid: 1, start: BootTime(1) };
    assert_eq!(*subject, Subject::Process(id, Class::Deadlock));
    assert_eq!(diagnosis.certainty, Certainty::Proved);
    assert_eq!(
        diagnosis.sentence,
        "app[1]: 2 threads wait for each other: t2[2] waits 1.5s for mutex 0x1000 held by t3[3], \
         which waits 1.5s for mutex 0x1000 held by t2[2]; 1 more thread waits behind them"
    );
    assert_eq!(diagnosis.fault_at, BootTime(99_500 * MS));
    assert!(matches!(found[4][..], [Finding::Cleared { .. }]));
}

#[test]
fn somebody_who_ran_in_between_starts_the_count_again() {
    let one = snapshot(vec![task(1, 1, held_by(1))], vec![process(1, 2)]);
    let mut ran = one.clone();
    ran.tasks[0].switches += 1;
    let found = run(&[one.clone(), ran.clone(), ran]);
    assert!(found[0].is_empty() && found[1].is_empty());
    assert_eq!(found[2].len(), 1);
}

#[test]
fn a_live_owner_saves_the_whole_chain() {
    let mut live = task(1, 3, Vec::new());
    live.condition = Condition::Live;
    let one = snapshot(vec![task(1, 1, held_by(2)), task(1, 2, held_by(3)), live], vec![process(1, 3)]);
    assert!(dead(&one).is_empty());
    let convoy = convoys(&one);
    assert_eq!(convoy.len(), 1);
    assert_eq!((convoy[0].root, convoy[0].why), (3, Root::Runs));
    assert_eq!(convoy[0].waiters, BTreeSet::from([1, 2]));
}

#[test]
fn of_several_owners_one_that_runs_is_enough() {
    let mut live = task(1, 3, Vec::new());
    live.condition = Condition::Stopped;
    let either = vec![wait(Source::Kernel, &[Owner::Task(1), Owner::Task(3)])];
    let one = snapshot(vec![task(1, 1, held_by(2)), task(1, 2, either), live], vec![process(1, 3)]);
    assert!(dead(&one).is_empty());
}

#[test]
fn a_closed_world_needs_every_thread_and_no_waker() {
    let parked = |tid| task(1, tid, vec![wait(Source::ClosedWorld, &[Owner::Process(1)])]);
    let mut one = snapshot(vec![parked(1), parked(2)], vec![process(1, 2)]);
    assert_eq!(dead(&one).len(), 2);
    one.processes[0].threads = 3;
    assert!(dead(&one).is_empty());
    one.processes[0].parked = 1;
    assert_eq!(dead(&one).len(), 2);
    let any = |one: &WaitSnapshot| Graph::new(one).dead(graph::Grade::Any).len();
    one.processes[0].wakers = vec!["catches signal 2".into()];
    assert!(dead(&one).is_empty());
    assert_eq!(any(&one), 2, "an interrupt is nobody's work");
    one.processes[0].wakers.push("catches signal 15".into());
    assert_eq!(any(&one), 0, "it waits for a signal by design");
}

#[test]
fn stacks_alone_need_three_rounds_and_ten_seconds() {
    let by_stack = |tid, owner| task(1, tid, vec![wait(Source::Stack, &[Owner::Task(owner)])]);
    let mut one = snapshot(vec![by_stack(1, 2), by_stack(2, 1)], vec![process(1, 3)]);
    let young = one.clone();
    one.tasks.iter_mut().for_each(|task| task.waited_ms = 10_000);
    let found = run(&[young.clone(), young.clone(), young, one]);
    assert!(found[..3].iter().all(Vec::is_empty));
    let [Finding::Raised { diagnosis, .. }] = &found[3][..] else {
        panic!("{found:?}");
    };
    assert_eq!(diagnosis.certainty, Certainty::Probable);
}

#[test]
fn a_cycle_through_two_processes_is_one_incident_of_the_youngest() {
    let one =
        snapshot(vec![task(1, 1, held_by(2)), task(2, 2, held_by(1))], vec![process(1, 1), process(2, 1)]);
    let found = run(&[one.clone(), one]);
    let [Finding::Raised { diagnosis, .. }] = &found[1][..] else {
        panic!("{found:?}");
    };
    assert_eq!(diagnosis.target.pid, 2);
    assert_eq!(diagnosis.related.iter().map(|one| one.pid).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_cycle_through_two_processes_is_one_whoever_else_runs_in_them() {
    let live = |tgid, tid| Task { condition: Condition::Live, ..task(tgid, tid, Vec::new()) };
    let shared = |first: Vec<Wait>, second: Vec<Wait>| {
        let tasks = vec![task(1, 1, first), live(1, 11), task(2, 2, second), live(2, 12)];
        dead(&snapshot(tasks, vec![process(1, 2), process(2, 2)]))
    };
    assert_eq!(shared(held_by(2), held_by(1)), BTreeSet::from([1, 2]));
    assert!(shared(held_by(2), held_by(11)).is_empty(), "the other process gives it back");
    let semaphore = |tgid| vec![wait(Source::ClosedWorld, &[Owner::Process(tgid)])];
    assert!(shared(semaphore(2), semaphore(1)).is_empty(), "whoever runs there may post it");
}

/// A policy by comm whose only rule speaks of `class`.
fn policy_of(comm: &str, mode: Mode, class: Class) -> Policy {
    let rule = Rule {
        name: "stuck".into(),
        when: vec![Wanted::of(class)],
        unless: Vec::new(),
        capture: None,
        escalate: Vec::new(),
    };
    Policy {
        name: comm.to_owned(),
        mode,
        matches: Match { comms: vec![comm.to_owned()], ..Match::default() },
        avoid: Vec::new(),
        expect: Expect::default(),
        rules: vec![rule],
        safety: Safety::default(),
        verify: Verify::default(),
    }
}

#[test]
fn of_two_processes_the_one_that_may_be_healed_is_chosen() {
    let (mut old, mut young) = (process(1, 1), process(2, 1));
    (old.process.comm, young.process.comm) = ("old".into(), "young".into());
    let one = snapshot(vec![task(1, 1, held_by(2)), task(2, 2, held_by(1))], vec![old, young]);
    let chosen = |policies: &[Policy]| {
        let policies = PolicySet { policies: policies.to_vec(), ..PolicySet::default() };
        let found = run_under(&policies, &[one.clone(), one.clone()]);
        let [Finding::Raised { diagnosis, .. }] = &found[1][..] else {
            panic!("{found:?}");
        };
        diagnosis.target.pid
    };
    let of = policy_of;
    assert_eq!(chosen(&[of("old", Mode::Enforce, Class::Deadlock)]), 1);
    assert_eq!(chosen(&[of("old", Mode::Enforce, Class::Down)]), 2, "its policy has nothing to say of this");
    let both = [of("old", Mode::Enforce, Class::Deadlock), of("young", Mode::Shadow, Class::Deadlock)];
    assert_eq!(chosen(&both), 1);
    let both = [of("old", Mode::Enforce, Class::Deadlock), of("young", Mode::Enforce, Class::Deadlock)];
    assert_eq!(chosen(&both), 2, "between equals the youngest");
}

#[test]
fn an_orphaned_lock_is_probable_while_somebody_could_unlock_it() {
    let orphan = vec![wait(Source::Layout, &[Owner::Gone(9)])];
    let one = snapshot(vec![task(1, 1, orphan)], vec![process(1, 2)]);
    assert!(dead(&one).is_empty());
    let proofs = proofs(&Graph::new(&one));
    assert_eq!(proofs[0].shape, proof::Shape::OrphanedLock);
    assert_eq!(proofs[0].certainty, Certainty::Probable);
}

#[test]
fn a_lock_of_files_that_a_timer_ends_is_no_deadlock() {
    let crosswise = |wakers: &[&str], kind: WaitKind| {
        let held = |by| vec![Wait { kind, ..wait(Source::Kernel, &[Owner::Process(by)]) }];
        let wakers: Vec<String> = wakers.iter().map(|waker| (*waker).to_owned()).collect();
        let one = |pid| WaitingProcess { wakers: wakers.clone(), ..process(pid, 1) };
        dead(&snapshot(vec![task(1, 1, held(2)), task(2, 2, held(1))], vec![one(1), one(2)])).len()
    };
    assert_eq!(crosswise(&[], WaitKind::Flock), 2);
    assert_eq!(crosswise(&["catches signal 2, 15"], WaitKind::Flock), 2);
    assert_eq!(crosswise(&["catches signal 2, 14"], WaitKind::Flock), 0);
    assert_eq!(crosswise(&["has timers"], WaitKind::PipeWrite), 0);
    assert_eq!(crosswise(&["catches signal 14"], WaitKind::PiMutex), 2, "a handler gives no mutex back");
}
