use super::*;
use crate::{
    engine::{
        certificate::{Certificate, certify},
        diagnosis::Diagnosis,
        memory::Memory,
        policy::PolicySet,
        world::World,
    },
    signal::{
        Exit,
        memory::{CgroupMemory, Grown, Growth, MemorySnapshot, MemoryUser, NodeMemory, RECENT_MS, Taken},
        syscall_error::SyscallError,
    },
};

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 256 * MIB;
const START: u64 = 100_000_000_000;

/// Who has `now` after it grew by `grown`, and reads `faults` of its own pages again in each look.
fn user(pid: u32, comm: &str, now: u64, grown: u64, faults: u64) -> MemoryUser {
    MemoryUser {
        process: Process { pid, start: BootTime(1), comm: comm.into(), ..Process::default() },
        anon: now * MIB,
        grown: grown * MIB,
        reserved: grown * MIB,
        watched_ms: RECENT_MS,
        grown_lately: grown * MIB,
        grown_from_low: grown * MIB,
        of_age: Some(Taken { anon: grown * MIB, reserved: grown * MIB }),
        major_faults: faults,
        ..MemoryUser::default()
    }
}

/// By these, and by nobody else.
fn grown(users: &[MemoryUser]) -> Option<Grown> {
    let sum = users.iter().map(|user| user.grown_lately).sum();
    let all = Growth { lately: sum, from_low: sum };
    Some(Grown { users: all, whole: all })
}

fn thrashes(users: Vec<MemoryUser>) -> MemorySnapshot {
    let memory = CgroupMemory {
        cgroup: "/web".into(),
        over_ms: 1000,
        usage: LIMIT,
        anon: 180 * MIB,
        limit: LIMIT,
        major_faults: 5000,
        refaults: 5000,
        grown: grown(&users),
        users,
        ..CgroupMemory::default()
    };
    MemorySnapshot { cgroups: vec![memory], node: None }
}

/// Of a node of 4 GiB.
fn is_short(users: Vec<MemoryUser>) -> MemorySnapshot {
    let node = NodeMemory {
        over_ms: 1000,
        total: 4096 * MIB,
        available: 200 * MIB,
        pressed_ms: Some(500),
        grown: grown(&users),
        users,
        ..NodeMemory::default()
    };
    MemorySnapshot { cgroups: Vec::new(), node: Some(node) }
}

/// What three such looks raise.
fn raised(snapshot: &MemorySnapshot) -> Diagnosis {
    raised_after(snapshot, Memory::default())
}

fn raised_after(snapshot: &MemorySnapshot, memory: Memory) -> Diagnosis {
    let (world, policies) = (World::default(), PolicySet::default());
    let mut detector = MemoryPressure::default();
    let mut found = Vec::new();
    for second in 0..3 {
        let at = BootTime(START + second * 1_000_000_000);
        let signal = Signal { at, process: None, fact: Fact::Memory(snapshot.clone()) };
        let context =
            Context { now: at, world: &world, memory: &memory, policies: &policies, certificate: None };
        detector.observe(&context, &signal, &mut found);
    }
    let diagnosis = found.into_iter().find_map(|finding| {
        let Finding::Raised { diagnosis, .. } = finding else { return None };
        Some(*diagnosis)
    });
    diagnosis.expect("pressure")
}

fn related(found: &Diagnosis) -> Vec<u32> {
    found.related.iter().map(|process| process.pid).collect()
}

#[test]
fn who_grew_is_the_target_and_who_suffers_stands_beside_it() {
    let users = vec![user(7, "leaky", 60, 40, 0), user(8, "big", 100, 0, 0), user(9, "web", 20, 0, 5000)];
    let found = raised(&thrashes(users));
    assert_eq!((found.target.pid, related(&found)), (7, vec![9, 8]), "{}", found.sentence);
    let says = "; leaky[7] grew by 40.0 MiB in 15.0s, and web[9] suffers from it";
    assert!(found.sentence.ends_with(says), "{}", found.sentence);
    assert_eq!(found.detail.kind.as_deref(), Some("thrashing"));
}

#[test]
fn where_nobody_grew_much_it_is_about_who_suffers() {
    let of = |grower: MemoryUser| {
        let found = raised(&thrashes(vec![grower, user(8, "big", 100, 0, 0), user(9, "web", 20, 0, 5000)]));
        assert!(!found.sentence.contains("suffers"), "{}", found.sentence);
        found.target.pid
    };
    assert_eq!(of(user(7, "idle", 60, 0, 0)), 9);
    assert_eq!(of(user(7, "breathes", 60, 10, 0)), 9, "a sixteenth of the limit is more");
    let java = MemoryUser { reserved: 0, ..user(7, "java", 60, 40, 0) };
    assert_eq!(of(java), 9, "a heap that fills what it had reserved");
}

