use super::*;
use crate::{
    engine::{memory::Memory, world::World},
    signal::{
        OomKill, OomScope, Party,
        memory::{MemorySnapshot, RECENT_MS, Reclaim},
    },
};

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 256 * MIB;
const START: u64 = 100_000_000_000;

#[derive(Default)]
struct Run {
    detector: MemoryLeak,
    memory: Memory,
    quarter: u64,
    found: Vec<Finding>,
}

fn process(pid: u32, comm: &str) -> Process {
    Process { pid, start: BootTime(START - 60_000_000_000), comm: comm.into(), ..Process::default() }
}

/// Who has `now` and had `then` 15 s ago, and asked the kernel for `reserved` since.
fn user(pid: u32, comm: &str, then: u64, now: u64, reserved: u64) -> MemoryUser {
    MemoryUser {
        process: process(pid, comm),
        anon: now * MIB,
        grown: (now - then) * MIB,
        reserved: reserved * MIB,
        watched_ms: RECENT_MS,
        grown_lately: (now - then) * MIB,
        grown_from_low: (now - then) * MIB,
        oom_score: now as u32,
        ..MemoryUser::default()
    }
}

fn look(anon: f64, users: Vec<MemoryUser>) -> CgroupMemory {
    CgroupMemory {
        cgroup: "/web".into(),
        over_ms: 250,
        usage: (anon * MIB as f64) as u64,
        anon: (anon * MIB as f64) as u64,
        limit: LIMIT,
        users,
        ..CgroupMemory::default()
    }
}

impl Run {
    fn tell(&mut self, at: BootTime, process: Option<Process>, fact: Fact) {
        let (world, policies) = (World::default(), PolicySet::default());
        let signal = Signal { at, process, fact };
        self.memory.note(at, &signal);
        let context =
            Context { now: at, world: &world, memory: &self.memory, policies: &policies, certificate: None };
        self.detector.observe(&context, &signal, &mut self.found);
    }

    fn at(&self) -> BootTime {
        BootTime(START + self.quarter * 250_000_000)
    }

    fn looks(&mut self, seconds: u64, of: impl Fn(f64) -> CgroupMemory) {
        for quarter in 0..seconds * 4 {
            self.quarter += 1;
            let cgroups = vec![of(quarter as f64 / 4.0)];
            self.tell(self.at(), None, Fact::Memory(MemorySnapshot { cgroups, node: None }));
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "only diagnoses are asked for")]
    fn raised(&self) -> Vec<&crate::engine::diagnosis::Diagnosis> {
        let diagnoses = self.found.iter().filter_map(|finding| match finding {
            Finding::Raised { diagnosis, .. } => Some(&**diagnosis),
            _ => None,
        });
        diagnoses.collect()
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "only ends are asked for")]
    fn cleared(&self) -> Vec<&str> {
        let ends = self.found.iter().filter_map(|finding| match finding {
            Finding::Cleared { says, .. } => Some(says.as_str()),
            _ => None,
        });
        ends.collect()
    }
}

#[test]
fn who_grew_is_the_target_and_who_is_bigger_stands_beside_it() {
    let mut run = Run::default();
    run.looks(30, |t| {
        let leaked = (2.0 * t) as u64;
        let users =
            vec![user(7, "leaky", 10, 10 + leaked.min(30), leaked.min(30)), user(8, "big", 150, 150, 0)];
        look(180.0 + 2.0 * t, users)
    });
    let raised = run.raised();
    let first = raised.first().expect("a leak");
    assert_eq!((first.target.pid, first.related[0].pid), (7, 8), "{}", first.sentence);
    let left = first.detail.time_to_limit_ms.unwrap();
    assert!((10_000..20_000).contains(&left), "{left}");
    assert!(raised.last().unwrap().detail.time_to_limit_ms < Some(left), "it is counted down");
    run.looks(6, |_| look(238.0, vec![user(7, "leaky", 40, 40, 0)]));
    assert_eq!(run.cleared().len(), 1);
    assert!(run.cleared()[0].contains("no longer grows"));
}

/// A leak until nearly full, and the end of who leaks.
fn stopped() -> Run {
    let mut run = Run::default();
    run.looks(30, |t| {
        let leaked = (2.0 * t) as u64;
        look(180.0 + 2.0 * t, vec![user(7, "leaky", 10, 10 + leaked.min(30), leaked.min(30))])
    });
    assert!(run.raised()[0].detail.level.is_some_and(|level| (85.0..95.0).contains(&level)));
    let at = run.at();
    run.tell(at, Some(process(7, "leaky")), Fact::Exited(crate::signal::Exit::default()));
    assert!(run.cleared().is_empty(), "whether that helped is not known yet");
    run
}

#[test]
fn the_end_of_who_leaks_helps_once_there_is_room() {
    let mut run = stopped();
    run.looks(2, |_| look(100.0, Vec::new()));
    assert_eq!(run.cleared().len(), 1);
    assert!(
        run.cleared()[0].contains("has ended, and 100.0 MiB of 256.0 MiB are taken"),
        "{:?}",
        run.cleared()
    );
    assert!(matches!(run.found.last(), Some(Finding::Level { level: Some(level), .. }) if *level < 40.0));
}

