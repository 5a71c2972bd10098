//! An isolation that is said anew, as reaching less far.

use super::*;
use crate::engine::{
    class::Certainty,
    detect::{Finding, Subject},
    diagnosis::{Detail, Diagnosis},
    report::{Outcome, ReportFact},
};

fn cut_off(second: u64, kind: &str) -> (Subject, Diagnosis) {
    let web = supervised(10, SECOND);
    let subject = Subject::Network(web.workload.clone(), 7);
    let diagnosis = Diagnosis {
        class: Class::NetworkIsolation,
        certainty: Certainty::Probable,
        target: web,
        related: Vec::new(),
        fault_at: BootTime(5 * SECOND),
        detected_at: BootTime(second * SECOND),
        sentence: format!("web is cut off ({kind})"),
        evidence: Vec::new(),
        lost: 0,
        from_absence: false,
        detail: Detail { kind: Some(kind.to_owned()), ..Detail::default() },
    };
    (subject, diagnosis)
}

fn engine() -> Engine {
    Engine::new(BootTime(SECOND), PolicySet::default(), Recovered::default())
}

/// How often it was reported since the last time that this was asked, and since which second it holds.
fn known(engine: &mut Engine) -> (usize, Option<u64>) {
    let reports = core::iter::from_fn(|| engine.poll_report());
    let told = reports.filter(|report| matches!(report.fact, ReportFact::Diagnosis(_))).count();
    let mut active = engine.incidents.values().filter_map(|one| one.active.get(&Class::NetworkIsolation));
    (told, active.next().map(|found| found.detected_at.0 / SECOND))
}

#[test]
fn an_isolation_of_another_reach_is_reported_once_and_holds_since_then() {
    let mut engine = engine();
    let steps =
        [("node", 10, (1, 10)), ("netns", 20, (1, 20)), ("netns", 30, (0, 20)), ("node", 40, (1, 40))];
    for (kind, second, (told, since)) in steps {
        let (subject, diagnosis) = cut_off(second, kind);
        let finding = Finding::Raised { subject, diagnosis: Box::new(diagnosis) };
        engine.take_findings(BootTime(second * SECOND), vec![finding]);
        assert_eq!(known(&mut engine), (told, Some(since)), "{kind} at {second}");
    }
}

#[test]
fn what_is_said_anew_opens_no_incident_that_is_closed() {
    for is_closed in [false, true] {
        let mut engine = engine();
        let (subject, diagnosis) = cut_off(10, "node");
        let id = engine.raised(BootTime(10 * SECOND), subject, diagnosis);
        if is_closed {
            let says = "no rung of the ladder healed it".to_owned();
            engine.close(BootTime(15 * SECOND), id, Outcome::Unchanged, says);
        }
        let (subject, diagnosis) = cut_off(20, "netns");
        let finding = Finding::Restated { subject, diagnosis: Box::new(diagnosis) };
        engine.take_findings(BootTime(20 * SECOND), vec![finding]);
        assert_eq!(known(&mut engine).1, (!is_closed).then_some(20));
    }
}