#[test]
fn growth_of_many_is_nobodys_unless_they_are_like_workers_of_one() {
    let workers = || (10..13).map(|pid| user(pid, "cc1", 30, 20, 0));
    let users: Vec<_> = workers().chain([user(9, "web", 20, 0, 5000)]).collect();
    assert_eq!(raised(&thrashes(users.clone())).target.pid, 9);
    let mut snapshot = thrashes(users);
    snapshot.cgroups[0].families = vec![MemoryUser { workers: 3, ..user(6, "master", 90, 61, 0) }];
    let found = raised(&snapshot);
    assert_eq!(found.target.pid, 6);
    assert!(found.sentence.contains("; 3 workers of master[6] grew by 61.0 MiB"), "{}", found.sentence);
}

#[test]
fn a_node_that_is_short_names_who_took_the_room_and_without_one_it_is_only_told() {
    let found = raised(&is_short(vec![user(7, "leaky", 900, 600, 0), user(8, "db", 2500, 0, 3000)]));
    assert_eq!((found.target.pid, related(&found)), (7, vec![8]), "{}", found.sentence);
    assert_eq!(found.detail.kind.as_deref(), Some(NODE));
    let found = raised(&is_short(vec![user(7, "breathes", 900, 100, 0), user(8, "db", 2500, 0, 3000)]));
    assert_eq!((found.target.pid, found.target.comm.as_str()), (0, NODE));
    assert_eq!(found.detail.kind.as_deref(), Some(NODE));
}

#[test]
fn a_call_that_failed_for_want_of_memory_is_evidence_and_no_other_is() {
    let snapshot = thrashes(vec![user(9, "web", 20, 0, 5000)]);
    let after = |errno: i32, at: u64| {
        let error = SyscallError { call: "mmap".into(), errno, count: 3, ..SyscallError::default() };
        let (at, process) = (BootTime(at), Some(user(9, "web", 20, 0, 0).process));
        let mut memory = Memory::default();
        memory.note(at, &Signal { at, process, fact: Fact::SyscallError(Box::new(error)) });
        raised_after(&snapshot, memory).evidence
    };
    let found = after(libc::ENOMEM, START);
    let [_, refused] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(refused.says, "web[9]: mmap fails with ENOMEM, no memory: 3 times so far");
    assert_eq!(after(libc::ENOBUFS, START).len(), 2);
    assert_eq!(after(libc::EMFILE, START).len(), 1, "that is no memory");
    assert_eq!(after(libc::ENOMEM, START - 20_000_000_000).len(), 1, "long ago");
}

#[test]
fn who_does_not_explain_the_growth_or_has_just_begun_is_not_to_blame() {
    let leaky = || user(7, "leaky", 900, 600, 0);
    let of = |grown: Option<Grown>, user: MemoryUser| {
        let mut snapshot = is_short(vec![user]);
        snapshot.node.as_mut().unwrap().grown = grown;
        raised(&snapshot).target.pid
    };
    let by = |amount: u64| Growth { lately: amount * MIB, from_low: amount * MIB };
    assert_eq!(of(Some(Grown { users: by(1100), whole: by(1200) }), leaky()), 7);
    assert_eq!(of(Some(Grown { users: by(1300), whole: by(600) }), leaky()), 0, "many others, each less");
    assert_eq!(of(Some(Grown { users: by(600), whole: by(1300) }), leaky()), 0, "files in memory");
    assert_eq!(of(None, leaky()), 0, "nobody knows");
    let age = |of_age: Option<(u64, u64)>| {
        let taken = of_age.map(|(anon, reserved)| Taken { anon: anon * MIB, reserved: reserved * MIB });
        let one = MemoryUser { of_age: taken, ..leaky() };
        of(grown(&[leaky()]), one)
    };
    assert_eq!(age(None), 0, "a successor that begins");
    assert_eq!(age(Some((100, 100))), 0, "most of it was its start");
    assert_eq!(age(Some((600, 0))), 0, "it fills a heap that it reserved at its start");
    assert_eq!(age(Some((600, 600))), 7);
}

/// What the detector says of one look after the other.
#[derive(Default)]
struct Run {
    detector: MemoryPressure,
    second: u64,
    found: Vec<Finding>,
}

impl Run {
    fn tell(&mut self, process: Option<Process>, fact: Fact, certificate: Option<&Certificate>) {
        let (world, policies, memory) = (World::default(), PolicySet::default(), Memory::default());
        let at = BootTime(START + self.second * 1_000_000_000);
        let signal = Signal { at, process, fact };
        let context = Context { now: at, world: &world, memory: &memory, policies: &policies, certificate };
        self.detector.observe(&context, &signal, &mut self.found);
    }

    fn looks(&mut self, seconds: u64, snapshot: &MemorySnapshot) {
        for _ in 0..seconds {
            self.second += 1;
            self.tell(None, Fact::Memory(snapshot.clone()), None);
        }
    }

