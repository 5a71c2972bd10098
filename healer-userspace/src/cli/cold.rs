//! The same answers without an agent: from the audit in the state directory.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use anyhow::Context as _;

use crate::report::{incidents::Book, record::Record};

/// # Errors
/// There is no audit, or it cannot be read.
pub fn book(state_dir: &Path) -> anyhow::Result<Book> {
    let path = state_dir.join("audit.jsonl");
    let tried = || format!("read {} (no agent is running there)", path.display());
    let file = File::open(&path).with_context(tried)?;
    let mut records = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line.with_context(tried)?;
        // A torn last line is what a crash leaves; `healer audit verify` speaks about it.
        if let Ok(record) = serde_json::from_slice::<Record>(&line) {
            records.push(record);
        }
    }
    Ok(Book::from_history(&records))
}
