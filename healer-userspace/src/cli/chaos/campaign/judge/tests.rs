use serde_json::json;

use super::*;
use crate::{engine::time::BootTime, fault::Fault, report::book::Book};

const CGROUP: &str = "/healer-fault-1-0-x";

fn instance(fault: &str, as_meant: bool) -> Instance {
    Instance {
        fault: Fault::by_name(fault).unwrap(),
        cgroup: CGROUP.to_owned(),
        began: BootTime(1_000),
        ended: BootTime(9_000),
        end: "lives".to_owned(),
        as_meant,
    }
}

fn incident(class: &str, cgroup: &str, at: u64, acts: &[&str]) -> Incident {
    let mut book = Book::default();
    let mut add = |value: serde_json::Value| book.add(value.as_object().unwrap());
    add(json!({"record": "diagnosis", "incident": "i1", "workload": "w", "class": class, "boot_ns": at,
        "fault_boot_ns": at, "detected_boot_ns": at + 1, "target": {"pid": 2, "cgroup": cgroup}}));
    for act in acts {
        add(
            json!({"record": "result", "incident": "i1", "boot_ns": at + 2, "outcome": "done", "action": act,
                "key": format!("i1:2@7:{class}:0.0")}),
        );
    }
    book.get("i1").unwrap()
}

#[test]
fn a_failure_that_gets_its_name_counts() {
    let told = [incident("deadlock", &format!("{CGROUP}/below"), 2_000, &["stop"])];
    let verdict = judge(&[instance("deadlock", false)], &told);
    assert!(verdict.is_good(), "{:?}", verdict.wrong);
    assert!(verdict.instances[0].is_right());
    let silent = judge(&[instance("deadlock", true)], &[]);
    assert!(!silent.is_good());
}

#[test]
fn another_cgroup_and_what_comes_after_the_end_are_not_its_own() {
    let beside = incident("deadlock", &format!("{CGROUP}1"), 2_000, &[]);
    let late = incident("deadlock", CGROUP, 9_001, &[]);
    assert_eq!(judge(&[instance("deadlock", true)], &[beside, late]).instances[0].said.len(), 0);
}

#[test]
fn an_innocent_that_is_touched_or_lost_is_wrong() {
    let touched = judge(&[instance("busy", true)], &[incident("hang", CGROUP, 2_000, &["stop"])]);
    assert!(touched.wrong[0].contains("was touched: stop of i1"), "{:?}", touched.wrong);
    let lost = judge(&[instance("busy", false)], &[]);
    assert_eq!(lost.wrong.len(), 1);
    let told = judge(&[instance("busy", true)], &[incident("hang", CGROUP, 2_000, &["notify"])]);
    assert!(told.wrong.is_empty());
    assert_eq!(told.instances[0].said_wrongly().count(), 1);
}

#[test]
fn an_act_done_twice_is_wrong() {
    let told = |class: &str, acts: &[&str]| incident(class, CGROUP, 2_000, acts);
    let wrong = |told: &[Incident]| judge(&[instance("deadlock", false)], told).wrong;
    assert_eq!(wrong(&[told("deadlock", &["stop", "stop"])]), ["deadlock: stop of 2@7, 2 times"]);
    let by_two = [told("deadlock", &["stop"]), told("hang", &["stop"])];
    assert_eq!(wrong(&by_two), ["deadlock: stop of 2@7, 2 times"]);
    assert_eq!(wrong(&[told("deadlock", &["stop", "capture"])]), [""; 0]);
}
