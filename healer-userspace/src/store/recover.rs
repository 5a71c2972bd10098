//! Opening: what an earlier run left, brought to this boot.

use core::time::Duration;
use std::sync::Arc;

use super::{
    RESERVED, Store, StoreError,
    dir::StateDir,
    journal::Journal,
    lock::Lock,
    row::{ActRow, IntentRow, LeaseRow, Stamp},
    table::{Change, Remembered},
};
use crate::{
    engine::{
        command::{ActionKey, ActionOutcome, ActionResult, JournalEntry, Recovered},
        lease::Lease,
        report::{Closed, Outcome, Report, ReportFact},
    },
    report::audit::{Audit, Limits, Note, Told, head},
};

/// Never fails: what cannot be opened now is tried again at the next write.
pub(super) fn open(dir: &Arc<StateDir>, lock: Lock, limits: Limits, now: &Stamp) -> (Store, Recovered) {
    let mut troubles = Vec::new();
    let mut notes = Vec::new();
    let (mut journal, mut remembered) = open_journal(dir, &mut notes, &mut troubles);
    let mut never_begun = Vec::new();
    let side = head::read(dir).ok().flatten();
    let known = head::later(remembered.meta.audit_head.clone(), side);
    let (audit, last_incident) = match Audit::open(dir, limits, known.clone()) {
        Ok((audit, found)) => {
            notes.extend(found.notes);
            let since = remembered.meta.audit_head.as_ref().map_or(0, |head| head.seq);
            let told: Vec<Told> = found.told.into_iter().filter(|told| since < told.seq).collect();
            if journal.is_open() {
                never_begun = without_a_row(&told, &remembered);
            }
            if let Err(error) = catch_up(&mut journal, &mut remembered, &told, now) {
                troubles.push(error.to_string());
            }
            (audit, found.last_incident)
        }
        Err(error) => {
            troubles.push(error.to_string());
            (Audit::closed(dir, limits, known), 0)
        }
    };
    let meta = remembered.meta.clone();
    let Sorted { recovered, foreign, dropped } = sort_out(remembered, last_incident, now);
    let mut store = Store {
        boot_id: now.boot_id.clone(),
        is_unread: !journal.is_open(),
        journal,
        audit,
        meta,
        next_incident: recovered.next_incident,
        behind: None,
        notes: notes.iter().map(|note| note.says.clone()).collect(),
        _lock: lock,
    };
    expect_results(&mut store, &recovered, &foreign);
    if let Err(error) = settle(&mut store, &notes, &foreign, &never_begun, &dropped, now) {
        troubles.push(error.to_string());
    }
    store.behind = (!troubles.is_empty()).then(|| troubles.join("; "));
    (store, recovered)
}

/// The journal could not be read at start: what it remembers is told before anything is written to it.
pub(super) fn late(store: &mut Store, now: &Stamp) -> Result<Option<Recovered>, StoreError> {
    if !store.is_unread {
        return Ok(None);
    }
    let remembered = store.journal.remembered()?;
    let Sorted { recovered, foreign, dropped } = sort_out(remembered, 0, now);
    store.next_incident = store.next_incident.max(recovered.next_incident);
    expect_results(store, &recovered, &foreign);
    settle(store, &[], &foreign, &[], &dropped, now)?;
    store.is_unread = false;
    Ok(Some(recovered))
}

/// What the journal remembers, as this boot can use it.
struct Sorted {
    recovered: Recovered,
    foreign: Vec<IntentRow>,
    /// Keys of rows that nobody can use.
    dropped: Vec<String>,
}

fn sort_out(remembered: Remembered, last_incident: u64, now: &Stamp) -> Sorted {
    let (open, foreign) = split_by_boot(remembered.intents, now);
    let (leases, gone): (Vec<_>, Vec<_>) = remembered
        .leases
        .into_iter()
        .partition(|row| row.boot_id == now.boot_id || row.lease.outlives_a_boot());
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
        leases: leases.into_iter().map(|row| left_of(row, now)).collect(),
    };
    // Control groups and processes of another boot are gone, and what was turned on them with them.
    let mut dropped = remembered.unreadable;
    dropped.extend(gone.into_iter().map(|row| row.lease.key.0));
    Sorted { recovered, foreign, dropped }
}

fn left_of(row: LeaseRow, now: &Stamp) -> Lease {
    if row.boot_id == now.boot_id { row.lease } else { row.lease.after_a_boot() }
}

fn expect_results(store: &mut Store, recovered: &Recovered, foreign: &[IntentRow]) {
    let foreign_open = foreign.iter().filter(|row| !row.verifying).map(|row| &row.intent);
    for intent in recovered.open.iter().chain(foreign_open) {
        store.audit.expect_result(intent);
    }
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
            if 0 < remembered.unreadable_leases {
                notes.push(Note {
                    event: "journal_leases_unreadable",
                    says: format!(
                        "{} leases cannot be read by this version and stay as they are: `healer undo` of the version that took them gives them back",
                        remembered.unreadable_leases
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

/// The audit is written before the journal: healer may have died between the two. A result that is in the one alone
/// goes into the other, else its act would get a second one.
fn catch_up(
    journal: &mut Journal,
    remembered: &mut Remembered,
    told: &[Told],
    now: &Stamp,
) -> Result<(), StoreError> {
    let is_open = |key: &ActionKey| remembered.intents.iter().any(|row| row.key() == key && !row.verifying);
    let results = told.iter().filter(|told| is_open(&told.key)).filter_map(|told| {
        let outcome = told.outcome()?;
        Some(JournalEntry::Result(ActionResult { key: told.key.clone(), outcome }))
    });
    let entries: Vec<JournalEntry> = results.collect();
    if entries.is_empty() {
        return Ok(());
    }
    let change = Change { entries: &entries, dropped: &[] };
    journal.write(&change, &remembered.meta, now)?;
    *remembered = journal.remembered()?;
    Ok(())
}

/// Intents that the audit tells of and the journal never had: they were not on disk, so nothing was begun.
fn without_a_row(told: &[Told], remembered: &Remembered) -> Vec<Told> {
    let has_result =
        |key: &ActionKey| told.iter().any(|other| other.key == *key && other.outcome().is_some());
    let has_row = |key: &ActionKey| remembered.intents.iter().any(|row| row.key() == key);
    let is_lost = |told: &&Told| told.outcome().is_none() && !has_row(&told.key) && !has_result(&told.key);
    told.iter().filter(is_lost).cloned().collect()
}

fn closed_as_never_begun(told: &Told, now: &Stamp) -> Report {
    let reason = "healer ended before the intent was on disk: nothing was done".to_owned();
    let result = ActionResult { key: told.key.clone(), outcome: ActionOutcome::Refused { reason } };
    Report {
        at: now.moment.boot,
        incident: told.incident(),
        workload: told.workload.clone(),
        fact: ReportFact::Result(result),
    }
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
    never_begun: &[Told],
    unreadable: &[String],
    now: &Stamp,
) -> Result<(), StoreError> {
    let mut reports: Vec<Report> = notes.iter().map(|note| agent_record(note, now)).collect();
    reports.extend(foreign.iter().map(|row| closed_as_unknown(row, now)));
    reports.extend(never_begun.iter().map(|told| closed_as_never_begun(told, now)));
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
