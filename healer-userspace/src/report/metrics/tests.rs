use std::collections::BTreeMap;

use super::*;
use crate::{
    engine::{class::Certainty, policy::Mode, time::BootTime},
    identity::process::Process,
    report::view::SensorState,
};

const DOCUMENT: &str = include_str!("../../../METRICS.md");

fn sensor(name: &str, state: SensorState, signals: &[&str]) -> Sensor {
    Sensor {
        name: name.into(),
        state,
        via: (state != SensorState::Down).then(|| "tp_btf".into()),
        signals: signals.iter().map(|of| (*of).into()).collect(),
        ..Sensor::default()
    }
}

/// Sample lines that start with `healer_NAME`, sorted.
fn samples(metrics: &Metrics, name: &str) -> Vec<String> {
    let mut lines: Vec<String> = metrics
        .text004()
        .lines()
        .filter(|line| line.starts_with(&format!("healer_{name}")))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

fn diagnosis() -> Diagnosis {
    Diagnosis {
        class: Class::Down,
        certainty: Certainty::Proved,
        target: Process::default(),
        related: Vec::new(),
        fault_at: BootTime(1_000_000),
        detected_at: BootTime(1_080_000),
        sentence: String::new(),
        evidence: Vec::new(),
        lost: 0,
        from_absence: false,
        detail: crate::engine::diagnosis::Detail::default(),
    }
}

#[test]
fn every_metric_is_documented_and_every_document_line_exists() {
    let mut registered: BTreeMap<String, String> =
        Metrics::default().catalogue.into_iter().map(|(name, kind)| (name, kind.to_owned())).collect();
    registered.insert("process_cpu_seconds_total".into(), "counter".into());
    registered.insert("process_resident_memory_bytes".into(), "gauge".into());
    registered.insert("process_open_fds".into(), "gauge".into());
    let documented: BTreeMap<String, String> = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| {
            let (name, rest) = row.split_once('`')?;
            let kind = rest.split('|').nth(1)?.trim();
            let name = name.split_once('{').map_or(name, |(name, _)| name);
            Some((name.to_owned(), kind.to_owned()))
        })
        .collect();
    assert_eq!(registered, documented);
}

#[test]
fn a_sensor_that_is_not_attached_exports_no_value() {
    let metrics = Metrics::default();
    metrics.set_sensors(&[
        sensor("process_exit", SensorState::Attached, &["exited"]),
        sensor("oom_kill", SensorState::Down, &["oom_killed"]),
    ]);
    assert_eq!(samples(&metrics, "signals"), ["healer_signals_total{signal=\"exited\"} 0"]);
    assert_eq!(
        samples(&metrics, "sensor_up"),
        [
            "healer_sensor_up{sensor=\"oom_kill\",via=\"none\"} 0",
            "healer_sensor_up{sensor=\"process_exit\",via=\"tp_btf\"} 1"
        ]
    );
    metrics.signal("exited");
    metrics.set_sensors(&[sensor("process_exit", SensorState::Down, &["exited"])]);
    assert!(samples(&metrics, "signals").is_empty(), "it died: its count is no longer a fact");
}

#[test]
fn hostile_names_stay_inside_their_label() {
    let metrics = Metrics::default();
    metrics.oom_kill("supervise/a\"} 1\nevil 1\x1b\\");
    assert_eq!(
        samples(&metrics, "workload_oom"),
        [r#"healer_workload_oom_kills_total{workload="supervise/a\"} 1\\nevil 1\\x1b\\"} 1"#]
    );
}

#[test]
fn workloads_beyond_the_cap_are_summed_up_and_series_go_with_their_workload() {
    let metrics = Metrics::with_cap(2);
    for workload in ["a", "b", "c", "d", "a"] {
        metrics.main_process_ended(workload, &Exit { code: 1, ..Exit::default() });
    }
    let series = |workload, count| {
        format!("healer_workload_exits_total{{workload=\"{workload}\",cause=\"failure\"}} {count}")
    };
    assert_eq!(samples(&metrics, "workload_exits"), [series("a", 2), series("b", 1), series("other", 2)]);
    metrics.forget_workload("a");
    assert_eq!(samples(&metrics, "workload_exits"), [series("b", 1), series("other", 2)]);
}

#[test]
fn one_incident_in_numbers() {
    let metrics = Metrics::default();
    metrics.diagnosis(&diagnosis());
    metrics.incidents_open(Class::Down, 1);
    metrics.gate(&GateReport {
        gate: "budget".into(),
        verdict: Verdict::Hold,
        reason: "2 of 2".into(),
        mode: Mode::Enforce,
    });
    metrics.action(Some(&ActName { action: "restart", rung: 0, mode: "enforce" }), "done");
    metrics.breaker("supervise/web", Class::Down, BreakerState::Tripped);
    metrics.audit_head("abc");
    metrics.audit_head("def");
    let all = metrics.text004();
    for line in [
        "healer_diagnoses_total{class=\"down\",certainty=\"proved\"} 1",
        "healer_incidents_open{class=\"down\"} 1",
        "healer_gate_verdicts_total{gate=\"budget\",verdict=\"hold\"} 1",
        "healer_actions_total{action=\"restart\",outcome=\"done\",mode=\"enforce\"} 1",
        "healer_breaker_state{workload=\"supervise/web\",class=\"down\"} 1",
        "healer_time_to_detect_seconds_bucket{le=\"0.0001\",class=\"down\"} 1",
        "healer_audit_head_info{hash=\"def\"} 1",
        "healer_build_info{version=\"0.1.0\"} 1",
    ] {
        assert!(all.lines().any(|of| of == line), "{line} is not in\n{all}");
    }
    assert!(!all.contains("abc"), "an old head is gone");
}

#[test]
fn both_formats_declare_a_counter_in_their_own_way() {
    let metrics = Metrics::default();
    metrics.ring_opened(Ring::Bulk);
    let openmetrics = metrics.openmetrics();
    assert!(openmetrics.contains("# TYPE healer_ring_lost counter\n"));
    assert!(openmetrics.ends_with("# EOF\n"));
    let text004 = metrics.text004();
    assert!(text004.contains("# TYPE healer_ring_lost_total counter\n"));
    assert!(text004.contains("healer_ring_lost_total{ring=\"bulk\"} 0\n"));
    assert!(!text004.contains("# EOF"));
    assert!(text004.contains("process_resident_memory_bytes "));
}
