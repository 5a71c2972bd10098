use serde_json::json;

use super::*;
use crate::report::{book::Book, record::Record};

fn record(value: serde_json::Value) -> Record {
    value.as_object().cloned().unwrap_or_default()
}

fn hostile() -> Incident {
    let name = "<script>alert(1)</script>\u{1b}[31m\"'&\n";
    let mut book = Book::default();
    book.add(&record(json!({
        "record": "diagnosis", "incident": "i7", "workload": name, "class": "deadlock", "certainty": "proved",
        "sentence": format!("{name} waits"), "time": "2026-01-02T03:04:05.678901234Z", "boot_ns": 2_000_000_000_u64,
        "fault_time": "2026-01-02T03:04:04.678901234Z", "fault_boot_ns": 1_000_000_000_u64,
        "detected_boot_ns": 2_000_000_000_u64, "target": {"pid": 42, "comm": name},
        "evidence": [{"signal": "task_scan", "time": "2026-01-02T03:04:04.6Z", "boot_ns": 1_000_000_000_u64, "says": name}],
    })));
    book.add(&record(json!({
        "record": "closed", "incident": "i7", "workload": name, "outcome": "healed", "says": name,
        "time": "2026-01-02T03:04:08Z", "boot_ns": 5_000_000_000_u64,
        "to_detect_ns": 1_000_000_000_u64, "to_act_ns": 1_000_000_u64, "to_recover_ns": 2_000_000_000_u64,
    })));
    book.get("i7").unwrap()
}

#[test]
fn what_others_chose_is_text_and_nothing_is_loaded() {
    let kept = Kept { text: "<img src=http://x>\u{1b}[2J\n".into(), svg: "<svg></svg>".into() };
    let page = document(&hostile(), &kept);
    assert!(!page.contains("<script"), "{page}");
    assert!(!page.contains("<img"), "{page}");
    assert!(!page.contains('\u{1b}'), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
    for from_elsewhere in ["src=\"", "href=", "@import", "url("] {
        assert!(!page.contains(from_elsewhere), "{from_elsewhere}");
    }
}

#[test]
fn the_page_tells_the_whole_course() {
    let page = document(&hostile(), &Kept::default());
    for told in
        ["detected in 1.0s", "acted in 1.0ms", "well in 2.0s", "task_scan", "healed", "deadlock", "Records"]
    {
        assert!(page.contains(told), "{told} is not in {page}");
    }
    assert!(!page.contains("Evidence, taken"), "nothing was taken");
}

#[test]
fn an_open_incident_without_times_has_a_page_too() {
    let incident = Incident { id: "i1".into(), open: true, ..Incident::default() };
    let page = document(&incident, &Kept::default());
    assert!(page.contains(">open<"), "{page}");
    assert!(!page.contains("<svg"), "{page}");
}

#[test]
fn a_dependency_is_drawn_with_both_its_ends() {
    let mut book = Book::default();
    book.add(&record(json!({
        "record": "diagnosis", "incident": "i8", "class": "dependency_failure", "certainty": "probable",
        "sentence": "web depends on db", "time": "2026-01-02T03:04:05Z", "boot_ns": 2_000_000_000_u64,
        "fault_boot_ns": 1_000_000_000_u64, "target": {"pid": 42, "comm": "web<"}, "related": [{"pid": 43, "comm": "db"}],
        "detail": {"proof": {"peer": "127.0.0.3:5432", "kind": "refuses"}},
    })));
    let page = document(&book.get("i8").unwrap(), &Kept::default());
    let drawn =
        page.split("Who depends on whom").nth(1).and_then(|rest| rest.split("</svg>").next()).unwrap();
    for part in ["web&lt;[42]", "db[43]", "127.0.0.3:5432", "refuses"] {
        assert!(drawn.contains(part), "{part} is not in {drawn}");
    }
}

/// What happens after the last of the known times has room of its own.
#[test]
fn the_end_of_what_nobody_healed_is_not_drawn_at_its_diagnosis() {
    let told = |record_kind: &str, at: u64| {
        json!({
            "record": record_kind, "incident": "i9", "class": "hang", "certainty": "proved", "sentence": "it hangs",
            "time": "2026-01-02T03:04:05Z", "boot_ns": at, "fault_boot_ns": 1_000_000_000_u64, "says": "it has ended",
            "detected_boot_ns": 2_000_000_000_u64, "outcome": "died", "to_detect_ns": 1_000_000_000_u64,
        })
    };
    let mut book = Book::default();
    book.add(&record(told("diagnosis", 2_000_000_000)));
    book.add(&record(told("closed", 9_000_000_000)));
    let page = document(&book.get("i9").unwrap(), &Kept::default());
    assert!(page.contains("detected in 1.0s") && page.contains("over in 7.0s"), "{page}");
}