#[test]
fn the_end_of_one_in_a_cgroup_that_stays_full_or_pressed_has_not_helped() {
    let mut full = stopped();
    full.looks(8, |_| look(240.0, Vec::new()));
    assert!(full.cleared().is_empty(), "{:?}", full.cleared());
    let mut pressed = stopped();
    pressed.looks(8, |_| CgroupMemory { pressed_ms: Some(200), ..look(100.0, Vec::new()) });
    assert!(pressed.cleared().is_empty(), "{:?}", pressed.cleared());
    pressed.looks(4, |_| CgroupMemory { pressed_ms: Some(0), ..look(100.0, Vec::new()) });
    assert_eq!(pressed.cleared().len(), 1);
}

#[test]
fn a_heap_that_fills_what_it_reserved_is_no_leak() {
    let mut run = Run::default();
    run.looks(30, |t| {
        let grown = (2.0 * t) as u64;
        look(190.0 + 2.0 * t, vec![user(7, "java", 100, 100 + grown, 1)])
    });
    assert!(run.raised().is_empty());
}

#[test]
fn growth_of_many_is_nobodys() {
    let mut run = Run::default();
    run.looks(30, |t| {
        let users = (0..3).map(|pid| user(pid + 1, "cc1", 10, 10 + t as u64, 30)).collect();
        look(190.0 + 2.0 * t, users)
    });
    assert!(run.raised().is_empty());
}

#[test]
fn nobody_is_judged_while_it_is_young() {
    let mut run = Run::default();
    run.looks(30, |t| {
        let mut user = user(7, "ld", 10, 10 + 2 * t as u64, 60);
        user.process.start = BootTime(START + (t as u64).saturating_sub(5) * 1_000_000_000);
        look(190.0 + 2.0 * t, vec![user])
    });
    assert!(run.raised().is_empty());
}

#[test]
fn full_and_in_vain_is_enough() {
    let mut run = Run::default();
    run.looks(2, |t| CgroupMemory {
        reclaim: Some(Reclaim { calls: 9, poor: 9, pages: 3, took_ms: 1 }),
        ..look(248.0, vec![user(7, "leaky", 10, 30 + t as u64, 0)])
    });
    assert_eq!(run.raised().first().unwrap().detail.time_to_limit_ms, Some(0));
}

#[test]
fn who_was_killed_for_the_growth_of_another_is_told_apart() {
    let mut run = Run::default();
    run.looks(2, |_| look(240.0, vec![user(7, "leaky", 10, 90, 80), user(8, "big", 150, 150, 0)]));
    let kill = OomKill {
        scope: OomScope::Memcg,
        is_scope_guessed: false,
        trigger: Party::default(),
        memcg: "/web".into(),
        usage: LIMIT,
        limit: LIMIT,
    };
    run.tell(run.at(), Some(process(8, "big")), Fact::OomKilled(kill.clone()));
    let raised = run.raised();
    let found = raised.first().expect("the leaker");
    assert_eq!((found.target.pid, found.detail.kind.as_deref()), (7, Some("neighbour")));
    assert!(found.sentence.contains("big[8] was killed for it"), "{}", found.sentence);

    let mut run = Run::default();
    run.looks(2, |_| look(240.0, vec![user(7, "leaky", 10, 90, 80), user(8, "big", 150, 150, 0)]));
    run.tell(run.at(), Some(process(7, "leaky")), Fact::OomKilled(kill));
    assert!(run.raised().is_empty(), "its own death is told by its certificate");
}

fn oom_kill() -> Fact {
    Fact::OomKilled(OomKill {
        scope: OomScope::Memcg,
        is_scope_guessed: false,
        trigger: Party::default(),
        memcg: "/web".into(),
        usage: LIMIT,
        limit: LIMIT,
    })
}

/// Much, and long ago.
fn filled(pid: u32, comm: &str, now: u64) -> MemoryUser {
    MemoryUser { grown_lately: 0, grown_from_low: 0, ..user(pid, comm, 0, now, now) }
}

#[test]
fn who_filled_its_cache_long_ago_is_not_blamed_for_one_who_leaks_now() {
    let mut run = Run::default();
    let workers = |leaked: f64| {
        let leaked = leaked as u64;
        vec![filled(7, "cached", 120), user(8, "leaky", 20, 20 + leaked.min(30), leaked)]
    };
    // One fall in the beginning: it goes up and down.
    run.looks(2, |_| look(200.0, workers(0.0)));
    run.looks(30, |t| look(140.0 + 3.5 * t, workers(3.5 * t)));
    let raised = run.raised();
    assert!(!raised.is_empty() && raised.iter().all(|one| one.target.pid == 8), "{raised:?}");
}

