use serde_json::json;

use super::{page::TIMELINE_CAP, *};

fn record(value: serde_json::Value) -> Record {
    value.as_object().cloned().expect("an object")
}

fn diagnosis(id: u64, workload: &str, pid: u32) -> Record {
    record(json!({
        "record": "diagnosis", "incident": format!("i{id}"), "workload": workload,
        "class": "down", "certainty": "proved", "sentence": "web is down",
        "fault_time": "2026-01-01T00:00:00.000000000Z", "fault_boot_ns": 1_000_000,
        "detected_boot_ns": 1_100_000, "target": {"pid": pid},
    }))
}

fn closed(id: u64) -> Record {
    record(json!({
        "record": "closed", "incident": format!("i{id}"), "outcome": "healed",
        "time": "2026-01-01T00:00:01.000000000Z", "to_detect_ns": 100_000, "to_act_ns": 12_000_000,
    }))
}

#[test]
fn an_incident_goes_from_open_to_closed() {
    let mut book = Book::default();
    book.add(&diagnosis(7, "supervise/web", 100));
    assert!(book.get("i7").expect("filed").open);
    assert_eq!(book.get("7").expect("filed").to_detect_ns, Some(100_000));
    book.add(&closed(7));
    let incident = book.get("i7").expect("filed");
    assert!(!incident.open);
    assert_eq!(incident.outcome.as_deref(), Some("healed"));
    assert_eq!(incident.to_act_ns, Some(12_000_000));
    assert_eq!(incident.timeline.len(), 2);
}

#[test]
fn an_incident_says_the_surest_that_was_said_of_its_class() {
    let mut book = Book::default();
    let said = |class: &str, certainty: &str| {
        let mut said = diagnosis(7, "supervise/web", 100);
        said.insert("class".into(), class.into());
        said.insert("certainty".into(), certainty.into());
        said.insert("sentence".into(), format!("{class} {certainty}").into());
        said
    };
    let sentence = |book: &Book| book.get("i7").expect("filed").sentence;
    book.add(&said("hang", "suspected"));
    book.add(&said("crash", "proved"));
    assert_eq!(sentence(&book), "hang suspected");
    book.add(&said("hang", "probable"));
    book.add(&said("hang", "suspected"));
    assert_eq!(sentence(&book), "hang probable");
}

#[test]
fn the_book_is_bounded_and_keeps_what_is_open() {
    let mut book = Book::with_cap(2);
    book.add(&diagnosis(1, "supervise/a", 1));
    book.add(&diagnosis(2, "supervise/b", 2));
    book.add(&closed(2));
    book.add(&diagnosis(3, "supervise/c", 3));
    let ids: Vec<_> = book.newest().map(|of| of.id.as_str()).collect();
    assert_eq!(ids, ["i3", "i1"]);
}

#[test]
fn a_gate_that_goes_on_holding_is_one_entry() {
    let mut book = Book::default();
    book.add(&diagnosis(1, "supervise/web", 1));
    for left in ["3s", "2s", "1s"] {
        book.add(&record(json!({
            "record": "gate", "incident": "i1", "gate": "backoff", "verdict": "hold",
            "reason": format!("waits {left} more"),
        })));
    }
    let timeline = book.get("i1").expect("filed").timeline;
    assert_eq!(timeline.len(), 2);
    assert_eq!(timeline[1]["repeats"], 2);
    assert_eq!(timeline[1]["reason"], "waits 1s more");
}

#[test]
fn a_timeline_is_bounded_and_its_end_is_kept() {
    let mut book = Book::default();
    book.add(&diagnosis(1, "supervise/web", 1));
    for n in 0..500 {
        book.add(&record(json!({"record": "notify", "incident": 1, "sentence": n})));
    }
    book.add(&closed(1));
    let incident = book.get("i1").expect("filed");
    assert_eq!(incident.timeline.len(), TIMELINE_CAP + 1);
    assert_eq!(incident.omitted, 301);
}

#[test]
fn a_target_is_an_incident_a_name_or_a_pid() {
    let mut book = Book::default();
    book.add(&diagnosis(1, "supervise/web", 100));
    book.add(&diagnosis(2, "supervise/web", 200));
    book.add(&diagnosis(3, "pod/payments/api-0/app", 300));
    book.add(&record(json!({
        "record": "verification", "incident": "i2", "successor": {"pid": 201},
    })));
    let ids = |target| book.about(target).iter().map(|of| of.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids("i1"), ["i1"]);
    assert_eq!(ids("web"), ["i2", "i1"]);
    assert_eq!(ids("supervise/web"), ["i2", "i1"]);
    assert_eq!(ids("payments/api-0/app"), ["i3"]);
    assert_eq!(ids("300"), ["i3"]);
    assert_eq!(ids("201"), ["i2"]);
    assert!(ids("nobody").is_empty());
}

#[test]
fn what_an_ended_agent_left_open_is_interrupted_until_it_goes_on() {
    let left = diagnosis(1, "supervise/web", 1);
    let mut book = Book::default();
    book.add(&left);
    book.interrupt_open();
    let incident = book.get("i1").expect("filed");
    assert!(!incident.open);
    assert_eq!(incident.outcome.as_deref(), Some("interrupted"));
    book.add(&record(json!({"record": "result", "incident": "i1", "outcome": "unknown"})));
    assert!(book.get("i1").expect("filed").open);
    book.add(&closed(1));
    assert_eq!(book.get("i1").expect("filed").outcome.as_deref(), Some("healed"));
}
