//! The audit: an append-only, hash-chained record of everything healer concluded, meant, did and saw come of it.
//!
//! `audit.jsonl` in the state directory, rotated by size to `audit.jsonl.1` … `.4`; the chain runs on through all of
//! them. How a line is hashed: [`line`]. Where the chain ends: [`head`].

pub mod head;
pub mod line;
mod start;
pub use start::Told;
pub mod verify;
pub(crate) mod view;

use std::{collections::BTreeMap, fs::File, io::Write as _, sync::Arc};

use self::head::{Head, Publish};
use crate::{
    engine::{
        command::{ActionKey, Intent},
        report::{Report, ReportFact},
    },
    report::record::ActName,
    store::{
        StoreError,
        dir::{Access, StateDir},
        row::Stamp,
    },
};

pub const NAME: &str = "audit.jsonl";

/// Results wait for nothing longer than an act's time-out; more open intents than this there are not.
const INTENTS_KEPT: usize = 4096;

/// When to begin a new file, and how many full ones to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_bytes: u64,
    pub keep: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 16 << 20, keep: 4 }
    }
}

/// What was found at start and is worth a record of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// A word, for the agent record's `event`.
    pub event: &'static str,
    pub says: String,
}

pub struct Audit {
    dir: Arc<StateDir>,
    limits: Limits,
    /// None if it could not be opened, or a rotation broke off: the next append opens it.
    file: Option<File>,
    /// Whole lines only: what lies beyond is cut before the next append.
    length: u64,
    /// The last record written; `seq` 0 before the first.
    tip: Head,
    synced: u64,
    doing: BTreeMap<ActionKey, ActName>,
}

impl Audit {
    /// Opens the audit and finds the end of its chain. `known` is the head that the journal or `audit.head` has.
    /// The chain goes on from `known` even if the file says otherwise, so that a cut tail stays visible for ever.
    ///
    /// # Errors
    /// I/O.
    pub fn open(
        dir: &Arc<StateDir>,
        limits: Limits,
        known: Option<Head>,
    ) -> Result<(Self, start::Found), StoreError> {
        let mut audit = Self::closed(dir, limits, known.clone());
        let found = audit.start(known)?;
        Ok((audit, found))
    }

    /// An audit that could not be opened yet: the next append tries again.
    pub fn closed(dir: &Arc<StateDir>, limits: Limits, known: Option<Head>) -> Self {
        let tip = known.unwrap_or_else(genesis);
        Self {
            dir: Arc::clone(dir),
            limits,
            file: None,
            length: 0,
            synced: tip.seq,
            tip,
            doing: BTreeMap::new(),
        }
    }

    fn start(&mut self, known: Option<Head>) -> Result<start::Found, StoreError> {
        let failed = |source| StoreError::io("open", &self.dir.path().join(NAME), source);
        let file = self.dir.file(NAME, Access::Append).map_err(failed)?;
        let found = start::find_end(&self.dir, &file, known).map_err(failed)?;
        self.length = found.length;
        self.tip = found.tip.clone();
        self.synced = 0; // whatever is there, the first sync covers it
        self.file = Some(file);
        Ok(found)
    }

    /// Tells the audit of an intent of an earlier run, so that its result can be named.
    pub fn expect_result(&mut self, intent: &Intent) {
        if self.doing.len() < INTENTS_KEPT {
            self.doing.insert(intent.act.key.clone(), ActName::from(intent));
        }
    }

    /// Appends records in order, all or none. Returns the number of the last.
    /// They survive healer's death at once, a power cut only after `sync`.
    ///
    /// # Errors
    /// I/O; then nothing of them is in the file and the chain is where it was.
    pub fn append(&mut self, reports: &[&Report], stamp: &Stamp) -> Result<u64, StoreError> {
        self.ensure_open()?;
        let mut text = String::new();
        let mut tip = self.tip.clone();
        for report in reports {
            if let ReportFact::Intent(intent) = &report.fact {
                self.expect_result(intent);
            }
            let open =
                self.line(tip.seq + 1, report, stamp).map_err(|error| self.error("write", error.into()))?;
            let (line, hash) = line::seal(&open, &tip.hash);
            text.push_str(&line);
            tip.seq += 1;
            tip.hash = hash;
        }
        self.write(&text)?;
        tip.first = self.tip.first; // a rotation may have moved it
        self.tip = tip;
        for report in reports {
            if let ReportFact::Result(result) = &report.fact {
                self.doing.remove(&result.key);
            }
        }
        Ok(self.tip.seq)
    }

