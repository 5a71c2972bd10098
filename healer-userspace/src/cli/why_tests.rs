use serde_json::json;

use super::*;
use crate::{
    identity::fixture::{Fake, Tree},
    report::{book::Book, deaths::Piece, record::Record},
};

fn records() -> Vec<Record> {
    let at = |ms: u64| json!(ms * 1_000_000);
    let lines = json!([
        {"record": "diagnosis", "incident": "i1", "workload": "supervise/web", "class": "down",
         "certainty": "proved", "time": "2026-01-01T03:04:05.101000000Z", "boot_ns": at(1001),
         "fault_time": "2026-01-01T03:04:05.100000000Z", "fault_boot_ns": at(1000),
         "detected_boot_ns": at(1001), "lost": 0, "target": {"pid": 10},
         "sentence": "supervise/web is down: web\u{1b}[10] ended by SIGKILL from bash[7] (uid 0)",
         "evidence": [
            {"signal": "process_exit", "boot_ns": at(1000),
             "time": "2026-01-01T03:04:05.100000000Z", "says": "web[10] ended by SIGKILL"},
            {"signal": "signal_sent", "boot_ns": at(999),
             "time": "2026-01-01T03:04:05.099000000Z", "says": "SIGKILL from bash[7]"}]},
        {"record": "plan", "incident": "i1", "time": "2026-01-01T03:04:05.101000000Z",
         "boot_ns": at(1001), "mode": "enforce", "policy": "default", "rule": "down",
         "says": "policy default, rule down (enforce): restart → notify"},
        {"record": "gate", "incident": "i1", "time": "2026-01-01T03:04:05.101000000Z",
         "boot_ns": at(1001), "gate": "pause", "verdict": "pass", "reason": "not paused"},
        {"record": "gate", "incident": "i1", "time": "2026-01-01T03:04:05.101000000Z",
         "boot_ns": at(1001), "gate": "backoff", "verdict": "hold", "reason": "waits 2s more"},
        {"record": "gate", "incident": "i1", "time": "2026-01-01T03:04:06.101000000Z",
         "boot_ns": at(2001), "gate": "backoff", "verdict": "hold", "reason": "waits 1s more"},
        {"record": "intent", "incident": "i1", "time": "2026-01-01T03:04:07.101000000Z",
         "boot_ns": at(3001), "action": "restart", "rung": 0, "mode": "enforce", "key": "k1"},
        {"record": "result", "incident": "i1", "time": "2026-01-01T03:04:07.113000000Z",
         "boot_ns": at(3013), "action": "restart", "outcome": "done", "says": "web[11] runs"},
        {"record": "verification", "incident": "i1", "time": "2026-01-01T03:04:17.113000000Z",
         "boot_ns": at(13_013), "outcome": "healed", "after_ms": 10_000,
         "says": "web[11] has lived 10.0s"},
        {"record": "closed", "incident": "i1", "time": "2026-01-01T03:04:17.113000000Z",
         "boot_ns": at(13_013), "outcome": "healed", "says": "", "to_detect_ns": 1_000_000,
         "to_act_ns": 2_012_000_000_u64, "to_recover_ns": 10_000_000_000_u64},
        {"record": "diagnosis", "incident": "i2", "workload": "supervise/api", "class": "crash",
         "certainty": "proved", "fault_time": "2026-01-01T04:00:00.000000000Z",
         "sentence": "api crashed", "target": {"pid": 20}},
    ]);
    let lines = lines.as_array().expect("an array").iter();
    lines.map(|line| line.as_object().expect("an object").clone()).collect()
}

fn book() -> Book {
    let mut book = Book::default();
    records().iter().for_each(|record| book.add(record));
    book
}

#[test]
fn the_chain_reads_from_the_kernel_to_the_end() {
    let book = book();
    let known = Known { incidents: book.about("web"), ..Known::default() };
    assert_eq!(
        render(&known, Paint(false)),
        "\
supervise/web is down: web\\x1b[10] ended by SIGKILL from bash[7] (uid 0)
Incident i1: healed; detected in 1.0ms, acted in 2.0s, well in 10.0s.

  03:04:05.099  -1.0ms  kernel     signal_sent: SIGKILL from bash[7]
  03:04:05.100  +0µs    kernel     process_exit: web[10] ended by SIGKILL
  03:04:05.101  +1.0ms  diagnosis  down, proved: supervise/web is down: web\\x1b[10] ended by SIGKILL from bash[7] (uid 0)
  03:04:05.101  +1.0ms  rule       policy default, rule down (enforce): restart → notify
  03:04:05.101  +1.0ms  gate       pause passes: not paused
  03:04:05.101  +1.0ms  gate       backoff holds: waits 1s more (asked 2 times)
  03:04:07.101  +2.0s   intent     restart, rung 1, enforce (key k1)
  03:04:07.113  +2.0s   act        restart done: web[11] runs
  03:04:17.113  +12.0s  check      healed after 10.0s: web[11] has lived 10.0s
  03:04:17.113  +12.0s  closed     healed
"
    );
}

#[test]
fn the_list_is_one_line_per_incident() {
    let mut book = book();
    book.interrupt_open();
    let all: Vec<_> = book.newest().cloned().collect();
    assert_eq!(
        incidents::list(&all, Paint(false)),
        "\
ID  FAULT (UTC)          WORKLOAD  CLASS  MODE     OUTCOME      WHAT HAPPENED
i2  2026-01-01 04:00:00  api       crash  -        interrupted  api crashed
i1  2026-01-01 03:04:05  web       down   enforce  healed       supervise/web is down: web\\x1b[10] ended by SIGKILL from bash[7] (uid 0)
"
    );
    assert_eq!(incidents::list(&[], Paint(false)), "no incidents\n");
}

