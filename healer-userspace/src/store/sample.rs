//! Facts made up for tests.

use jiff::Timestamp;

use super::{ClockFacts, Work, row::Moment};
use crate::{
    engine::{
        class::Class,
        command::{Act, ActionKey, ActionOutcome, ActionResult, IncidentId, Intent, JournalEntry},
        policy::{ActionName, Mode, Rung, Scope, Terms},
        report::{Report, ReportFact},
        time::BootTime,
    },
    identity::process::{Process, WorkloadKey},
};

/// Seconds after boot; the machine was booted at wall second 1,000,000.
pub(crate) fn moment(seconds: u64) -> Moment {
    Moment {
        boot: BootTime(seconds * 1_000_000_000),
        wall: Timestamp::from_second(1_000_000 + i64::try_from(seconds).unwrap()).unwrap(),
    }
}

pub(crate) fn facts(boot_id: &str, seconds: u64) -> ClockFacts {
    ClockFacts { boot_id: boot_id.into(), now_boot: moment(seconds).boot, now_wall: moment(seconds).wall }
}

pub(crate) fn key(name: &str) -> ActionKey {
    ActionKey(name.into())
}

pub(crate) fn intent(name: &str, incident: u64) -> Intent {
    let workload = WorkloadKey::supervise("web");
    let act = Act {
        key: key(name),
        incident: IncidentId(incident),
        class: Class::Down,
        mode: Mode::Enforce,
        rung: Rung {
            action: ActionName::Restart,
            scope: Scope::default(),
            grace: None,
            timeout: None,
            signal: None,
            command: Vec::new(),
            terms: Terms::default(),
        },
        workload: workload.clone(),
        target: Process {
            pid: 42,
            start: BootTime(7),
            comm: "we\u{1b}[31mb\n\u{9b}1m".into(),
            exe: Some("/usr/bin/web".into()),
            workload,
            ..Process::default()
        },
        ignores_signal: false,
        look: Vec::new(),
        turns: Vec::new(),
        incident_json: "{}".into(),
    };
    let (policy, rule) = ("payments".into(), "down".into());
    Intent { act, policy, rule, rung_index: 0, at: moment(5).boot, read_only: Vec::new() }
}

pub(crate) fn meant(name: &str, incident: u64) -> JournalEntry {
    JournalEntry::Intent(intent(name, incident))
}

pub(crate) fn done(name: &str) -> JournalEntry {
    JournalEntry::Result(result(name))
}

pub(crate) fn result(name: &str) -> ActionResult {
    ActionResult { key: key(name), outcome: ActionOutcome::Done { says: "restarted as pid 43".into() } }
}

pub(crate) fn verified(name: &str, outcome: &str) -> JournalEntry {
    JournalEntry::Verified {
        key: key(name),
        workload: WorkloadKey::supervise("web"),
        class: Class::Down,
        outcome: outcome.into(),
    }
}

pub(crate) fn report(incident: u64, fact: ReportFact) -> Report {
    Report {
        at: moment(5).boot,
        incident: Some(IncidentId(incident)),
        workload: Some(WorkloadKey::supervise("web")),
        fact,
    }
}

pub(crate) fn agent(says: &str) -> Report {
    Report {
        at: moment(5).boot,
        incident: None,
        workload: None,
        fact: ReportFact::Agent { event: "test".into(), says: says.into() },
    }
}

/// An intent with its record, as the agent submits them.
pub(crate) fn meant_work(name: &str, incident: u64) -> Vec<Work> {
    let record = report(incident, ReportFact::Intent(intent(name, incident)));
    vec![Work::from(record), Work::from(meant(name, incident))]
}
