use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

use super::{
    sample::{agent, done, facts, intent, key, meant, meant_work, moment, report, verified},
    scratch::Scratch,
    worker::{StoreEvent, StoreHandle},
    *,
};
use crate::{
    engine::{
        command::{ActionOutcome, ActionResult},
        report::ReportFact,
        time::BootTime,
    },
    report::{
        audit::verify::{self, Outcome},
        history,
    },
};

fn open(path: &Path, boot_id: &str, seconds: u64) -> (Store, Recovered) {
    let (store, recovered) = Store::open(path, facts(boot_id, seconds)).unwrap();
    assert_eq!(store.behind(), None);
    (store, recovered)
}

/// The state as a crash leaves it: a copy of the files while the store is open.
fn crashed_copy(scratch: &Scratch, from: &Path, name: &str) -> PathBuf {
    let to = scratch.path().join(name);
    StateDir::create(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    to
}

fn assert_whole(path: &Path) {
    let dir = StateDir::open(path).unwrap();
    let checked = verify::directory(&dir, None).unwrap();
    assert_eq!(checked.outcome, Outcome::Whole);
}

fn agent_events(path: &Path) -> Vec<String> {
    let lines = history::load(path).unwrap();
    let agents = lines.iter().filter(|line| line.record == "agent");
    agents.map(|line| line.value["event"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_intent_is_open_until_its_result() {
    let scratch = Scratch::new("store-open");
    let path = scratch.path().join("state");
    let (mut store, recovered) = open(&path, "boot", 10);
    assert_eq!(recovered, Recovered { next_incident: 1, ..Recovered::default() });
    store.commit(meant("a", 1), moment(11)).unwrap();
    store.commit(meant("b", 2), moment(12)).unwrap();
    store.commit(done("a"), moment(13)).unwrap();
    store.commit(verified("a", "healed"), moment(14)).unwrap();
    store.close(moment(15)).unwrap();

    let (_store, recovered) = open(&path, "boot", 20);
    assert_eq!(recovered.open, [intent("b", 2)]);
    assert_eq!(recovered.next_incident, 3);
    let [act] = recovered.acts.as_slice() else { panic!("{:?}", recovered.acts) };
    assert_eq!((act.at, act.healed), (moment(13).boot, Some(true)));
}

#[test]
fn what_an_incident_left_unverified_ends_with_it() {
    let scratch = Scratch::new("store-closed");
    let path = scratch.path().join("state");
    let (mut store, _) = open(&path, "boot", 10);
    for (name, incident) in [("a", 1), ("b", 2), ("open", 1)] {
        store.commit(meant(name, incident), moment(11)).unwrap();
    }
    store.commit(done("a"), moment(12)).unwrap();
    store.commit(done("b"), moment(12)).unwrap();
    store.commit(JournalEntry::Closed { incident: IncidentId(1) }, moment(13)).unwrap();
    drop(store);
    let (_store, recovered) = open(&path, "boot", 20);
    assert_eq!(recovered.verifying, [intent("b", 2)]);
    assert_eq!(recovered.open, [intent("open", 1)], "whether it was done is not known");
    assert_eq!(recovered.acts.len(), 2);
}

#[test]
fn what_had_no_effect_is_no_act() {
    let scratch = Scratch::new("store-acts");
    let path = scratch.path().join("state");
    let (mut store, _) = open(&path, "boot", 10);
    for name in ["refused", "failed", "unknown"] {
        store.commit(meant(name, 1), moment(11)).unwrap();
    }
    let outcomes = [
        ("refused", ActionOutcome::Refused { reason: String::new() }),
        ("failed", ActionOutcome::Failed { error: String::new(), errno: Some(3) }),
        ("unknown", ActionOutcome::Unknown { reason: String::new() }),
    ];
    for (name, outcome) in outcomes {
        let result = ActionResult { key: key(name), outcome };
        store.commit(JournalEntry::Result(result), moment(12)).unwrap();
    }
    drop(store);
    let (_store, recovered) = open(&path, "boot", 20);
    assert_eq!((recovered.open.len(), recovered.acts.len()), (0, 1));
}

#[test]
fn another_boot_closes_intents_as_unknown_and_keeps_acts_by_wall_time() {
    let scratch = Scratch::new("store-boot");
    let path = scratch.path().join("state");
    let (mut store, _) = open(&path, "boot 1", 10);
    store.write(&mut meant_work("a", 1), &[], moment(5000)).unwrap();
    store.write(&mut meant_work("b", 2), &[], moment(5000)).unwrap();
    store.commit(done("a"), moment(5000)).unwrap();
    drop(store);

    // ten minutes of wall time later, five minutes after boot
    let mut later = facts("boot 2", 5600);
    later.now_boot = BootTime(300_000_000_000);
    let (store, recovered) = Store::open(&path, later).unwrap();
    assert_eq!(recovered.open, []);
    assert_eq!(recovered.acts.len(), 1);
    assert_eq!(recovered.acts[0].at, BootTime(0));
    drop(store);
    let lines = history::load(&path).unwrap();
    let last = lines.iter().rfind(|line| line.record == "result").unwrap();
    assert_eq!(last.value["outcome"], "unknown");
    assert_eq!(last.value["action"], "restart");
    assert_eq!(last.incident, Some(2));
    let (_store, recovered) = open(&path, "boot 1", 20);
    assert_eq!(recovered.open, [], "closed for good");
}

#[test]
fn a_crash_at_any_commit_loses_nothing_and_reuses_no_incident() {
    let scratch = Scratch::new("store-crash");
    let path = scratch.path().join("state");
    let (mut store, _) = open(&path, "boot", 10);
    let mut incident = 0;
    for round in 0..40u64 {
        incident += round; // jumps beyond the reserve too
        let name = format!("k{round}");
        store.write(&mut meant_work(&name, incident), &[], moment(11)).unwrap();
        if round % 2 == 0 {
            store.commit(done(&name), moment(12)).unwrap();
        }
        if round % 8 != 7 {
            continue;
        }
        let copy = crashed_copy(&scratch, &path, &name);
        let (_store, recovered) = open(&copy, "boot", 20);
        assert!(recovered.next_incident > incident);
        assert_eq!(recovered.open.len() as u64, round.div_ceil(2));
        assert_eq!(recovered.acts.len() as u64, round / 2 + 1);
        assert_whole(&copy);
    }
}

#[test]
fn a_second_healer_is_refused_in_words() {
    let scratch = Scratch::new("store-second");
    let path = scratch.path().join("state");
    let (_store, _) = open(&path, "boot", 10);
    let error = Store::open(&path, facts("boot", 10)).err().unwrap();
    let pid = std::process::id();
    let words = error.to_string();
    assert!(words.contains(&format!("another healer (pid {pid})")), "{words}");
}

#[test]
fn a_symlink_in_a_files_place_is_not_followed() {
    let scratch = Scratch::new("store-link");
    let path = scratch.path().join("state");
    let victim = scratch.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    for name in [journal::NAME, "audit.jsonl"] {
        StateDir::create(&path).unwrap();
        std::os::unix::fs::symlink(&victim, path.join(name)).unwrap();
        let (mut store, _) = Store::open(&path, facts("boot", 10)).unwrap();
        assert!(store.behind().is_some(), "{name}");
        assert!(store.write(&mut meant_work("a", 1), &[], moment(11)).is_err());
        drop(store);
        fs::remove_dir_all(&path).unwrap();
    }
    StateDir::create(&path).unwrap();
    std::os::unix::fs::symlink(&victim, path.join("lock")).unwrap();
    assert!(Store::open(&path, facts("boot", 10)).is_err());
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn a_corrupt_journal_is_moved_aside_and_said() {
    let scratch = Scratch::new("store-corrupt");
    let path = scratch.path().join("state");
    let (mut store, _) = open(&path, "boot", 10);
    store.write(&mut meant_work("a", 41), &[], moment(11)).unwrap();
    drop(store);
    for damage in [&b"garbage"[..], &[0xff; 30_000]] {
        let mut bytes = fs::read(path.join(journal::NAME)).unwrap();
        let at = if damage.len() < 100 { 0 } else { 4096 };
        bytes[at..at + damage.len()].copy_from_slice(damage);
        fs::write(path.join(journal::NAME), bytes).unwrap();

        let (store, recovered) = open(&path, "boot", 20);
        assert_eq!(recovered.open, []);
        assert!(recovered.next_incident > 41);
        assert!(store.notes()[0].contains("journal.redb.corrupt-"), "{:?}", store.notes());
    }
    assert!(path.join("journal.redb.corrupt-1").exists());
    assert!(path.join("journal.redb.corrupt-2").exists());
    assert_eq!(agent_events(&path), ["journal_corrupt", "journal_corrupt"]);
    assert_whole(&path);
}

#[test]
fn an_intent_dropped_after_a_failed_commit_does_not_come_back() {
    let scratch = Scratch::new("store-dropped");
    let path = scratch.path().join("state");
    let (mut store, _) = open(&path, "boot", 10);
    store.commit(meant("a", 1), moment(11)).unwrap();
    store.write(&mut Vec::new(), &[key("a")], moment(12)).unwrap();
    drop(store);
    assert_eq!(open(&path, "boot", 20).1.open, []);
}

#[test]
fn the_journal_stays_small() {
    let scratch = Scratch::new("store-small");
    let path = scratch.path().join("state");
    let (mut store, _) = open(&path, "boot", 10);
    for round in 0..300u64 {
        let name = format!("k{round}");
        let at = moment(10 + round * 3600);
        let mut batch = vec![Work::from(meant(&name, round)), Work::from(done(&name))];
        store.write(&mut batch, &[], at).unwrap();
    }
    drop(store);
    let (store, recovered) = open(&path, "boot", 10 + 300 * 3600);
    assert_eq!(recovered.acts.len(), 24);
    drop(store);
    let length = fs::metadata(path.join(journal::NAME)).unwrap().len();
    assert!(length < 8 << 20, "{length} bytes");
}

fn handle(store: Store) -> (StoreHandle, mpsc::Receiver<StoreEvent>) {
    let (tx, rx) = mpsc::channel();
    let tx = std::sync::Mutex::new(tx);
    let answer = Arc::new(move |event| tx.lock().unwrap().send(event).unwrap());
    let handle = StoreHandle::start(store, Box::new(|| moment(30)), answer).unwrap();
    (handle, rx)
}

#[test]
fn the_thread_answers_in_order_and_closes_clean() {
    let scratch = Scratch::new("store-thread");
    let path = scratch.path().join("state");
    let (handle, events) = handle(open(&path, "boot", 10).0);
    for n in 0..50u64 {
        handle.submit(meant_work(&format!("k{n}"), n));
        handle.submit(vec![Work::from(agent("between"))]);
    }
    for n in 0..50u64 {
        let event = events.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(event, StoreEvent::Committed(key(&format!("k{n}"))));
    }
    assert!(handle.is_writable());
    handle.close().unwrap();
    let (store, recovered) = open(&path, "boot", 20);
    assert_eq!(recovered.open.len(), 50);
    assert_eq!(recovered.next_incident, 50);
    assert_eq!(store.head().seq, 100);
    assert_whole(&path);
}

#[test]
fn acts_stop_while_the_audit_cannot_be_written() {
    let scratch = Scratch::new("store-stuck");
    let path = scratch.path().join("state");
    StateDir::create(&path).unwrap();
    fs::create_dir(path.join("audit.jsonl")).unwrap();
    let (store, _) = Store::open(&path, facts("boot", 10)).unwrap();
    let (handle, events) = handle(store);
    let first = events.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(first, StoreEvent::Writable { writable: false, .. }), "{first:?}");
    assert!(!handle.is_writable());
    handle.submit(meant_work("a", 1));
    let second = events.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(&second, StoreEvent::Failed { key: k, .. } if *k == key("a")));
    handle.submit(vec![Work::from(report(1, ReportFact::Result(super::sample::result("a"))))]);

    fs::remove_dir(path.join("audit.jsonl")).unwrap();
    handle.close().unwrap(); // tries once more
    let lines = history::load(&path).unwrap();
    let records: Vec<&str> = lines.iter().map(|line| line.record.as_str()).collect();
    assert_eq!(records, ["intent", "result", "agent"]);
    assert_eq!(lines[2].value["event"], "store_writable");
    assert_eq!(open(&path, "boot", 20).1.open, [], "the refused intent is in no journal");
    assert_whole(&path);
}

/// The queue is full of records when two results come.
#[test]
fn entries_of_the_journal_have_room_behind_any_backlog() {
    let scratch = Scratch::new("store-room");
    let path = scratch.path().join("state");
    let (mut store, _) = open(&path, "boot", 10);
    store.commit(meant("a", 1), moment(11)).unwrap();
    store.commit(meant("b", 2), moment(11)).unwrap();
    let gate = Arc::new(std::sync::Mutex::new(()));
    let closed = gate.lock().unwrap();
    let to_pass = Arc::clone(&gate);
    let answer = Arc::new(move |event| {
        if matches!(event, StoreEvent::Committed(_)) {
            drop(to_pass.lock().unwrap());
        }
    });
    let handle = StoreHandle::start(store, Box::new(|| moment(30)), answer).unwrap();
    handle.submit(meant_work("first", 3));
    for _ in 0..3000 {
        handle.submit(vec![Work::from(agent("waits"))]);
    }
    assert!(0 < handle.status().lost, "the queue was full");
    handle.submit(vec![Work::from(done("a"))]);
    handle.submit(vec![Work::from(done("b"))]);
    drop(closed);
    drop(handle);
    let open: Vec<_> = open(&path, "boot", 20).1.open.into_iter().map(|intent| intent.act.key).collect();
    assert!(!open.contains(&key("a")) && !open.contains(&key("b")), "{open:?}");
}

#[test]
fn what_a_journal_remembers_that_could_not_be_read_at_start_is_told_once_it_can() {
    let scratch = Scratch::new("store-late");
    let path = scratch.path().join("state");
    let (mut store, _) = open(&path, "boot", 10);
    store.commit(meant("a", 1), moment(11)).unwrap();
    store.commit(meant("b", 2), moment(11)).unwrap();
    store.commit(done("a"), moment(12)).unwrap();
    drop(store);
    let (journal, aside) = (path.join(journal::NAME), path.join("aside"));
    fs::rename(&journal, &aside).unwrap();
    fs::create_dir(&journal).unwrap();

    let (mut store, recovered) = Store::open(&path, facts("boot", 20)).unwrap();
    assert!(store.behind().is_some() && recovered.open.is_empty());
    assert!(store.remembered_late(moment(21)).is_err());
    fs::remove_dir(&journal).unwrap();
    fs::rename(&aside, &journal).unwrap();
    let (handle, events) = handle(store);
    handle.submit(vec![Work::from(agent("meanwhile"))]);
    handle.close().unwrap(); // tries once more
    let told = events.iter().find_map(|event| match event {
        StoreEvent::Remembered(recovered) => Some(recovered),
        StoreEvent::Committed(_) | StoreEvent::Failed { .. } | StoreEvent::Writable { .. } => None,
    });
    let told = told.expect("the journal is told");
    assert_eq!((told.open, told.verifying), (vec![intent("b", 2)], vec![intent("a", 1)]));
    assert!(2 < told.next_incident && told.acts.len() == 1);
    assert_eq!(open(&path, "boot", 30).1.open, [intent("b", 2)], "it is in the journal still");
}

#[test]
fn a_commit_is_quick() {
    let scratch = Scratch::new("store-quick");
    let (mut store, _) = open(&scratch.path().join("state"), "boot", 10);
    let mut times: Vec<Duration> = (0..200u64)
        .map(|n| {
            let mut batch = meant_work(&format!("k{n}"), n);
            #[expect(clippy::disallowed_methods, reason = "measures the disk, decides nothing")]
            let begin = std::time::Instant::now();
            store.write(&mut batch, &[], moment(11)).unwrap();
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("intent commit p50 {:?} p95 {:?} max {:?}", times[100], times[190], times[199]);
    assert!(times[100] < Duration::from_millis(500), "p50 {:?}", times[100]);
}
