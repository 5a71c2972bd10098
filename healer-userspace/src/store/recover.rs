//! Opening: what an earlier run left, brought to this boot.

use core::time::Duration;
use std::sync::Arc;

use super::{
    RESERVED, Store, StoreError,
    dir::StateDir,
    journal::Journal,
    lock::Lock,
    row::{ActRow, IntentRow, Stamp},
    table::{Change, Remembered},
};
use crate::{
    engine::{
        command::{ActionKey, ActionOutcome, ActionResult, Recovered},
        report::{Closed, Outcome, Report, ReportFact},
    },
    report::audit::{Audit, Limits, Note, head},
};

/// Never fails: what cannot be opened now is tried again at the next write.
pub(super) fn open(dir: &Arc<StateDir>, lock: Lock, limits: Limits, now: &Stamp) -> (Store, Recovered) {
    let mut troubles = Vec::new();
    let mut notes = Vec::new();
    let (journal, remembered) = open_journal(dir, &mut notes, &mut troubles);
    let side = head::read(dir).ok().flatten();
    let known = head::later(remembered.meta.audit_head.clone(), side);
    let (audit, last_incident) = match Audit::open(dir, limits, known.clone()) {
        Ok((audit, found)) => {
            notes.extend(found.notes);
            (audit, found.last_incident)
        }
        Err(error) => {
            troubles.push(error.to_string());
            (Audit::closed(dir, limits, known), 0)
        }
    };
    let (open, foreign) = split_by_boot(remembered.intents, now);
    let next_incident = match remembered.meta.next_incident {
        0 if last_incident > 0 => last_incident + 1 + RESERVED, // the journal is lost: leave a gap
        promised => promised.max(last_incident + 1),
    };
    let (verifying, open): (Vec<_>, Vec<_>) = open.into_iter().partition(|row| row.verifying);
    let recovered = Recovered {
        next_incident,
        open: open.into_iter().map(|row| row.intent).collect(),
        verifying: verifying.into_iter().map(|row| row.intent).collect(),
        acts: past_acts(&remembered.acts, now),
    };
    let mut store = Store {
        boot_id: now.boot_id.clone(),
        journal,
        audit,
        meta: remembered.meta,
        next_incident,
        behind: None,
        notes: notes.iter().map(|note| note.says.clone()).collect(),
        _lock: lock,
    };
    let foreign_open = foreign.iter().filter(|row| !row.verifying).map(|row| &row.intent);
    for intent in recovered.open.iter().chain(foreign_open) {
        store.audit.expect_result(intent);
    }
    if let Err(error) = settle(&mut store, &notes, &foreign, &remembered.unreadable, now) {
        troubles.push(error.to_string());
    }
    store.behind = (!troubles.is_empty()).then(|| troubles.join("; "));
    (store, recovered)
}

fn open_journal(
    dir: &Arc<StateDir>,
    notes: &mut Vec<Note>,
    troubles: &mut Vec<String>,
) -> (Journal, Remembered) {
    let opened = Journal::open(dir).and_then(|(mut journal, note)| {
        let remembered = journal.remembered()?;
        Ok((journal, note, remembered))
    });
    match opened {
        Ok((journal, note, remembered)) => {
            notes.extend(note.map(|says| Note { event: "journal_corrupt", says }));
            if !remembered.unreadable.is_empty() {
                notes.push(Note {
                    event: "journal_rows_unreadable",
                    says: format!(
                        "{} rows of the journal cannot be read by this version and are forgotten",
                        remembered.unreadable.len()
                    ),
                });
            }
            (journal, remembered)
        }
        Err(error) => {
            troubles.push(error.to_string());
            (Journal::closed(dir), Remembered::default())
        }
    }
}

/// Pids and boot times of another boot name nothing that lives: such intents cannot be reconciled.
fn split_by_boot(intents: Vec<IntentRow>, now: &Stamp) -> (Vec<IntentRow>, Vec<IntentRow>) {
    let (mut open, foreign): (Vec<_>, Vec<_>) =
        intents.into_iter().partition(|row| row.boot_id == now.boot_id);
    open.sort_by_key(|row| row.intent.at);
    (open, foreign)
}

fn past_acts(rows: &[ActRow], now: &Stamp) -> Vec<crate::engine::command::PastAct> {
    let mut recent: Vec<_> = rows.iter().filter(|row| row.is_recent(now)).collect();
    recent.sort_by_key(|row| row.wall_ns);
    let mut acts: Vec<_> = recent.iter().map(|row| row.past_act(now)).collect();
    acts.sort_by_key(|act| act.at);
    acts
}

/// Writes down what was found, and promises incident numbers, before anything new happens.
fn settle(
    store: &mut Store,
    notes: &[Note],
    foreign: &[IntentRow],
    unreadable: &[String],
    now: &Stamp,
) -> Result<(), StoreError> {
    let mut reports: Vec<Report> = notes.iter().map(|note| agent_record(note, now)).collect();
    reports.extend(foreign.iter().map(|row| closed_as_unknown(row, now)));
    if !reports.is_empty() {
        let reports: Vec<&Report> = reports.iter().collect();
        store.audit.append(&reports, now)?;
    }
    let mut dropped: Vec<ActionKey> = foreign.iter().map(|row| row.key().clone()).collect();
    dropped.extend(unreadable.iter().cloned().map(ActionKey));
    let change = Change { entries: &[], dropped: &dropped };
    store.checkpoint(&change, store.next_incident + RESERVED, now.moment)
}

pub(super) fn agent_record(note: &Note, now: &Stamp) -> Report {
    Report {
        at: now.moment.boot,
        incident: None,
        workload: None,
        fact: ReportFact::Agent { event: note.event.to_owned(), says: note.says.clone() },
    }
}

fn closed_as_unknown(row: &IntentRow, now: &Stamp) -> Report {
    let act = &row.intent.act;
    let fact = if row.verifying {
        ReportFact::Closed(Closed {
            outcome: Outcome::Unknown,
            says: "the machine was booted anew before it was verified".to_owned(),
            to_detect: Duration::ZERO,
            to_act: None,
            to_recover: None,
        })
    } else {
        let reason = "the machine was booted anew before its result was known".to_owned();
        let outcome = ActionOutcome::Unknown { reason };
        ReportFact::Result(ActionResult { key: act.key.clone(), outcome })
    };
    let (incident, workload) = (Some(act.incident), Some(act.workload.clone()));
    Report { at: now.moment.boot, incident, workload, fact }
}
