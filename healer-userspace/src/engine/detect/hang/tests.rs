use super::*;
use crate::{
    engine::{memory::Memory, policy::PolicySet, world::World},
    identity::process::Process,
    signal::work::{Backlog, Hope, Throttled, Unanswered, UnixWork, Unread, Unseen},
};

mod hope;

const START: u64 = 1_000_000_000_000;

struct Run {
    hang: Hang,
    second: u64,
    found: Vec<Finding>,
}

impl Run {
    fn new() -> Self {
        Self { hang: Hang::default(), second: 0, found: Vec::new() }
    }

    /// The same look, second after second; ages grow with them.
    fn seconds(&mut self, seconds: u64, work: impl Fn(u64) -> Work) -> &mut Self {
        self.looks(seconds, |ms| WorkSnapshot { processes: vec![work(ms)], ..WorkSnapshot::default() })
    }

    fn looks(&mut self, seconds: u64, look: impl Fn(u64) -> WorkSnapshot) -> &mut Self {
        for _ in 0..seconds {
            self.second += 1;
            let snapshot = WorkSnapshot { wall_ms: 1000, ..look(self.second * 1000) };
            let at = BootTime(START) + Duration::from_secs(self.second);
            let (world, memory, policies) = (World::default(), Memory::default(), PolicySet::default());
            let context =
                Context { now: at, world: &world, memory: &memory, policies: &policies, certificate: None };
            let signal = Signal { at, process: None, fact: Fact::Work(snapshot) };
            self.hang.observe(&context, &signal, &mut self.found);
        }
        self
    }

    fn diagnoses(&self) -> Vec<&Diagnosis> {
        let diagnosis = |finding: &'_ Finding| match finding {
            Finding::Raised { .. } => true,
            Finding::Cleared { .. }
            | Finding::Restated { .. }
            | Finding::Level { .. }
            | Finding::Watch(_)
            | Finding::Unwatch(_)
            | Finding::Remark { .. } => false,
        };
        let raised = self.found.iter().filter(|finding| diagnosis(finding));
        raised
            .filter_map(|finding| match finding {
                Finding::Raised { diagnosis, .. } => Some(&**diagnosis),
                Finding::Cleared { .. }
                | Finding::Restated { .. }
                | Finding::Level { .. }
                | Finding::Watch(_)
                | Finding::Unwatch(_)
                | Finding::Remark { .. } => None,
            })
            .collect()
    }
}

fn server() -> Work {
    let process = Process { pid: 7, comm: "web".into(), start: BootTime(1), ..Process::default() };
    Work { process, pid: 7, comm: "web".into(), threads: 1, ..Work::default() }
}

fn unread(oldest_ms: u64) -> Option<Unread> {
    Some(Unread { sockets: 2, bytes: 36, oldest_ms })
}

fn backlog(oldest_ms: u64) -> Option<Backlog> {
    Some(Backlog { port: 80, waiting: 3, limit: 128, oldest_ms, ..Backlog::default() })
}

#[test]
fn nothing_runs_and_clients_wait_in_two_ways() {
    let mut run = Run::new();
    run.seconds(9, |ms| Work { unread: unread(ms), backlog: backlog(ms), ..server() });
    assert!(run.diagnoses().is_empty());
    run.seconds(2, |ms| Work { unread: unread(ms), backlog: backlog(ms), ..server() });
    let all = run.diagnoses();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].certainty, Certainty::Probable);
    assert_eq!(all[0].detail.kind.as_deref(), Some("unresponsive"));
    assert_eq!(
        all[0].sentence,
        "web[7] has not run for 10.0s while work waits: 36 bytes unread on 2 sockets for 10.0s; \
         3 connections of at most 128 not accepted on port 80 for 10.0s"
    );
}

