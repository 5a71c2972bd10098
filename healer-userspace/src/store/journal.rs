//! The durable half of the store: open intents, confirmed acts and counters in one redb file.
//!
//! It holds state, not history (that is the audit): an intent is a row until its result comes, an act whose effect is
//! confirmed is a small row for a day. So the file stays small however long healer runs.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use redb::{Builder, Database, DatabaseError, ReadOnlyDatabase, StorageError, backends::FileBackend};

use super::{
    StoreError,
    dir::{Access, StateDir},
    row::{LeaseRow, Meta, Stamp},
    table::{self, Change, Remembered, Tried},
};

pub const NAME: &str = "journal.redb";

/// The default of redb is 1 GiB; the whole agent has 15 MB.
const CACHE_BYTES: usize = 1 << 20;
const COMPACT_ABOVE: u64 = 8 << 20;
const WRITES_BETWEEN_PRUNES: u32 = 256;
const CORRUPT_KEPT: u32 = 8;

pub struct Journal {
    dir: Arc<StateDir>,
    /// None after a failure: redb refuses everything after the first I/O error, so it is opened anew.
    db: Option<Database>,
    writes: u32,
}

impl Journal {
    /// Opens or creates the journal. A corrupt one is moved aside and a fresh one begun: the second value says so.
    ///
    /// # Errors
    /// I/O only.
    pub fn open(dir: &Arc<StateDir>) -> Result<(Self, Option<String>), StoreError> {
        let mut journal = Self::closed(dir);
        let note = journal.reopen()?;
        Ok((journal, note))
    }

    /// A journal that could not be opened yet: the next write tries again.
    pub fn closed(dir: &Arc<StateDir>) -> Self {
        Self { dir: Arc::clone(dir), db: None, writes: 0 }
    }

    pub fn is_open(&self) -> bool {
        self.db.is_some()
    }

    /// # Errors
    /// I/O, or a page that went bad after it was opened.
    pub fn remembered(&mut self) -> Result<Remembered, StoreError> {
        self.guarded("read", table::read_all)
    }

    /// One transaction, on disk when this returns (`Durability::Immediate`, fsync(2)).
    ///
    /// # Errors
    /// As the disk has it. The next write opens the file again.
    pub fn write(&mut self, change: &Change<'_>, meta: &Meta, stamp: &Stamp) -> Result<(), StoreError> {
        let prune = self.writes.is_multiple_of(WRITES_BETWEEN_PRUNES);
        self.guarded("write", |db| table::write_all(db, change, meta, stamp, prune))?;
        self.writes = self.writes.wrapping_add(1);
        Ok(())
    }

    /// Opens the file if it is not open. The note says what was moved aside.
    ///
    /// # Errors
    /// I/O only.
    pub fn reopen(&mut self) -> Result<Option<String>, StoreError> {
        if self.db.is_some() {
            return Ok(None);
        }
        let note = match self.try_open() {
            Ok(db) => {
                self.db = Some(db);
                None
            }
            Err(Refusal::Io(why)) => return Err(self.error("open", why)),
            Err(Refusal::Corrupt(why)) => {
                let aside = self.set_aside()?;
                let db = self.try_open().map_err(|refusal| self.error("create", refusal.words()))?;
                self.db = Some(db);
                Some(format!(
                    "{NAME} was corrupt ({why}): moved to {aside}, a fresh one begun; budgets and open intents are forgotten"
                ))
            }
        };
        self.compact_if_large();
        Ok(note)
    }

    fn try_open(&self) -> Result<Database, Refusal> {
        // A reader (`healer audit verify`) holds redb's own lock for some milliseconds.
        for _ in 0..40 {
            match self.open_once() {
                Err(Refusal::Io(why)) if why == READER => {
                    std::thread::sleep(Duration::from_millis(25));
                }
                other => return other,
            }
        }
        Err(Refusal::Io("another process reads it".into()))
    }

