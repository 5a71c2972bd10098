//! What must outlive a crash: intents and confirmed acts (the journal) and the audit, behind one lock.
//!
//! Order on disk: audit records and the journal's rows of one batch are both synced before any of its intents is
//! answered; `audit.head` follows. A file that cannot be written stops acts and never sensing.

pub mod captures;
pub mod dir;
pub mod journal;
pub mod lock;
pub mod row;
pub mod worker;

mod recover;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
pub(crate) mod scratch;
mod table;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::{
    dir::StateDir,
    journal::Journal,
    lock::Lock,
    row::{Meta, Moment, Stamp},
    table::Change,
};
use crate::{
    engine::{
        command::{ActionKey, IncidentId, JournalEntry, Recovered},
        report::Report,
    },
    report::audit::{
        Audit, Limits,
        head::{Head, Publish},
    },
};

/// Incident numbers are promised to the disk this many ahead, so that not each new one costs a sync.
const RESERVED: u64 = 64;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("refused to use state directory {}: {why}", path.display())]
    Directory { path: PathBuf, why: String },
    #[error(
        "another healer ({}) works on state directory {}: stop it, or give this one its own --state-dir",
        holder(*pid), path.display()
    )]
    Held { path: PathBuf, pid: Option<u32> },
    #[error("{what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{what} journal {}: {why}", path.display())]
    Journal { what: &'static str, path: PathBuf, why: String },
}

impl StoreError {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), source }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "pid unknown".to_owned(), |pid| format!("pid {pid}"))
}

/// The clocks and the boot at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockFacts {
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: String,
    /// `CLOCK_BOOTTIME`
    pub now_boot: crate::engine::time::BootTime,
    /// `CLOCK_REALTIME`
    pub now_wall: jiff::Timestamp,
}

/// A piece of work for the store, in the order it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    Journal(Box<JournalEntry>),
    Audit(Box<Report>),
}

impl From<JournalEntry> for Work {
    fn from(entry: JournalEntry) -> Self {
        Self::Journal(Box::new(entry))
    }
}

impl From<Report> for Work {
    fn from(report: Report) -> Self {
        Self::Audit(Box::new(report))
    }
}

/// Journal and audit of one state directory, for one healer.
pub struct Store {
    boot_id: String,
    journal: Journal,
    /// What it remembers was not told yet.
    is_unread: bool,
    audit: Audit,
    meta: Meta,
    /// Greater than any incident number seen.
    next_incident: u64,
    /// Why the disk does not have all that it should.
    behind: Option<String>,
    notes: Vec<String>,
    _lock: Lock,
}

impl Store {
    /// Locks and opens a state directory, creating it if need be, and tells what an earlier run left.
    ///
    /// A disk that cannot be written now is no error: the store opens, every commit fails with words, and it recovers
    /// when the disk does.
    ///
    /// # Errors
    /// `Held` by another healer; a directory that is not safe to use; no lock file can be made.
    pub fn open(dir: &Path, facts: ClockFacts) -> Result<(Self, Recovered), StoreError> {
        Self::open_with(dir, facts, Limits::default())
    }

