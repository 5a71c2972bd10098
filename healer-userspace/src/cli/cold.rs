//! The same answers without an agent: from the audit in the state directory.

use std::path::Path;

use serde_json::Value;

use crate::{
    report::{book::Book, history, incidents::Incident},
    store::StoreError,
};

/// What the audit tells, through all rotated files. Nobody goes on with what it left open.
///
/// # Errors
/// The state directory cannot be opened or read.
pub fn book(state_dir: &Path) -> Result<Book, StoreError> {
    let mut book = Book::default();
    history::for_each(state_dir, |line| {
        if let Value::Object(record) = &line.value {
            book.add(record);
        }
    })?;
    book.interrupt_open();
    Ok(book)
}

/// What a running agent tells, and before it what only the audit still knows; newest first.
/// An incident that an earlier agent began is told as the audit has it. An audit that cannot be read adds nothing.
pub fn with_older(
    state_dir: &Path,
    told: Vec<Incident>,
    of_audit: impl FnOnce(&Book) -> Vec<Incident>,
) -> Vec<Incident> {
    let Ok(book) = book(state_dir) else {
        return told;
    };
    let begun_before = |incident: &Incident| incident.class.is_empty();
    let mut all: Vec<Incident> = told
        .into_iter()
        .map(|incident| match book.get(&incident.id) {
            Some(kept) if begun_before(&incident) => {
                Incident { open: incident.open, outcome: incident.outcome, ..kept }
            }
            Some(_) | None => incident,
        })
        .collect();
    let older: Vec<_> =
        of_audit(&book).into_iter().filter(|old| all.iter().all(|new| new.id != old.id)).collect();
    all.extend(older);
    all
}
