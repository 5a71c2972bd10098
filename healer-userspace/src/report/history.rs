//! The audit read back: what `incidents` and `why` know from a state directory that no agent holds.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader},
    path::Path,
};

use serde_json::Value;

use super::audit::rotated;
use crate::store::{StoreError, dir::StateDir};

/// One record. Its chain is not checked here: that is `healer audit verify`.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditLine {
    pub seq: u64,
    /// RFC 3339, wall clock.
    pub time: String,
    /// 42 for `"i42"`; None for records about the agent itself.
    pub incident: Option<u64>,
    /// `diagnosis`, `plan`, `gate`, `intent`, `result`, `verification`, `score`, `notify`, `closed`, `agent`.
    pub record: String,
    /// The whole line.
    pub value: Value,
}

/// All records of a state directory, oldest first, through all rotated files. Lines that make no sense are left out.
///
/// # Errors
/// The directory cannot be opened or is not ours; I/O.
pub fn load(dir: &Path) -> Result<Vec<AuditLine>, StoreError> {
    let mut lines = Vec::new();
    for_each(dir, |line| lines.push(line))?;
    Ok(lines)
}

/// As `load`, one at a time: five full files are 80 MiB.
///
/// # Errors
/// As `load`.
pub fn for_each(dir: &Path, visit: impl FnMut(AuditLine)) -> Result<(), StoreError> {
    for_each_of(dir, &[], visit)
}

/// As `for_each`, but only records of these kinds (all if none is named): the others are not even parsed.
///
/// # Errors
/// As `load`.
pub fn for_each_of(dir: &Path, records: &[&str], mut visit: impl FnMut(AuditLine)) -> Result<(), StoreError> {
    let marks: Vec<String> = records.iter().map(|record| format!("\"record\":\"{record}\"")).collect();
    let state = StateDir::open(dir)?;
    let names = (1..).map(rotated);
    let present = names.take_while(|name| state.inode(name).is_some());
    let mut names: Vec<String> = present.collect();
    names.reverse();
    names.push(rotated(0));
    for name in names {
        read_file(&state, &name, &marks, &mut visit)
            .map_err(|error| StoreError::io("read", &dir.join(&name), error))?;
    }
    Ok(())
}

/// Grouped by incident, in order of their numbers.
pub fn by_incident(lines: Vec<AuditLine>) -> BTreeMap<u64, Vec<AuditLine>> {
    let mut groups: BTreeMap<u64, Vec<AuditLine>> = BTreeMap::new();
    for line in lines {
        if let Some(incident) = line.incident {
            groups.entry(incident).or_default().push(line);
        }
    }
    groups
}

fn read_file(
    state: &StateDir,
    name: &str,
    marks: &[String],
    visit: &mut impl FnMut(AuditLine),
) -> io::Result<()> {
    let Some(file) = state.existing(name)? else {
        return Ok(());
    };
    let mut file = BufReader::new(file);
    let mut bytes = Vec::new();
    while file.read_until(b'\n', &mut bytes)? > 0 {
        if is_marked(&bytes, marks)
            && let Some(line) = parse(&bytes)
        {
            visit(line);
        }
        bytes.clear();
    }
    Ok(())
}

/// Text of a process cannot imitate a mark: its quotes are escaped.
fn is_marked(bytes: &[u8], marks: &[String]) -> bool {
    let Ok(line) = str::from_utf8(bytes) else { return false };
    marks.is_empty() || marks.iter().any(|mark| line.contains(mark.as_str()))
}

fn parse(bytes: &[u8]) -> Option<AuditLine> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    Some(AuditLine {
        seq: value.get("seq")?.as_u64()?,
        time: text("time")?,
        incident: text("incident").and_then(|id| id.strip_prefix('i')?.parse().ok()),
        record: text("record")?,
        value,
    })
}
