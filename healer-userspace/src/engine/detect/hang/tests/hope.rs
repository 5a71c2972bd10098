//! What may go on by itself, and unix sockets, of which nobody counts what was read.

use super::*;

#[test]
fn whoever_waits_for_its_own_backend_or_sleeps_for_a_time_is_only_suspected() {
    let resting = |ms: u64| Work { ran_ms: 0, runs: 0, moved: false, ..late(ms, 500, Some(ms + 100)) };
    for (hope, says) in [(Hope::Peer, "for somebody else"), (Hope::Timer, "a time that it has set")] {
        let mut run = Run::new();
        run.seconds(31, |ms| Work { hope: Some(hope), ..resting(ms) });
        let found = run.diagnoses()[0];
        assert_eq!(found.certainty, Certainty::Suspected);
        assert!(found.sentence.ends_with(says), "{}", found.sentence);
    }
    let stuck =
        |hope| move |ms| Work { unread: unread(ms), backlog: backlog(ms), hope: Some(hope), ..server() };
    let mut run = Run::new();
    run.seconds(11, stuck(Hope::Timer));
    assert_eq!(run.diagnoses()[0].certainty, Certainty::Probable, "a loop that sleeps serves nobody");
    let mut run = Run::new();
    run.seconds(11, stuck(Hope::Peer));
    assert_eq!(run.diagnoses()[0].certainty, Certainty::Suspected);
    run.seconds(1, |_| Work { unread: unread(11_000), backlog: backlog(11_000), ..server() });
    assert_eq!(run.diagnoses()[1].certainty, Certainty::Probable, "the same evidence, and no hope any more");
}

#[test]
fn of_a_unix_socket_who_runs_at_all_may_be_reading() {
    let looks = |runs| {
        move |ms| {
            let unix = UnixWork { unread: unread(ms), backlog: backlog(ms), shares: false };
            Work { runs, rested: runs == 0, unix, ..server() }
        }
    };
    let mut reads = Run::new();
    reads.seconds(30, looks(1));
    reads.seconds(30, |ms| Work { spinning: 1, ran_ms: 990, ..looks(9)(ms) });
    assert!(reads.diagnoses().is_empty());
    let mut rests = Run::new();
    rests.seconds(11, looks(0));
    assert_eq!(rests.diagnoses()[0].certainty, Certainty::Probable);
    let mut ticks = Run::new();
    ticks.seconds(11, |ms| Work { unread: unread(ms), backlog: backlog(ms), ..looks(1)(ms) });
    assert_eq!(ticks.diagnoses()[0].certainty, Certainty::Probable, "TCP is judged as ever");
}

#[test]
fn the_hope_of_a_worker_is_its_masters_for_what_waits_for_both() {
    let look = |ms| {
        let master = Work { backlog: backlog(ms), unread: unread(ms), ..server() };
        let asks = Work { shares: true, hope: Some(Hope::Peer), ..worker(8) };
        WorkSnapshot { processes: vec![master, asks], ..WorkSnapshot::default() }
    };
    let mut run = Run::new();
    run.looks(11, look);
    assert_eq!(run.diagnoses()[0].certainty, Certainty::Suspected);
}

#[test]
fn who_gets_no_cpu_for_a_while_is_not_cured() {
    let spins =
        |ms| Work { ran_ms: 990, runs: 9, spinning: 1, unread: unread(ms), backlog: backlog(ms), ..server() };
    let starves = |ms| Work { ran_ms: 10, delay_ms: 900, runs: 9, unread: unread(ms), ..server() };
    let mut run = Run::new();
    run.seconds(11, spins).seconds(20, starves);
    assert_eq!(run.found.len(), 1, "not over");
    run.seconds(3, |_| Work { runs: 9, moved: true, ..server() });
    assert!(matches!(run.found.last(), Some(Finding::Cleared { .. })));
}

#[test]
fn a_queue_of_a_unix_socket_is_told_as_one() {
    let mut run = Run::new();
    let queue = |ms| Backlog { port: 0, ..backlog(ms).unwrap() };
    run.seconds(11, |ms| Work {
        rested: true,
        unix: UnixWork { backlog: Some(queue(ms)), ..UnixWork::default() },
        ..server()
    });
    assert!(run.diagnoses()[0].sentence.contains("not accepted on a unix socket for"));
}