#[test]
fn a_page_has_a_head_and_the_chain() {
    let book = book();
    let page = incidents::page(&book.get("i1").expect("filed"), Paint(false));
    assert!(page.starts_with("incident  i1\nworkload  supervise/web\nclass     down, proved\n"), "{page}");
    assert!(page.contains("\n\n  03:04:05.099  -1.0ms  kernel"), "{page}");
}

#[test]
fn a_healthy_workload_is_said_to_be_healthy() {
    let workload = Workload { key: "supervise/web".into(), running: true, pid: 11, ..Workload::default() };
    let known = Known { workload: Some(workload), ..Known::default() };
    assert_eq!(render(&known, Paint(false)), "web is running (pid 11).\nNo incident of it is known.\n");
}

fn killed(pid: u32, boot_ns: u64) -> End {
    let time = "2026-01-01T03:04:05.100000000Z";
    End {
        pid,
        start_boot_ns: boot_ns - 1_000_000,
        boot_ns,
        time: time.into(),
        comm: "web".into(),
        workload: "supervise/web".into(),
        sentence: format!("web[{pid}] of web killed by SIGKILL from bash[7] (uid 0) after 1.0ms"),
        evidence: vec![Piece {
            signal: "signal_sent".into(),
            boot_ns: boot_ns - 200_000,
            time: time.into(),
            says: "SIGKILL (si_code 0) from bash[7] (uid 0)".into(),
        }],
    }
}

#[test]
fn an_end_that_is_no_incident_is_told() {
    let known = Known { ends: vec![killed(9, 3_000_000_000), killed(8, 2_000_000_000)], ..Known::default() };
    assert_eq!(
        render(&known, Paint(false)),
        "\
web[9] of web killed by SIGKILL from bash[7] (uid 0) after 1.0ms

  03:04:05.100  -200µs  kernel  signal_sent: SIGKILL (si_code 0) from bash[7] (uid 0)
  03:04:05.100  +0µs    kernel  process_exit: web[9] of web killed by SIGKILL from bash[7] (uid 0) after 1.0ms
No incident of it is known.

Earlier ends (1):
  2026-01-01 03:04:05  web[8] of web killed by SIGKILL from bash[7] (uid 0) after 1.0ms
"
    );
}

#[test]
fn an_end_of_which_an_incident_tells_is_told_once_and_a_later_one_first() {
    let told = killed(10, 1_000_000_000);
    let known = Known { incidents: book().about("web"), ends: vec![told.clone()], ..Known::default() };
    assert_eq!(known.untold(), Vec::<&End>::new());
    let later = killed(11, 20_000_000_000);
    let known = Known { ends: vec![later, told], ..known };
    let text = render(&known, Paint(false));
    assert!(text.starts_with("web[11] of web killed by SIGKILL from bash[7]"), "{text}");
    assert!(text.contains("\nIncident i1: healed") && !text.contains("web[10] of web"), "{text}");
}

/// An incident of whoever began at that second, with the pid 10.
fn of_owner(number: u64, start_s: u64, boot: &str) -> Incident {
    let record = json!({
        "record": "diagnosis", "incident": format!("i{number}"), "workload": "program//bin/web@/<sh",
        "class": "crash", "certainty": "proved", "fault_time": "2026-01-01T04:00:00.000000000Z",
        "fault_boot_ns": (start_s + 1) * 1_000_000_000, "sentence": "web crashed",
        "target": {"pid": 10, "start_boot_ns": start_s * 1_000_000_000, "boot_id": boot}});
    let mut book = Book::default();
    book.add(record.as_object().expect("an object"));
    book.get(&format!("i{number}")).expect("filed")
}

#[test]
fn what_others_have_met_with_the_same_pid_is_told_apart() {
    let incidents = || vec![of_owner(3, 50, "this"), of_owner(2, 20, "this"), of_owner(1, 50, "before")];
    let known = |ends| Known { incidents: incidents(), ends, ..Known::default() };
    let ids = |of: &[Incident]| of.iter().map(|one| one.id.clone()).collect::<Vec<_>>().join(" ");
    let dead = known(vec![killed(10, 20_001_000_000)]).of_one_owner(10, None, Some("this"));
    assert_eq!(ids(&dead.incidents), "i3");
    assert_eq!(ids(&dead.incidents_of_others), "i2 i1");
    assert_eq!((dead.ends.len(), dead.ends_of_others.len()), (0, 1));

    let tree = Tree::new();
    tree.process(&Fake::new(10, "cat").started(9_000));
    let living = pid_owner::living(&tree.root().join("proc"), 10, Some("this"));
    let down = Workload { key: "supervise/web".into(), pid: 10, ..Workload::default() };
    let next = Known { workload: Some(down), ..known(Vec::new()) }.of_one_owner(10, living, Some("this"));
    let text = render(&next, Paint(false)) + &others(&next, Paint(false));
    assert!(text.starts_with("cat[10] is running since "), "{text}");
    let rest = ".\nNo incident of it is known.\n\nIncidents of others who had this pid before (3):\n";
    assert!(text.contains(rest), "{text}");
}

#[test]
fn of_one_owner_nothing_is_set_apart() {
    let one = || Known { incidents: vec![of_owner(3, 50, "this")], ..Known::default() };
    assert_eq!(one().of_one_owner(10, None, Some("this")).incidents.len(), 1);
    let untold = Known { incidents: book().about("web"), ..Known::default() };
    let ends = vec![killed(10, 1_000_000_000)];
    let known = Known { ends, ..untold }.of_one_owner(10, None, Some("this"));
    assert!(!known.has_others(), "the record does not say which");
    assert!(Known { incidents: book().about("web"), ..Known::default() }.is_of_a_name("web"));
    assert!(!one().is_of_a_name("10"));
}