    fn ends(&mut self, pid: u32, by_healer: bool) {
        let (process, exit) = (user(pid, "leaky", 0, 0, 0).process, Exit::default());
        let mut certificate = certify(&Memory::default(), &process, exit, BootTime(START), 1);
        certificate.own = by_healer.then(|| "i1/0".to_owned());
        self.tell(Some(process), Fact::Exited(exit), Some(&certificate));
    }

    fn raised(&self) -> Vec<u32> {
        let raised = self.found.iter().filter_map(|finding| match finding {
            Finding::Raised { diagnosis, .. } => Some(diagnosis.target.pid),
            Finding::Cleared { .. }
            | Finding::Restated { .. }
            | Finding::Level { .. }
            | Finding::Watch(_)
            | Finding::Unwatch(_)
            | Finding::Remark { .. } => None,
        });
        raised.collect()
    }

    fn said(&self) -> Vec<&str> {
        let said = self.found.iter().filter_map(|finding| match finding {
            Finding::Cleared { says, .. } => Some(says.as_str()),
            Finding::Raised { .. }
            | Finding::Restated { .. }
            | Finding::Level { .. }
            | Finding::Watch(_)
            | Finding::Unwatch(_)
            | Finding::Remark { .. } => None,
        });
        said.collect()
    }

    fn cleared(&self) -> usize {
        self.said().len()
    }
}

fn taken_by(pid: u32) -> MemorySnapshot {
    is_short(vec![user(pid, "leaky", 900, 600, 0)])
}

#[test]
fn while_memory_is_short_the_end_of_whom_healer_has_ended_is_no_cure_and_the_next_is_named() {
    let mut run = Run::default();
    run.looks(3, &taken_by(7));
    run.ends(7, true);
    run.looks(5, &taken_by(8));
    assert_eq!((run.raised(), run.cleared()), (vec![7, 8], 0));
    let roomy = MemorySnapshot::default();
    run.looks(8, &roomy);
    assert_eq!(run.cleared(), 2, "once there is room, both are over");
}

#[test]
fn while_memory_is_short_whoever_grows_by_now_is_named_once() {
    let mut run = Run::default();
    run.looks(3, &taken_by(7));
    run.looks(2, &taken_by(8));
    run.looks(2, &taken_by(7));
    assert_eq!(run.raised(), [7], "for a moment only");
    run.looks(5, &taken_by(8));
    run.looks(5, &taken_by(7));
    assert_eq!((run.raised(), run.cleared()), (vec![7, 8], 0), "and not in turn");
    run.looks(8, &MemorySnapshot::default());
    assert_eq!(run.cleared(), 2);
}

#[test]
fn who_ends_by_itself_takes_nobody_with_it_and_is_over_even_if_it_was_given_up() {
    let begin = || {
        let mut run = Run::default();
        run.looks(3, &taken_by(7));
        run.looks(5, &taken_by(8));
        assert_eq!((run.raised(), run.cleared()), (vec![7, 8], 0));
        run
    };
    let mut latter = begin();
    latter.ends(8, false);
    assert_eq!(latter.said(), ["leaky[8] has ended"]);
    latter.looks(3, &taken_by(7));
    assert_eq!(latter.raised(), [7, 8, 7], "who was given up may be the only one left");
    let mut former = begin();
    former.ends(7, false);
    assert_eq!(former.said(), ["leaky[7] has ended"]);
    former.looks(8, &MemorySnapshot::default());
    assert_eq!(former.said()[1..], ["leaky[8] has memory again"]);
}

#[test]
fn how_bad_it_is_is_told_of_all_who_were_named() {
    let mut run = Run::default();
    run.looks(3, &taken_by(7));
    run.looks(5, &taken_by(8));
    run.found.clear();
    run.looks(1, &taken_by(8));
    let levels = run.found.iter().filter(|finding| matches!(finding, Finding::Level { .. }));
    assert_eq!(levels.count(), 2);
}

#[test]
fn who_ends_by_itself_or_leaves_room_is_over() {
    let mut alone = Run::default();
    alone.looks(3, &taken_by(7));
    alone.ends(7, false);
    assert_eq!(alone.cleared(), 1);
    let mut helped = Run::default();
    helped.looks(3, &taken_by(7));
    helped.ends(7, true);
    assert_eq!(helped.cleared(), 0, "nobody has looked since");
    helped.looks(6, &MemorySnapshot::default());
    assert_eq!((helped.raised(), helped.cleared()), (vec![7], 1));
}

#[test]
fn one_process_that_takes_the_room_of_two_places_is_over_when_both_are() {
    let both = || {
        let of_cgroup = thrashes(vec![user(7, "leaky", 60, 40, 0)]).cgroups;
        MemorySnapshot { cgroups: of_cgroup, ..taken_by(7) }
    };
    let mut run = Run::default();
    run.looks(3, &both());
    assert_eq!(run.raised(), [7, 7]);
    run.looks(10, &taken_by(7));
    assert_eq!(run.cleared(), 0, "the node is short still");
    run.looks(8, &MemorySnapshot::default());
    assert_eq!(run.cleared(), 1);
}
