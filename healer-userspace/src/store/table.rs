//! The journal's tables and what one transaction does to them.

use redb::{
    Database, Durability, ReadOnlyDatabase, ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _,
    Table, TableDefinition,
};

use super::row::{ActRow, IntentRow, LeaseRow, Meta, Stamp, is_success};
use crate::engine::{
    command::{ActionKey, ActionOutcome, JournalEntry},
    lease::Lease,
};

const INTENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("intents");
const ACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("acts");
/// What is lent, by the key of the act that took it.
const LEASES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("leases");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const META_KEY: &str = "meta";

const ACTS_KEPT: u64 = 10_000;

pub(super) type Tried<T> = Result<T, redb::Error>;

/// All that the journal remembers.
#[derive(Debug, Default)]
pub struct Remembered {
    pub meta: Meta,
    pub intents: Vec<IntentRow>,
    pub acts: Vec<ActRow>,
    pub leases: Vec<LeaseRow>,
    /// Rows that this version cannot read.
    pub unreadable: Vec<String>,
    /// What they lent is lent still: they are kept.
    pub unreadable_leases: usize,
}

/// What becomes of the journal with one synced transaction.
#[derive(Default)]
pub struct Change<'a> {
    pub entries: &'a [JournalEntry],
    /// Intents to forget although no result came.
    pub dropped: &'a [ActionKey],
}

pub(super) fn read_meta(db: &ReadOnlyDatabase) -> Tried<Option<Meta>> {
    let transaction = db.begin_read()?;
    let table = transaction.open_table(META)?;
    let meta = table.get(META_KEY)?.map(|value| parse(value.value()));
    Ok(meta.flatten())
}

pub(super) fn read_leases(db: &ReadOnlyDatabase) -> Tried<Vec<LeaseRow>> {
    let transaction = db.begin_read()?;
    let table = transaction.open_table(LEASES)?;
    rows(&table, &mut Vec::new())
}

pub(super) fn read_all(db: &Database) -> Tried<Remembered> {
    let mut all = Remembered::default();
    let transaction = db.begin_write()?; // makes the tables if the file is new
    {
        let meta = transaction.open_table(META)?;
        if let Some(value) = meta.get(META_KEY)? {
            all.meta = parse(value.value()).unwrap_or_default();
        }
        let intents = transaction.open_table(INTENTS)?;
        all.intents = rows(&intents, &mut all.unreadable)?;
        let acts = transaction.open_table(ACTS)?;
        all.acts = rows(&acts, &mut all.unreadable)?;
        let leases = transaction.open_table(LEASES)?;
        let mut unreadable = Vec::new();
        all.leases = rows(&leases, &mut unreadable)?;
        all.unreadable_leases = unreadable.len();
    }
    transaction.commit()?;
    Ok(all)
}

fn rows<T: serde::de::DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    unreadable: &mut Vec<String>,
) -> Tried<Vec<T>> {
    let mut rows = Vec::new();
    for pair in table.iter()? {
        let (key, value) = pair?;
        match parse(value.value()) {
            Some(row) => rows.push(row),
            None => unreadable.push(key.value().to_owned()),
        }
    }
    Ok(rows)
}

pub(super) fn write_all(
    db: &Database,
    change: &Change<'_>,
    meta: &Meta,
    stamp: &Stamp,
    prune: bool,
) -> Tried<()> {
    let mut transaction = db.begin_write()?;
    set_immediate(&mut transaction)?;
    {
        let mut intents = transaction.open_table(INTENTS)?;
        let mut acts = transaction.open_table(ACTS)?;
        let mut leases = transaction.open_table(LEASES)?;
        for entry in change.entries {
            apply(&mut intents, &mut acts, entry, stamp)?;
            lend(&mut leases, entry, stamp)?;
        }
        for key in change.dropped {
            intents.remove(key.0.as_str())?;
            leases.remove(key.0.as_str())?;
        }
        if prune {
            prune_acts(&mut acts, stamp)?;
        }
        let mut table = transaction.open_table(META)?;
        table.insert(META_KEY, bytes(meta).as_slice())?;
    }
    transaction.commit()?;
    Ok(())
}