    /// As `open`, with other limits for the audit.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_with(dir: &Path, facts: ClockFacts, limits: Limits) -> Result<(Self, Recovered), StoreError> {
        let dir = Arc::new(StateDir::create(dir)?);
        let lock = Lock::take(&dir)?;
        let stamp =
            Stamp { boot_id: facts.boot_id, moment: Moment { boot: facts.now_boot, wall: facts.now_wall } };
        Ok(recover::open(&dir, lock, limits, &stamp))
    }

    /// What was found wrong at start and what was done about it; for log and status. It is in the audit already.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Writes one entry, on disk when this returns.
    ///
    /// # Errors
    /// As the disk has it. The store stays usable.
    pub fn commit(&mut self, entry: JournalEntry, now: Moment) -> Result<(), StoreError> {
        self.write(&mut vec![entry.into()], &[], now)
    }

    /// Appends one record to the audit and returns its number. It survives healer's death at once, a power cut after
    /// `sync`.
    ///
    /// # Errors
    /// As the disk has it.
    pub fn append(&mut self, report: Report, now: Moment) -> Result<u64, StoreError> {
        self.write(&mut vec![report.into()], &[], now)?;
        Ok(self.head().seq)
    }

    /// Writes a batch and empties it. If it holds a journal entry, or incident numbers run beyond what the disk was
    /// promised, all of it is durable on return; else the audit's records are merely written.
    /// `dropped` are intents that must not be in the journal: their commit failed half-way.
    ///
    /// # Errors
    /// As the disk has it. `batch` keeps what is not written. Records may then be in the audit whose entries are not
    /// in the journal, never the reverse.
    pub fn write(
        &mut self,
        batch: &mut Vec<Work>,
        dropped: &[ActionKey],
        now: Moment,
    ) -> Result<(), StoreError> {
        let entries = self.write_audit(batch, now)?;
        let runs_out = self.next_incident + RESERVED / 2 > self.meta.next_incident;
        if !entries.is_empty() || !dropped.is_empty() || runs_out {
            let change = Change { entries: &entries, dropped };
            self.checkpoint(&change, self.next_incident + RESERVED, now)?;
        }
        batch.clear();
        Ok(())
    }

    /// Appends the batch's records, takes them out of it, and returns its entries.
    fn write_audit(&mut self, batch: &mut Vec<Work>, now: Moment) -> Result<Vec<JournalEntry>, StoreError> {
        let reports: Vec<&Report> = batch.iter().filter_map(audit_of).collect();
        let entries: Vec<JournalEntry> = batch.iter().filter_map(journal_of).cloned().collect();
        let incidents = reports.iter().filter_map(|report| report.incident);
        let incidents = incidents.chain(entries.iter().filter_map(incident_of));
        for incident in incidents {
            self.next_incident = self.next_incident.max(incident.0 + 1);
        }
        if !reports.is_empty() {
            let stamp = self.stamp(now);
            self.audit.append(&reports, &stamp)?;
            batch.retain(|work| journal_of(work).is_some());
        }
        Ok(entries)
    }

    /// Makes the audit durable and publishes its head; cheap if it already is.
    ///
    /// # Errors
    /// As the disk has it.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if !self.audit.is_unsynced() {
            return Ok(());
        }
        self.audit.sync()?;
        self.audit.publish_head(Publish::Written)
    }

    /// What the journal remembers, once, if it could not be read at start.
    ///
    /// # Errors
    /// As the disk has it.
    pub fn remembered_late(&mut self, now: Moment) -> Result<Option<Recovered>, StoreError> {
        let stamp = self.stamp(now);
        recover::late(self, &stamp)
    }

    /// Whether the disk takes writes: a small synced transaction, and the audit's head.
    ///
    /// # Errors
    /// As the disk has it.
    pub fn probe(&mut self, now: Moment) -> Result<(), StoreError> {
        self.checkpoint(&Change::default(), self.next_incident + RESERVED, now)
    }

    /// The last thing a store does: everything durable, the incident counter exact.
    ///
    /// # Errors
    /// As the disk has it.
    pub fn close(mut self, now: Moment) -> Result<(), StoreError> {
        self.checkpoint(&Change::default(), self.next_incident, now)
    }

    pub fn is_unsynced(&self) -> bool {
        self.audit.is_unsynced()
    }

    /// Last record of the audit.
    pub fn head(&self) -> &Head {
        self.audit.tip()
    }

    /// Why the store could not be written when it was opened.
    pub fn behind(&self) -> Option<&str> {
        self.behind.as_deref()
    }

    fn checkpoint(&mut self, change: &Change<'_>, next_incident: u64, now: Moment) -> Result<(), StoreError> {
        let head = self.audit.sync()?.clone();
        let meta = Meta { next_incident, audit_head: Some(head) };
        self.journal.write(change, &meta, &self.stamp(now))?;
        self.meta = meta;
        self.audit.publish_head(Publish::Written)
    }

    fn stamp(&self, moment: Moment) -> Stamp {
        Stamp { boot_id: self.boot_id.clone(), moment }
    }
}

fn audit_of(work: &Work) -> Option<&Report> {
    match work {
        Work::Audit(report) => Some(report),
        Work::Journal(_) => None,
    }
}

fn journal_of(work: &Work) -> Option<&JournalEntry> {
    match work {
        Work::Journal(entry) => Some(entry),
        Work::Audit(_) => None,
    }
}

fn incident_of(entry: &JournalEntry) -> Option<IncidentId> {
    match entry {
        JournalEntry::Intent(intent) => Some(intent.act.incident),
        JournalEntry::Closed { incident } => Some(*incident),
        JournalEntry::Result(_) | JournalEntry::Verified { .. } | JournalEntry::Undone { .. } => None,
    }
}

fn intent_of(work: &Work) -> Option<&ActionKey> {
    match journal_of(work)? {
        JournalEntry::Intent(intent) => Some(&intent.act.key),
        JournalEntry::Result(_)
        | JournalEntry::Verified { .. }
        | JournalEntry::Closed { .. }
        | JournalEntry::Undone { .. } => None,
    }
}