    /// Makes all that was appended durable (fdatasync(2)) and returns the head to keep elsewhere.
    ///
    /// # Errors
    /// I/O.
    pub fn sync(&mut self) -> Result<&Head, StoreError> {
        if let Some(file) = self.file.as_ref().filter(|_| self.is_unsynced()) {
            file.sync_data().map_err(|error| self.error("sync", error))?;
            self.synced = self.tip.seq;
        }
        Ok(&self.tip)
    }

    pub fn is_unsynced(&self) -> bool {
        self.synced != self.tip.seq
    }

    /// The last record's place in the chain.
    pub fn tip(&self) -> &Head {
        &self.tip
    }

    /// The object without its closing brace.
    fn line(&self, seq: u64, report: &Report, stamp: &Stamp) -> serde_json::Result<String> {
        let doing = match &report.fact {
            ReportFact::Result(result) => self.doing.get(&result.key),
            ReportFact::Diagnosis(_)
            | ReportFact::Plan(_)
            | ReportFact::Gate(_)
            | ReportFact::Intent(_)
            | ReportFact::Verification(_)
            | ReportFact::Score { .. }
            | ReportFact::Notify { .. }
            | ReportFact::Closed(_)
            | ReportFact::Undone(_)
            | ReportFact::Agent { .. } => None,
        };
        let json = serde_json::to_string(&view::Line::new(seq, report, doing, stamp))?;
        let mut open = tame(&json);
        open.pop();
        Ok(open)
    }

    fn ensure_open(&mut self) -> Result<(), StoreError> {
        if self.file.is_some() {
            return Ok(());
        }
        let known = (self.tip.seq > 0).then(|| self.tip.clone());
        let found = self.start(known)?;
        for note in found.notes {
            tracing::warn!(event = note.event, "{}", note.says);
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<(), StoreError> {
        let grown = self.length + text.len() as u64;
        if self.length > 0 && grown > self.limits.max_bytes {
            self.rotate()?;
        }
        let Some(file) = self.file.as_mut() else {
            return Ok(());
        };
        let written = file.write_all(text.as_bytes());
        match written {
            Ok(()) => {
                self.length += text.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.cut_to_whole_lines();
                Err(self.error("write", error))
            }
        }
    }

    /// A full disk takes part of a line: cut it, so that the next append begins a line.
    fn cut_to_whole_lines(&mut self) {
        let Some(file) = self.file.take() else { return };
        match file.set_len(self.length) {
            Ok(()) => self.file = Some(file),
            Err(error) => tracing::error!("cut {NAME} back to {} bytes: {error}", self.length),
        }
    }

    fn rotate(&mut self) -> Result<(), StoreError> {
        self.sync()?;
        let keep = self.limits.keep;
        if let Some(first) = start::first_seq(&self.dir, &rotated(keep.saturating_sub(1)))
            && self.dir.inode(&rotated(keep)).is_some()
        {
            self.tip.first = first;
        }
        self.publish_head(Publish::Synced)?;
        self.file = None;
        for n in (1..=keep).rev() {
            let from = rotated(n - 1);
            if self.dir.inode(&from).is_some() {
                let moved = self.dir.rename(&from, &rotated(n));
                moved.map_err(|error| self.error("rotate", error))?;
            }
        }
        let new = self.dir.file(NAME, Access::Append);
        let opened = new.and_then(|file| self.dir.sync().map(|()| file));
        self.file = Some(opened.map_err(|error| self.error("rotate", error))?);
        self.length = 0;
        Ok(())
    }

    /// Writes `audit.head`. Call it when everything up to the tip is synced.
    ///
    /// # Errors
    /// I/O.
    pub fn publish_head(&self, publish: Publish) -> Result<(), StoreError> {
        head::write(&self.dir, &self.tip, publish)
            .map_err(|error| StoreError::io("write", &self.dir.path().join(head::NAME), error))
    }

    fn error(&self, what: &'static str, source: std::io::Error) -> StoreError {
        StoreError::io(what, &self.dir.path().join(NAME), source)
    }
}

/// Name of the file after `n` rotations; 0 is the one being written.
pub fn rotated(n: u32) -> String {
    match n {
        0 => NAME.to_owned(),
        n => format!("{NAME}.{n}"),
    }
}

fn genesis() -> Head {
    Head { seq: 0, hash: line::GENESIS.to_owned(), first: 1 }
}

/// JSON may hold DEL, C1 controls and bidirectional overrides as they are: a terminal must not see them.
fn tame(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '\u{7f}'..='\u{9f}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            plain => out.push(plain),
        }
    }
    out
}

#[cfg(test)]
mod tests;