#[test]
fn one_piece_of_evidence_is_a_suspicion() {
    let mut run = Run::new();
    run.seconds(12, |ms| Work { unread: unread(ms), ..server() });
    assert_eq!(run.diagnoses()[0].certainty, Certainty::Suspected);
    // Another piece makes it more.
    run.seconds(1, |ms| Work { unread: unread(ms), backlog: backlog(ms), ..server() });
    assert_eq!(run.diagnoses()[1].certainty, Certainty::Probable);
}

#[test]
fn idle_alone_and_cpu_alone_are_nothing() {
    let mut run = Run::new();
    run.seconds(30, |_| server());
    run.seconds(30, |_| Work { ran_ms: 1000, runs: 100, spinning: 1, ..server() });
    assert!(run.diagnoses().is_empty());
}

#[test]
fn a_busy_server_that_moves_bytes_is_not_hung() {
    let mut run = Run::new();
    let busy = |ms| Work { ran_ms: 990, runs: 9, spinning: 1, moved: true, unread: unread(ms), ..server() };
    run.seconds(60, busy);
    assert!(run.diagnoses().is_empty());
}

#[test]
fn spinning_with_waiting_work_is_a_hang() {
    let mut run = Run::new();
    let spins = |ms| Work {
        ran_ms: 400,
        delay_ms: 590,
        runs: 90,
        spinning: 1,
        unread: unread(ms),
        backlog: backlog(ms),
        ..server()
    };
    run.seconds(11, spins);
    assert_eq!(run.diagnoses()[0].detail.kind.as_deref(), Some("spinning"));
}

#[test]
fn whoever_gets_no_cpu_is_not_hung() {
    let mut run = Run::new();
    run.seconds(30, |ms| Work { ran_ms: 10, runs: 5, delay_ms: 900, unread: unread(ms), ..server() });
    let limit = Throttled { cgroup: "/cpu/x".into(), periods: 10, throttled: 10, throttled_ms: 950 };
    let throttled = |ms| Work {
        ran_ms: 10,
        runs: 10,
        throttled: Some(limit.clone()),
        unread: unread(ms),
        backlog: backlog(ms),
        ..server()
    };
    run.seconds(30, throttled);
    assert!(run.diagnoses().is_empty());
}

#[test]
fn frozen_and_traced_are_left_out_and_stopped_is_said() {
    for condition in [Life::Frozen, Life::Traced] {
        let mut run = Run::new();
        run.seconds(30, |ms| Work { condition, unread: unread(ms), backlog: backlog(ms), ..server() });
        assert!(run.diagnoses().is_empty());
    }
    let mut run = Run::new();
    run.seconds(11, |ms| Work { condition: Life::Stopped, unread: unread(ms), ..server() });
    let found = run.diagnoses()[0];
    assert!(found.sentence.contains("is stopped by a signal"), "{}", found.sentence);
    assert_eq!(found.certainty, Certainty::Probable);
}

fn late(oldest_ms: u64, slowest_ms: u64, last_answer_ms: Option<u64>) -> Work {
    let answered = u64::from(last_answer_ms.is_some());
    let some = Unanswered { port: 80, sockets: 4, oldest_ms, answered, slowest_ms, last_answer_ms };
    Work { ran_ms: 100, runs: 50, moved: true, unanswered: Some(some), ..server() }
}

#[test]
fn handlers_that_never_answer_again_are_a_hang() {
    let resting = |ms: u64| Work { ran_ms: 0, runs: 0, moved: false, ..late(ms, 500, Some(ms + 100)) };
    let mut run = Run::new();
    run.seconds(29, resting);
    assert!(run.diagnoses().is_empty());
    run.seconds(2, resting);
    let found = run.diagnoses()[0];
    assert_eq!((found.certainty, found.detail.evidence_count), (Certainty::Probable, 1));
}