fn set_immediate(transaction: &mut redb::WriteTransaction) -> Tried<()> {
    transaction
        .set_durability(Durability::Immediate)
        .map_err(|error| redb::Error::Io(std::io::Error::other(error.to_string())))
}

type Rows<'t> = Table<'t, &'static str, &'static [u8]>;

fn apply(intents: &mut Rows<'_>, acts: &mut Rows<'_>, entry: &JournalEntry, stamp: &Stamp) -> Tried<()> {
    match entry {
        JournalEntry::Intent(intent) => {
            let row = IntentRow::new(intent.clone(), stamp);
            intents.insert(intent.act.key.0.as_str(), bytes(&row).as_slice())?;
        }
        JournalEntry::Result(result) => {
            let key = result.key.0.as_str();
            let row: Option<IntentRow> = intents.remove(key)?.and_then(|row| parse(row.value()));
            let counts = match &result.outcome {
                // Unknown: it may have happened, and the careful side counts it.
                ActionOutcome::Done { .. }
                | ActionOutcome::WouldDo { .. }
                | ActionOutcome::Unknown { .. } => true,
                ActionOutcome::Refused { .. } | ActionOutcome::Failed { .. } => false,
            };
            if let Some(row) = row.filter(|_| counts) {
                acts.insert(key, bytes(&ActRow::new(&row.intent, stamp)).as_slice())?;
                if row.intent.act.is_verified_after(&result.outcome) {
                    let row = IntentRow { verifying: true, ..row };
                    intents.insert(key, bytes(&row).as_slice())?;
                }
            }
        }
        JournalEntry::Verified { key, outcome, .. } => {
            intents.remove(key.0.as_str())?;
            let known: Option<ActRow> = acts.get(key.0.as_str())?.and_then(|row| parse(row.value()));
            if let Some(row) = known {
                let row = ActRow { healed: Some(is_success(row.mode, outcome)), ..row };
                acts.insert(key.0.as_str(), bytes(&row).as_slice())?;
            }
        }
        JournalEntry::Closed { incident } => {
            // Whoever closes it has no more to verify. Open intents may have begun, and get their result.
            let is_watched = |row: &IntentRow| row.verifying && row.intent.act.incident == *incident;
            intents.retain(|_, row| !parse(row).as_ref().is_some_and(is_watched))?;
        }
        // Of its own table.
        JournalEntry::Undone { .. } => {}
    }
    Ok(())
}

/// The undo is on disk with the intent: before the act.
fn lend(leases: &mut Rows<'_>, entry: &JournalEntry, stamp: &Stamp) -> Tried<()> {
    match entry {
        JournalEntry::Intent(intent) => {
            if let Some(lease) = Lease::of(intent) {
                let row = LeaseRow { boot_id: stamp.boot_id.clone(), lease };
                leases.insert(intent.act.key.0.as_str(), bytes(&row).as_slice())?;
            }
        }
        JournalEntry::Undone { key } => {
            leases.remove(key.0.as_str())?;
        }
        JournalEntry::Result(_) | JournalEntry::Verified { .. } | JournalEntry::Closed { .. } => {}
    }
    Ok(())
}

fn prune_acts(acts: &mut Rows<'_>, stamp: &Stamp) -> Tried<()> {
    acts.retain(|_, row| parse::<ActRow>(row).is_some_and(|row| row.is_recent(stamp)))?;
    let excess = acts.len()?.saturating_sub(ACTS_KEPT);
    if excess == 0 {
        return Ok(());
    }
    let mut by_age: Vec<(i64, String)> = Vec::new();
    for pair in acts.iter()? {
        let (key, row) = pair?;
        let wall = parse::<ActRow>(row.value()).map_or(0, |row| row.wall_ns);
        by_age.push((wall, key.value().to_owned()));
    }
    by_age.sort_unstable();
    for (_, key) in by_age.iter().take(usize::try_from(excess).unwrap_or(usize::MAX)) {
        acts.remove(key.as_str())?;
    }
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// Rows are plain structs with string keys, which always have a JSON form.
fn bytes<T: serde::Serialize>(row: &T) -> Vec<u8> {
    serde_json::to_vec(row).unwrap_or_default()
}
