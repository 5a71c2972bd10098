//! The same answers without an agent: from the audit in the state directory.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use crate::report::{history, incidents::Book};

/// # Errors
/// There is no audit, or it cannot be read.
pub fn book(state_dir: &Path) -> anyhow::Result<Book> {
    let tried = || format!("read the audit in {} (no agent is running there)", state_dir.display());
    let lines = history::load(state_dir).with_context(tried)?;
    let records: Vec<_> = lines
        .into_iter()
        .filter_map(|line| match line.value {
            Value::Object(record) => Some(record),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
        })
        .collect();
    Ok(Book::from_history(&records))
}