/// redis whose clients only wait for what somebody else is to push, and comes round ten times a second.
#[test]
fn who_keeps_long_polls_at_its_loop_is_suspected_at_most_and_who_leaves_bytes_unread_is_not() {
    let polls = |ms: u64| Work {
        ran_ms: 1,
        runs: 10,
        moved: false,
        at_its_loop: !ms.is_multiple_of(5000),
        ..late(ms, 500, Some(ms + 100))
    };
    let mut idle = Run::new();
    idle.seconds(90, polls);
    assert_eq!(idle.diagnoses().len(), 1);
    assert_eq!(idle.diagnoses()[0].certainty, Certainty::Suspected);
    let mut left = Run::new();
    left.seconds(60, |ms| Work { unread: unread(ms), ..polls(ms) });
    assert!(left.diagnoses().iter().any(|one| one.certainty == Certainty::Probable));
    // Its loop does not go round any more.
    idle.seconds(12, |ms| Work { at_its_loop: false, ..polls(ms) });
    assert_eq!(idle.diagnoses()[1].certainty, Certainty::Probable);
}

/// Three long queries look the same from outside.
#[test]
fn whoever_works_at_late_answers_is_only_suspected() {
    let mut run = Run::new();
    run.seconds(31, |ms| Work { ran_ms: 950, ..late(ms, 500, Some(ms + 100)) });
    assert_eq!(run.diagnoses()[0].certainty, Certainty::Suspected);
}

#[test]
fn while_others_are_answered_it_is_only_a_suspicion() {
    let mut run = Run::new();
    run.seconds(31, |ms| late(ms, 500, Some(10)));
    assert_eq!(run.diagnoses()[0].certainty, Certainty::Suspected);
}

#[test]
fn slow_by_nature_is_not_hung() {
    let mut run = Run::new();
    run.seconds(59, |ms| late(ms, 20_000, Some(ms + 100)));
    let mut one_way = Run::new();
    one_way.seconds(90, |ms| late(ms, 0, None));
    assert!(run.diagnoses().is_empty() && one_way.diagnoses().is_empty());
}

#[test]
fn it_is_over_when_the_work_is_done() {
    let mut run = Run::new();
    run.seconds(11, |ms| Work { unread: unread(ms), ..server() });
    run.seconds(2, |_| Work { runs: 9, moved: true, ..server() });
    assert!(matches!(run.found.last(), Some(Finding::Cleared { .. })));
}

#[test]
fn sockets_that_cannot_be_seen_begin_nothing_and_end_nothing() {
    let blind = |work: Work| WorkSnapshot {
        unseen: vec![Unseen { process: work.process.clone(), says: "its sockets: refused".into() }],
        processes: vec![work],
        ..WorkSnapshot::default()
    };
    let mut run = Run::new();
    run.seconds(11, |ms| Work { unread: unread(ms), ..server() });
    run.looks(30, |_| blind(server()));
    assert_eq!(run.found.len(), 1, "not over");
    run.seconds(2, |_| server());
    assert!(matches!(run.found.last(), Some(Finding::Cleared { .. })));

    let mut run = Run::new();
    run.looks(30, |ms| blind(Work { unread: unread(ms), ..server() }));
    run.seconds(9, |ms| Work { unread: unread(ms), ..server() });
    assert!(run.found.is_empty(), "it may have run in between");
    run.seconds(2, |ms| Work { unread: unread(ms), ..server() });
    assert_eq!(run.diagnoses().len(), 1);
}