#[test]
fn hope_delays_and_takes_nothing_back() {
    let stuck = |hope| move |ms| Work { unread: unread(ms), backlog: backlog(ms), hope, ..server() };
    let mut run = Run::new();
    run.seconds(58, stuck(Some(Hope::Peer)));
    assert_eq!(run.diagnoses().len(), 1);
    run.seconds(3, stuck(Some(Hope::Peer)));
    assert_eq!(run.diagnoses()[1].certainty, Certainty::Probable, "nobody waits so long");
    assert!(!run.diagnoses()[1].sentence.contains("somebody else"));

    let mut flickers = Run::new();
    flickers.seconds(11, stuck(None)).seconds(9, stuck(Some(Hope::Peer))).seconds(9, stuck(None));
    assert_eq!(flickers.diagnoses().len(), 1);
}

#[test]
fn a_tick_is_no_cure_of_who_leaves_a_unix_socket_alone() {
    let look = |runs, unix: fn(u64) -> UnixWork| {
        move |ms| Work { runs, rested: runs == 0, unix: unix(ms), ..server() }
    };
    let waits = |ms| UnixWork { unread: unread(ms), backlog: backlog(ms), shares: false };
    let mut run = Run::new();
    run.seconds(11, look(0, waits)).seconds(1, look(1, waits)).seconds(20, look(0, waits));
    assert_eq!(run.found.len(), 1);
    run.seconds(2, look(1, |_| UnixWork::default()));
    assert!(matches!(run.found.last(), Some(Finding::Cleared { .. })));
}

/// One process, or a master that rests and a worker that may take from its queue.
fn ticks(is_alone: bool) {
    let look = |runs| {
        move |ms| {
            let unix = UnixWork { backlog: backlog(ms), ..UnixWork::default() };
            let rests = |runs| Work { runs, rested: runs == 0, ..server() };
            let served = |runs| Work { unread: unread(ms), unix: unix.clone(), ..rests(runs) };
            let shares = UnixWork { shares: true, ..UnixWork::default() };
            let worker = Work { pid: 8, unix: shares, ..rests(runs) };
            let processes = if is_alone { vec![served(runs)] } else { vec![served(0), worker] };
            WorkSnapshot { processes, ..WorkSnapshot::default() }
        }
    };
    let mut run = Run::new();
    run.looks(11, look(0));
    for _ in 0..3 {
        run.looks(1, look(1)).looks(14, look(0));
    }
    assert_eq!(run.diagnoses().len(), 1);
    assert_eq!(run.diagnoses()[0].certainty, Certainty::Probable);
    run.looks(30, look(1));
    assert_eq!(run.diagnoses()[1].certainty, Certainty::Suspected, "it may take from its unix sockets");
}

#[test]
fn a_tick_takes_no_certainty_of_who_leaves_two_kinds_of_work_alone() {
    ticks(true);
    ticks(false);
}

#[test]
fn who_serves_again_beside_a_stream_that_is_never_read_is_well() {
    let waits = |ms| UnixWork { unread: unread(ms), backlog: backlog(ms), shares: false };
    let mut run = Run::new();
    run.seconds(11, |ms| Work { rested: true, unix: waits(ms), ..server() });
    let left = |ms| UnixWork { unread: unread(ms), ..UnixWork::default() };
    run.seconds(30, |ms| Work { runs: 9, unix: left(ms), ..server() });
    assert!(matches!(run.found.last(), Some(Finding::Cleared { .. })));
}

#[test]
fn an_old_stream_that_is_never_read_takes_no_hope() {
    let old = |ms| Some(Unread { oldest_ms: 3_600_000 + ms, ..unread(ms).unwrap() });
    let hope = Some(Hope::Peer);
    let mut run = Run::new();
    run.seconds(12, |ms| Work { unread: old(ms), backlog: backlog(ms), hope, ..server() });
    assert!(run.diagnoses().iter().all(|one| one.certainty == Certainty::Suspected));
}

#[test]
fn a_unix_stream_that_is_never_read_is_no_second_reason() {
    let unix = |ms| UnixWork { unread: unread(ms), ..UnixWork::default() };
    let mut run = Run::new();
    run.seconds(20, |ms| Work { rested: true, unix: unix(ms), unread: unread(ms), ..server() });
    assert_eq!(run.diagnoses()[0].certainty, Certainty::Suspected);
}
