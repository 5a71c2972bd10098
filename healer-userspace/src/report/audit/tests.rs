use std::{fs, io::Write as _, path::Path};

use proptest::prelude::*;

use super::{verify::Outcome, *};
use crate::{
    identity::process::Pod,
    report::history,
    store::{
        row::Stamp,
        sample::{agent, intent, moment, report, result},
        scratch::Scratch,
    },
};

fn stamp() -> Stamp {
    Stamp { boot_id: "boot".into(), moment: moment(60) }
}

fn open(path: &Path, limits: Limits) -> (Audit, Vec<Note>) {
    let dir = Arc::new(StateDir::create(path).unwrap());
    let known = head::read(&dir).unwrap();
    let (audit, found) = Audit::open(&dir, limits, known).unwrap();
    (audit, found.notes)
}

fn append(audit: &mut Audit, says: &str) {
    audit.append(&[&agent(says)], &stamp()).unwrap();
}

fn publish(audit: &mut Audit) {
    audit.sync().unwrap();
    audit.publish_head(Publish::Written).unwrap();
}

fn written(path: &Path, records: usize) {
    let (mut audit, _) = open(path, Limits::default());
    for n in 0..records {
        append(&mut audit, &format!("record {n}"));
    }
    publish(&mut audit);
}

fn why(path: &Path) -> Option<String> {
    let dir = StateDir::open(path).unwrap();
    match verify::directory(&dir, None).unwrap().outcome {
        Outcome::Whole => None,
        Outcome::Broken(place) => Some(format!("{}:{}: {}", place.file, place.line, place.why)),
    }
}

fn change(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path.join(NAME)).unwrap();
    edit(&mut bytes);
    fs::write(path.join(NAME), bytes).unwrap();
}

fn lines_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.map(<[u8]>::to_vec).collect()
}

#[test]
fn a_chain_goes_on_over_restarts() {
    let scratch = Scratch::new("audit-restart");
    written(scratch.path(), 3);
    written(scratch.path(), 2);
    assert_eq!(why(scratch.path()), None);
    let lines = history::load(scratch.path()).unwrap();
    let seqs: Vec<u64> = lines.iter().map(|line| line.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    assert_eq!(lines[0].value["prev"], line::GENESIS);
}

#[test]
fn names_are_strings_and_never_bytes_for_a_terminal() {
    let scratch = Scratch::new("audit-names");
    let (mut audit, _) = open(scratch.path(), Limits::default());
    let meant = report(7, ReportFact::Intent(intent("k", 7)));
    let came = report(7, ReportFact::Result(result("k")));
    audit.append(&[&meant, &came], &stamp()).unwrap();
    let bytes = fs::read(scratch.path().join(NAME)).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()));

    let lines = history::by_incident(history::load(scratch.path()).unwrap());
    let [meant, came] = lines[&7].as_slice() else { panic!("{lines:?}") };
    let target = &meant.value["target"];
    assert_eq!(target["comm"], "we\u{1b}[31mb\n\u{9b}1m");
    assert_eq!((&target["start_boot_ns"], &target["boot_id"]), (&7.into(), &"boot".into()));
    // the record was made 55 s before it was written
    assert_eq!(meant.time, "1970-01-12T13:46:45.000000000Z");
    assert_eq!(came.value["action"], "restart");
    assert_eq!((&came.value["rung"], &came.value["outcome"]), (&0.into(), &"done".into()));
}

#[test]
fn a_pod_has_the_owner_that_its_labels_tell_of() {
    let scratch = Scratch::new("audit-owner");
    let (mut audit, _) = open(scratch.path(), Limits::default());
    for (incident, name) in [(1, "web-5d4f-x7k2p"), (2, "web")] {
        let labels = [("pod-template-hash".to_owned(), "5d4f".to_owned())].into();
        let mut meant = intent("k", incident);
        meant.act.target.place.pod = Some(Pod { name: name.to_owned(), labels, ..Pod::default() });
        audit.append(&[&report(incident, ReportFact::Intent(meant))], &stamp()).unwrap();
    }
    let lines = history::load(scratch.path()).unwrap();
    let owner = |line: usize| &lines[line].value["target"]["pod"]["owner"];
    assert_eq!(owner(0), "Deployment/web");
    assert!(owner(1).is_null());
}

#[test]
fn a_cut_tail_is_found_and_stays_found() {
    let scratch = Scratch::new("audit-cut");
    written(scratch.path(), 5);
    change(scratch.path(), |bytes| {
        let lines = lines_of(bytes);
        *bytes = lines[..3].concat();
    });
    let words = why(scratch.path()).unwrap();
    assert!(words.contains("ends with record 3, but healer wrote 5"), "{words}");

    let (mut audit, notes) = open(scratch.path(), Limits::default());
    assert!(notes[0].says.contains("cut or rewritten"), "{notes:?}");
    append(&mut audit, "after");
    publish(&mut audit);
    let words = why(scratch.path()).unwrap();
    assert!(words.contains("audit.jsonl:4: records 4 to 5 are missing"), "{words}");
}