/// A stream of new connections keeps the acceptor busy; that nobody is answered shows all the same.
#[test]
fn arrivals_are_no_progress() {
    let mut run = Run::new();
    let stream = |ms| Work { accepted: true, ran_ms: 50, ..late(ms, 500, Some(ms + 100)) };
    run.seconds(29, stream);
    assert!(run.diagnoses().is_empty());
    run.seconds(2, stream);
    let found = run.diagnoses()[0];
    assert_eq!(found.certainty, Certainty::Suspected, "they may be long by nature");
    assert!(found.sentence.contains("has answered nobody for "), "{}", found.sentence);

    let mut slow = Run::new();
    slow.seconds(60, |ms| Work { accepted: true, answered: ms % 4000 == 0, ..late(ms, 500, Some(4000)) });
    assert!(slow.diagnoses().iter().all(|one| one.certainty == Certainty::Suspected), "some are answered");

    let mut accepts = Run::new();
    accepts.seconds(11, |ms| Work { accepted: true, unread: unread(ms), backlog: backlog(ms), ..server() });
    assert_eq!(accepts.diagnoses()[0].certainty, Certainty::Suspected, "its queue is served");
}

fn worker(pid: u32) -> Work {
    Work { pid, comm: "worker".into(), ..server() }
}

fn asked(ms: u64, pid: u32) -> Work {
    let some = Unanswered {
        port: 80,
        sockets: 1,
        oldest_ms: ms,
        answered: 9,
        slowest_ms: 500,
        last_answer_ms: Some(ms + 100),
    };
    Work { unanswered: Some(some), ..worker(pid) }
}

#[test]
fn what_waits_for_a_family_is_summed() {
    let family = |ms| WorkSnapshot {
        processes: (8..12).map(|pid| asked(ms, pid)).collect(),
        ..WorkSnapshot::default()
    };
    let mut run = Run::new();
    run.looks(32, family);
    let found = run.diagnoses()[0];
    assert_eq!((found.target.pid, found.certainty), (7, Certainty::Probable));
    assert!(found.sentence.starts_with("web[7] (4 of its processes) has not run for "), "{}", found.sentence);
    assert!(found.sentence.contains("4 requests on port 80 read"), "{}", found.sentence);

    // One that answers shows that the others are at something long.
    let mut run = Run::new();
    run.looks(60, |ms| {
        let mut snapshot = family(ms);
        snapshot.processes.iter_mut().for_each(|work| work.answered = true);
        snapshot
    });
    assert!(run.diagnoses().is_empty());
}

#[test]
fn a_queue_waits_for_every_worker_that_may_take_from_it() {
    let look = |ms, busy: bool| {
        let master = Work { backlog: backlog(ms), ..server() };
        let reads_none = Work { shares: true, unread: unread(ms), ..worker(8) };
        let other =
            Work { shares: true, ran_ms: if busy { 900 } else { 0 }, runs: u64::from(busy), ..worker(9) };
        WorkSnapshot { processes: vec![master, reads_none, other], ..WorkSnapshot::default() }
    };
    let mut run = Run::new();
    run.looks(11, |ms| look(ms, false));
    assert_eq!(run.diagnoses()[0].certainty, Certainty::Probable);

    let mut run = Run::new();
    run.looks(60, |ms| look(ms, true));
    assert_eq!(run.diagnoses()[0].certainty, Certainty::Suspected, "one of them works");
}

#[test]
fn who_takes_one_after_the_other_and_takes_no_more_may_be_hung() {
    let queue = |ms, slowest_ms, last_answer_ms| Backlog {
        answered: 9,
        slowest_ms,
        last_answer_ms,
        ..backlog(ms).unwrap()
    };
    let hung = |ms| Work { backlog: Some(queue(ms, 500, Some(ms + 100))), ..server() };
    let mut run = Run::new();
    run.seconds(29, hung);
    assert_eq!(run.diagnoses()[0].certainty, Certainty::Suspected);
    run.seconds(2, hung);
    let found = run.diagnoses()[1];
    assert_eq!(found.certainty, Certainty::Suspected, "the request in hand may be long");
    assert!(found.sentence.contains("the last answer there was "), "{}", found.sentence);

    let mut slow = Run::new();
    slow.seconds(59, |ms| Work { backlog: Some(queue(ms, 20_000, Some(ms + 100))), ..server() });
    assert!(slow.diagnoses().iter().all(|one| one.certainty == Certainty::Suspected));
}