#[test]
fn a_bystander_is_not_the_leaker_of_a_kill_that_somebody_elses_surge_brought() {
    let killed = |users: Vec<MemoryUser>, taken: f64| {
        let mut run = Run::default();
        run.looks(2, |_| look(taken, users.clone()));
        run.tell(run.at(), Some(process(8, "surges")), oom_kill());
        run.raised().len()
    };
    let victim = user(8, "surges", 10, 10, 0);
    assert_eq!(killed(vec![filled(7, "cached", 150), victim.clone()], 240.0), 0, "long ago");
    let grew = user(7, "cached", 100, 130, 30);
    assert_eq!(killed(vec![grew.clone(), victim.clone()], 150.0), 0, "there was room at the last look");
    assert_eq!(killed(vec![grew, victim], 245.0), 1, "but who took the last of it is");
}

#[test]
fn a_leak_of_like_workers_is_their_masters() {
    let worker = |pid, leaked: u64| user(pid, "worker", 20, 20 + leaked, leaked);
    let family =
        |leaked: u64| MemoryUser { workers: 4, ..user(7, "master", 80, 80 + 4 * leaked, 4 * leaked) };
    let leaks = |t: f64, families: Vec<MemoryUser>| {
        let each = ((t / 2.0) as u64).min(7);
        let users = vec![worker(8, each), worker(9, each), worker(10, each)];
        CgroupMemory { families, ..look(180.0 + 2.0 * t, users) }
    };
    let mut run = Run::default();
    run.looks(30, |t| leaks(t, vec![family(((t / 2.0) as u64).min(7))]));
    let raised = run.raised();
    let first = raised.first().expect("a leak");
    assert_eq!(first.target.pid, 7, "{}", first.sentence);
    assert!(first.sentence.contains("4 like workers of it"), "{}", first.sentence);

    let mut nobody = Run::default();
    nobody.looks(30, |t| leaks(t, Vec::new()));
    assert!(nobody.raised().is_empty(), "none of them has grown by half");
}

/// A leak to 224 MiB that rests for 20 s.
fn rested() -> Run {
    let mut run = Run::default();
    run.looks(27, |t| {
        let leaked = (2.0 * t) as u64;
        look(170.0 + 2.0 * t, vec![user(7, "leaky", 10, 10 + leaked.min(30), leaked.min(30))])
    });
    assert!(!run.raised().is_empty());
    run.looks(20, |_| look(224.0, vec![user(7, "leaky", 64, 64, 0)]));
    assert_eq!(run.cleared().len(), 1, "{:?}", run.cleared());
    run
}

/// So many MiB a second from there on, by that process.
fn goes_on(run: &mut Run, from: f64, pace: f64, pid: u32, seconds: u64) -> usize {
    let before = run.raised().len();
    run.looks(seconds, |t| {
        let grown = (pace * t) as u64;
        look(from + pace * t, vec![user(pid, "leaky", 64, 64 + grown, grown)])
    });
    run.raised().len() - before
}

#[test]
fn a_leak_that_was_held_up_is_known_again_at_once() {
    let mut run = rested();
    assert!(0 < goes_on(&mut run, 224.0, 2.0, 7, 5));
    assert_eq!(run.raised().last().unwrap().target.pid, 7);
}

#[test]
fn what_rests_after_a_leak_is_none_until_it_goes_on_as_before() {
    assert_eq!(goes_on(&mut rested(), 224.0, 0.0, 7, 30), 0, "a warm-up that is over");
    assert_eq!(goes_on(&mut rested(), 224.0, 0.5, 7, 6), 0, "a quarter of its pace");
    assert_eq!(goes_on(&mut rested(), 224.0, 2.0, 9, 6), 0, "somebody else");
    let mut collected = rested();
    assert_eq!(goes_on(&mut collected, 190.0, 2.0, 7, 16), 0, "it has given back: a heap");
}

/// A leak of 2 MiB a second up to 240 MiB, then a heap between there and 223 MiB, which is no fall.
fn sawing(period: f64) -> Run {
    let mut run = Run::default();
    run.looks(35, |t| look(171.0 + 2.0 * t, vec![user(7, "leaky", 10, 40, 30)]));
    assert!(!run.raised().is_empty());
    let before = run.raised().len();
    run.looks(45, |t| look(223.0 + 17.0 * (t % period) / period, vec![user(7, "leaky", 40, 58, 18)]));
    assert_eq!(run.raised().len(), before, "each climb of {period}s ends where the one before did");
    run
}

#[test]
fn of_a_known_leak_only_what_is_higher_than_ever_goes_on() {
    for period in [8.0, 9.0, 10.0] {
        sawing(period);
    }
    assert!(0 < goes_on(&mut sawing(9.0), 240.0, 2.0, 7, 7), "beyond what it ever had");
}

#[test]
fn a_known_leak_that_is_slower_now_has_longer() {
    assert!(0 < goes_on(&mut rested(), 224.0, 1.2, 7, 5), "26s to its limit, at the pace of before 16s");
}