#[test]
fn a_removed_file_is_found() {
    let scratch = Scratch::new("audit-removed");
    written(scratch.path(), 5);
    fs::remove_file(scratch.path().join(NAME)).unwrap();
    assert!(why(scratch.path()).unwrap().contains("the tail was cut"));
    let (mut audit, notes) = open(scratch.path(), Limits::default());
    assert!(notes[0].says.contains("removed"), "{notes:?}");
    append(&mut audit, "after");
    publish(&mut audit);
    let words = why(scratch.path()).unwrap();
    assert!(words.contains("older files were removed or cut"), "{words}");
}

#[test]
fn a_file_written_anew_with_a_good_chain_is_found() {
    let scratch = Scratch::new("audit-forged");
    let (real, forged) = (scratch.path().join("real"), scratch.path().join("forged"));
    written(&real, 5);
    written(&forged, 2);
    let (mut audit, _) = open(&forged, Limits::default());
    for _ in 0..3 {
        append(&mut audit, "nothing happened");
    }
    fs::copy(forged.join(NAME), real.join(NAME)).unwrap();
    assert!(why(&real).unwrap().contains("the file was rewritten"));
}

#[test]
fn a_torn_line_is_cut_and_said() {
    let scratch = Scratch::new("audit-torn");
    written(scratch.path(), 3);
    change(scratch.path(), |bytes| {
        let torn = lines_of(bytes)[1][..30].to_vec();
        bytes.extend(torn);
    });
    let dir = StateDir::open(scratch.path()).unwrap();
    let checked = verify::directory(&dir, None).unwrap();
    assert_eq!(checked.outcome, Outcome::Whole);
    assert!(checked.remarks[0].contains("ends within a line"));

    let (mut audit, notes) = open(scratch.path(), Limits::default());
    assert_eq!(notes[0].event, "audit_torn_line_cut");
    assert!(notes[0].says.contains("30 bytes"));
    append(&mut audit, "after");
    publish(&mut audit);
    assert_eq!(why(scratch.path()), None);
}

#[test]
fn records_after_the_head_are_kept() {
    let scratch = Scratch::new("audit-ahead");
    written(scratch.path(), 3);
    let (mut audit, _) = open(scratch.path(), Limits::default());
    append(&mut audit, "synced by nobody");
    drop(audit);
    let (audit, notes) = open(scratch.path(), Limits::default());
    assert_eq!((audit.tip().seq, notes), (4, vec![]));
}

#[test]
fn the_chain_goes_on_through_rotated_files() {
    let scratch = Scratch::new("audit-rotate");
    let limits = Limits { max_bytes: 2000, keep: 4 };
    for _ in 0..3 {
        let (mut audit, notes) = open(scratch.path(), limits);
        assert_eq!(notes, []);
        for n in 0..40 {
            append(&mut audit, &format!("record {n}"));
        }
        publish(&mut audit);
        assert_eq!(why(scratch.path()), None);
    }
    let kept = |n| scratch.path().join(rotated(n));
    assert!(kept(4).exists() && !kept(5).exists());
    assert!(fs::metadata(kept(4)).unwrap().len() <= 2000);
    let lines = history::load(scratch.path()).unwrap();
    assert_eq!(lines.last().unwrap().seq, 120);
    assert!(lines.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq));

    let gone = fs::read(kept(4)).unwrap();
    fs::remove_file(kept(4)).unwrap();
    assert!(why(scratch.path()).unwrap().contains("older files were removed"));
    fs::write(kept(4), gone).unwrap();
    fs::remove_file(kept(2)).unwrap();
    assert!(why(scratch.path()).unwrap().contains("are missing before it"));
}

#[test]
fn a_crash_within_a_rotation_loses_nothing() {
    let scratch = Scratch::new("audit-rotate-crash");
    written(scratch.path(), 3);
    fs::rename(scratch.path().join(NAME), scratch.path().join(rotated(1))).unwrap();
    let (mut audit, notes) = open(scratch.path(), Limits::default());
    assert_eq!((audit.tip().seq, notes), (3, vec![]));
    append(&mut audit, "after");
    publish(&mut audit);
    assert_eq!(why(scratch.path()), None);
}

#[test]
fn garbage_after_the_head_does_not_stop_healer() {
    let scratch = Scratch::new("audit-garbage");
    written(scratch.path(), 3);
    let mut file = fs::OpenOptions::new();
    let mut file = file.append(true).open(scratch.path().join(NAME)).unwrap();
    file.write_all(b"rubbish\n").unwrap();
    let (mut audit, notes) = open(scratch.path(), Limits::default());
    assert_eq!(notes[0].event, "audit_broken");
    append(&mut audit, "after");
    publish(&mut audit);
    let words = why(scratch.path()).unwrap();
    assert!(words.starts_with("audit.jsonl:4: it is not a line"), "{words}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_changed_removed_or_added_byte_is_found(at in 0usize..10_000, by in 1u8.., how in 0..3) {
        let scratch = Scratch::new("audit-tamper");
        if !scratch.path().join("state").exists() {
            written(&scratch.path().join("state"), 6);
        }
        let path = scratch.path().join("state");
        prop_assert_eq!(why(&path), None);
        change(&path, |bytes| {
            let at = at % bytes.len();
            match how {
                0 => bytes[at] = bytes[at].wrapping_add(by),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, by),
            }
        });
        prop_assert!(why(&path).is_some());
    }
}
