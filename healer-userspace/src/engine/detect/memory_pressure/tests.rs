use super::*;
use crate::{
    engine::{memory::Memory, policy::PolicySet, world::World},
    signal::{
        memory::{MemorySnapshot, RECENT_MS},
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
        major_faults: faults,
        ..MemoryUser::default()
    }
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