    fn open_once(&self) -> Result<Database, Refusal> {
        let file = self.dir.file(NAME, Access::ReadWrite).map_err(|error| Refusal::Io(error.to_string()))?;
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let backend = FileBackend::new(file)?;
            Builder::new()
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(true)
                .create_with_backend(backend)
        }));
        match opened {
            Ok(Ok(db)) => Ok(db),
            Ok(Err(error)) => Err(refusal(&error)),
            Err(_panic) => Err(Refusal::Corrupt("redb gave up on it".into())),
        }
    }

    fn set_aside(&self) -> Result<String, StoreError> {
        let free = |n: &u32| self.dir.inode(&aside_name(*n)).is_none();
        let aside = aside_name((1..CORRUPT_KEPT).find(free).unwrap_or(CORRUPT_KEPT));
        let failed = |error: std::io::Error| self.error("move aside", error.to_string());
        self.dir.rename(NAME, &aside).map_err(failed)?;
        self.dir.sync().map_err(failed)?;
        Ok(aside)
    }

    fn compact_if_large(&mut self) {
        let Some(db) = self.db.as_mut() else { return };
        let length = self
            .dir
            .existing(NAME)
            .ok()
            .flatten()
            .and_then(|file| file.metadata().ok())
            .map_or(0, |metadata| metadata.len());
        if length <= COMPACT_ABOVE {
            return;
        }
        if let Err(error) = db.compact() {
            tracing::warn!("compact {NAME}, {length} bytes: {error}");
        }
    }

    /// redb panics on some damage that is found late; that must not end the store's thread.
    fn guarded<T>(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&Database) -> Tried<T>,
    ) -> Result<T, StoreError> {
        if let Some(note) = self.reopen()? {
            tracing::error!("{note}");
        }
        let Some(db) = self.db.as_ref() else {
            return Err(self.error(what, "it is not open".into()));
        };
        let why = match catch_unwind(AssertUnwindSafe(|| work(db))) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error.to_string(),
            Err(_panic) => "redb gave up on it".into(),
        };
        self.db = None;
        Err(self.error(what, why))
    }

    fn error(&self, what: &'static str, why: String) -> StoreError {
        StoreError::Journal { what, path: self.dir.path().join(NAME), why }
    }
}

enum Refusal {
    Io(String),
    Corrupt(String),
}

const READER: &str = "open elsewhere";

impl Refusal {
    fn words(self) -> String {
        match self {
            Self::Io(why) | Self::Corrupt(why) => why,
        }
    }
}

fn refusal(error: &DatabaseError) -> Refusal {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
        return Refusal::Io(READER.into());
    }
    if let DatabaseError::Storage(StorageError::Io(io)) = error
        && !matches!(io.kind(), InvalidData | UnexpectedEof)
    {
        return Refusal::Io(io.to_string());
    }
    Refusal::Corrupt(error.to_string())
}

fn aside_name(n: u32) -> String {
    format!("{NAME}.corrupt-{n}")
}

/// The audit's head as the journal has it, without writing to the file.
///
/// # Errors
/// In words: open elsewhere (the agent runs), or in need of a repair that only the agent does.
pub fn peek(dir: &StateDir) -> Result<Option<Meta>, String> {
    read_only(dir, table::read_meta).map(Option::flatten)
}

/// What is lent, as the journal has it.
///
/// # Errors
/// As of [`peek`].
pub fn peek_leases(dir: &StateDir) -> Result<Vec<LeaseRow>, String> {
    read_only(dir, table::read_leases).map(Option::unwrap_or_default)
}

/// None: there is no journal.
fn read_only<T>(
    dir: &StateDir,
    look: impl FnOnce(&ReadOnlyDatabase) -> Tried<T>,
) -> Result<Option<T>, String> {
    let Some(file) = dir.existing(NAME).map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let read = catch_unwind(AssertUnwindSafe(|| -> Tried<T> {
        let db = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .open_read_only_with_backend(FileBackend::new(file)?)?;
        look(&db)
    }));
    match read {
        Ok(Ok(found)) => Ok(Some(found)),
        Ok(Err(redb::Error::DatabaseAlreadyOpen)) => Err("the agent has it open".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_panic) => Err("it is corrupt".into()),
    }
}
