//! One incident from diagnosis to recovery, as every reader gets it.

use core::time::Duration;
use std::{
    io,
    sync::{Arc, Mutex},
};

use super::*;
use crate::{
    engine::{
        class::Certainty,
        command::{Act, ActionOutcome, ActionResult},
        diagnosis::{Detail, Diagnosis, Evidence},
        policy::{ActionName, Mode, Rung, Scope, Terms},
        report::{Closed, GateReport, Outcome, Plan, Verdict, Verification},
    },
    identity::process::{Process, WorkloadKey},
    report::wall::Now,
    signal::Exit,
};

#[derive(Clone, Default)]
struct FakeAudit {
    records: Arc<Mutex<u32>>,
    broken: Arc<Mutex<bool>>,
}

impl Audit for FakeAudit {
    fn append(&mut self, _: &Report) -> io::Result<String> {
        if *self.broken.lock().expect("one thread") {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut records = self.records.lock().expect("one thread");
        *records += 1;
        Ok(format!("hash{records}"))
    }
}

fn reporter(audit: FakeAudit) -> Reporter {
    let wall = jiff::Timestamp::from_second(1_700_000_000).expect("in range");
    let clock: ReadClock = Arc::new(move || Now { boot: BootTime(20_000_000_000), wall });
    Reporter::new(Box::new(audit), clock, "boot-1".into())
}

fn process(pid: u32) -> Process {
    Process {
        pid,
        start: BootTime(6_800_000_000),
        comm: "web".into(),
        exe: Some("/usr/bin/web".into()),
        workload: WorkloadKey::supervise("web"),
        main: true,
        ..Process::default()
    }
}

fn report(at_ms: u64, fact: ReportFact) -> Report {
    Report {
        at: BootTime(at_ms * 1_000_000),
        incident: Some(IncidentId(1)),
        workload: Some(WorkloadKey::supervise("web")),
        fact,
    }
}

fn gate(gate: &str, verdict: Verdict, reason: &str) -> ReportFact {
    let mode = Mode::Shadow;
    ReportFact::Gate(GateReport { gate: gate.into(), verdict, reason: reason.into(), mode })
}

fn diagnosis() -> ReportFact {
    ReportFact::Diagnosis(Diagnosis {
        class: Class::Down,
        certainty: Certainty::Proved,
        target: process(10),
        related: Vec::new(),
        fault_at: BootTime(10_000_000_000),
        detected_at: BootTime(10_000_100_000),
        sentence: "web is down: killed by signal 9 (SIGKILL) after 3.2s".into(),
        evidence: vec![Evidence {
            signal: "process_exit".into(),
            at: BootTime(10_000_000_000),
            says: "signal 9".into(),
        }],
        lost: 0,
        from_absence: false,
        detail: Detail::default(),
    })
}

fn intent(mode: Mode) -> Intent {
    let rung = Rung {
        action: ActionName::Restart,
        scope: Scope::Process,
        grace: None,
        timeout: None,
        signal: None,
        command: Vec::new(),
        terms: Terms::default(),
    };
    let act = Act {
        key: ActionKey("k1".into()),
        incident: IncidentId(1),
        class: Class::Down,
        mode,
        rung,
        workload: WorkloadKey::supervise("web"),
        target: process(10),
        look: Vec::new(),
        ignores_signal: false,
        turns: Vec::new(),
        incident_json: String::new(),
    };
    let at = BootTime(10_002_000_000);
    let (policy, rule) = ("default".into(), "down".into());
    Intent { act, policy, rule, rung_index: 0, at, read_only: Vec::new() }
}

fn result(outcome: ActionOutcome) -> ReportFact {
    ReportFact::Result(ActionResult { key: ActionKey("k1".into()), outcome })
}

fn shadow_story() -> Vec<Report> {
    let plan = Plan {
        policy: Some("default".into()),
        rule: Some("down".into()),
        mode: Mode::Shadow,
        ladder: vec!["restart".into(), "notify".into()],
        says: "policy default, rule down (shadow): restart → notify".into(),
    };
    let verification = Verification {
        outcome: Outcome::RecoveredAlone,
        after_ms: 812,
        says: "pid 11 lives".into(),
        successor: Some(process(11)),
    };
    let closed = Closed {
        outcome: Outcome::RecoveredAlone,
        says: String::new(),
        to_detect: Duration::from_micros(100),
        to_act: Some(Duration::from_millis(2)),
        to_recover: Some(Duration::from_millis(812)),
    };
    vec![
        report(10_000, diagnosis()),
        report(10_001, ReportFact::Plan(plan)),
        report(10_001, gate("pause", Verdict::Pass, "not paused")),
        report(10_001, gate("backoff", Verdict::Hold, "waits 1s more")),
        report(10_002, gate("pause", Verdict::Pass, "not paused")),
        report(10_002, gate("backoff", Verdict::Pass, "first act")),
        report(10_002, ReportFact::Intent(intent(Mode::Shadow))),
        report(10_003, result(ActionOutcome::WouldDo { says: String::new() })),
        report(10_815, ReportFact::Verification(verification)),
        report(10_816, ReportFact::Closed(closed)),
    ]
}

#[test]
fn a_tired_person_reads_the_log_right() {
    let mut lines = Lines::default();
    let mut text = String::new();
    for report in shadow_story() {
        let act = ActName { action: "restart", rung: 0, mode: "shadow" };
        for line in lines.of(&report, Some(&act)) {
            if line.level != log::Level::Debug {
                text.push_str(&format!("{}|{}|{}\n", line.incident, line.part, line.text));
            }
        }
    }
    assert_eq!(
        text,
        "\
i1||web is down: killed by signal 9 (SIGKILL) after 3.2s
i1|plan|policy default, rule down (shadow): restart → notify
i1|gate|backoff holds: waits 1s more
i1|gates|2 passed: pause, backoff
i1|act|would restart web (shadow)
i1|check|recovered alone after 812ms: pid 11 lives
i1|closed|recovered alone; detected in 100µs, acted in 2.0ms, well in 812ms
"
    );
}

#[test]
fn outcomes_are_told_apart() {
    let say = |outcome| {
        let act = ActName { action: "restart", rung: 0, mode: "enforce" };
        let lines = Lines::default().of(&report(1, result(outcome)), Some(&act));
        lines[0].text.clone()
    };
    assert_eq!(say(ActionOutcome::Done { says: "pid 11".into() }), "restart web is done: pid 11");
    assert_eq!(
        say(ActionOutcome::Refused { reason: "pid 10 is somebody else now".into() }),
        "did not restart web, nothing was touched: pid 10 is somebody else now"
    );
    assert_eq!(
        say(ActionOutcome::Failed { error: "no such file".into(), errno: Some(2) }),
        "could not restart web: no such file (errno 2)"
    );
    assert_eq!(
        say(ActionOutcome::Unknown { reason: "healer ended meanwhile".into() }),
        "restart web: nobody knows whether it happened: healer ended meanwhile"
    );
}

#[test]
fn one_fact_reaches_metrics_book_workloads_and_audit() {
    let audit = FakeAudit::default();
    let mut reporter = reporter(audit.clone());
    for report in shadow_story() {
        reporter.write(&report).expect("audited");
    }
    assert_eq!(*audit.records.lock().expect("one thread"), 10);
    let metrics = reporter.metrics.text004();
    for line in [
        "healer_actions_total{action=\"restart\",outcome=\"would_do\",mode=\"shadow\"} 1",
        "healer_incidents_open{class=\"down\"} 0",
        "healer_gate_verdicts_total{gate=\"pause\",verdict=\"pass\"} 2",
        "healer_time_to_recover_seconds_count 1",
        "healer_audit_head_info{hash=\"hash10\"} 1",
    ] {
        assert!(metrics.lines().any(|of| of == line), "{line} is not in\n{metrics}");
    }
    reporter.shared.read(|view| {
        let incident = view.book.get("i1").expect("filed");
        assert_eq!(incident.outcome.as_deref(), Some("recovered_alone"));
        assert_eq!(incident.timeline.len(), 10);
        assert_eq!(view.workloads["supervise/web"].pid, 11);
        assert_eq!(view.audit_head.as_deref(), Some("hash10"));
    });
}

#[test]
fn a_record_bears_the_names_that_scripts_hold_on_to() {
    let now = Now {
        boot: BootTime(20_000_000_000),
        wall: jiff::Timestamp::from_second(1_700_000_000).expect("in range"),
    };
    let stamp = Stamp { boot_id: "boot-1".into(), moment: now };
    let record = record::record(&report(10_000, diagnosis()), None, &stamp);
    assert_eq!(
        serde_json::Value::Object(record),
        serde_json::json!({
            "record": "diagnosis", "incident": "i1", "workload": "supervise/web",
            "time": "2023-11-14T22:13:10.000000000Z", "boot_ns": 10_000_000_000_u64,
            "boot_id": "boot-1", "from_absence": false,
            "class": "down", "certainty": "proved",
            "target": {
                "pid": 10, "start_boot_ns": 6_800_000_000_u64, "boot_id": "boot-1", "comm": "web",
                "exe": "/usr/bin/web", "cgroup": "", "cgroup_id": 0, "uid": 0,
                "workload": "supervise/web",
            },
            "fault_time": "2023-11-14T22:13:10.000000000Z", "fault_boot_ns": 10_000_000_000_u64,
            "detected_time": "2023-11-14T22:13:10.000100000Z",
            "detected_boot_ns": 10_000_100_000_u64,
            "sentence": "web is down: killed by signal 9 (SIGKILL) after 3.2s",
            "evidence": [{
                "signal": "process_exit", "time": "2023-11-14T22:13:10.000000000Z",
                "boot_ns": 10_000_000_000_u64, "says": "signal 9",
            }],
            "lost": 0,
        })
    );
}

#[test]
fn an_unwritable_audit_silences_nothing_else() {
    let audit = FakeAudit::default();
    *audit.broken.lock().expect("one thread") = true;
    let mut reporter = reporter(audit.clone());
    assert!(reporter.write(&report(10_000, diagnosis())).is_err());
    assert!(reporter.shared.read(|view| view.book.get("i1").is_some()));
    assert!(reporter.metrics.text004().contains("healer_audit_failures_total 1\n"));
    *audit.broken.lock().expect("one thread") = false;
    assert!(reporter.write(&report(10_001, diagnosis())).is_ok());
}

#[test]
fn lost_records_are_counted_and_remembered() {
    let mut reporter = reporter(FakeAudit::default());
    let fact = Fact::Lost { ring: Ring::Bulk, count: 5000 };
    reporter.signal(&Signal { at: BootTime(1), process: None, fact });
    assert!(reporter.metrics.text004().contains("healer_ring_lost_total{ring=\"bulk\"} 5000\n"));
    let complaints = reporter.shared.read(|view| view.readiness.complaints(&[], BootTime(2)));
    assert!(complaints.iter().any(|of| of.starts_with("5000 records lost")), "{complaints:?}");
}

#[test]
fn ends_of_main_processes_are_counted_by_workload() {
    let mut reporter = reporter(FakeAudit::default());
    let exit = Exit { signal: Some(9), ..Exit::default() };
    let exited = |main| Signal {
        at: BootTime(1),
        process: Some(Process { main, ..process(10) }),
        fact: Fact::Exited(exit),
    };
    reporter.signal(&exited(true));
    reporter.signal(&exited(false));
    let line = "healer_workload_exits_total{workload=\"supervise/web\",cause=\"signal\"} 1\n";
    assert!(reporter.metrics.text004().contains(line));
}
