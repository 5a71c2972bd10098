//! What a systemd unit has said last, from journald's own files.

use std::path::PathBuf;

#[cfg(feature = "systemd")]
use sdjournal::{Journal, JournalConfig, SdJournalError};

/// Nothing is known of units, either.
#[cfg(not(feature = "systemd"))]
pub(super) fn last(_dirs: &[PathBuf], _unit: &str, _lines: usize) -> Result<Vec<String>, String> {
    Ok(Vec::new())
}

/// A node that keeps years of logs is not searched through.
#[cfg(feature = "systemd")]
const FILES_MAX: usize = 256;
/// Of one message.
#[cfg(feature = "systemd")]
const MESSAGE_MAX: usize = 64 * 1024;

/// Oldest first; empty if there is no journal.
#[cfg(feature = "systemd")]
pub(super) fn last(dirs: &[PathBuf], unit: &str, lines: usize) -> Result<Vec<String>, String> {
    let dirs: Vec<PathBuf> = dirs.iter().filter(|dir| dir.is_dir()).cloned().collect();
    if dirs.is_empty() {
        return Ok(Vec::new());
    }
    let config = JournalConfig {
        max_journal_files: FILES_MAX,
        max_decompressed_bytes: MESSAGE_MAX,
        ..JournalConfig::default()
    };
    match read(&dirs, unit, lines, config) {
        Ok(mut found) => {
            found.reverse();
            Ok(found)
        }
        Err(SdJournalError::NotFound) => Ok(Vec::new()),
        Err(error) => Err(format!("the journal cannot be read: {error}")),
    }
}

#[cfg(feature = "systemd")]
fn read(
    dirs: &[PathBuf],
    unit: &str,
    lines: usize,
    config: JournalConfig,
) -> Result<Vec<String>, SdJournalError> {
    let mut query = Journal::open_dirs_with_config(dirs, config)?.query();
    query.match_unit(unit).seek_tail().reverse(true).limit(lines);
    let mut found = Vec::new();
    for entry in query.iter()? {
        match entry {
            Ok(entry) => {
                found.push(String::from_utf8_lossy(entry.get("MESSAGE").unwrap_or_default()).into_owned());
            }
            Err(error) if found.is_empty() => return Err(error),
            // What came after it is worth more than nothing.
            Err(_) => break,
        }
    }
    Ok(found)
}
