//! Where the chain ends, kept outside the chained files: so a cut tail is found, and a file written anew.

use std::io::{self, Read as _, Write as _};

use serde::{Deserialize, Serialize};

use crate::store::dir::{Access, StateDir};

pub const NAME: &str = "audit.head";
const NEW: &str = "audit.head.new";

/// Kept in `audit.head` and in the journal. Never ahead of what is synced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Number of the last record.
    pub seq: u64,
    /// Its hash, 64 lower-case hexadecimal digits.
    pub hash: String,
    /// Number of the oldest record still kept.
    pub first: u64,
}

/// Reads `audit.head`; None if it is not there or makes no sense.
///
/// # Errors
/// I/O, a symlink in its place.
pub fn read(dir: &StateDir) -> io::Result<Option<Head>> {
    let Some(file) = dir.existing(NAME)? else {
        return Ok(None);
    };
    let mut text = Vec::new();
    file.take(4096).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text).ok())
}

/// How sure the copy in `audit.head` must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// Survives healer's death; after a power cut the journal's copy is the newer one.
    Written,
    /// Survives a power cut once the directory is synced.
    Synced,
}

/// Replaces `audit.head` by rename, so that a reader sees the old one or the new one.
///
/// # Errors
/// I/O.
pub fn write(dir: &StateDir, head: &Head, publish: Publish) -> io::Result<()> {
    let mut line = serde_json::to_vec(head)?;
    line.push(b'\n');
    let mut file = dir.file(NEW, Access::Replace)?;
    file.write_all(&line)?;
    match publish {
        Publish::Written => {}
        Publish::Synced => file.sync_data()?,
    }
    dir.rename(NEW, NAME)
}

/// Of two copies, the one that knows more.
pub fn later(one: Option<Head>, other: Option<Head>) -> Option<Head> {
    [one, other].into_iter().flatten().max_by_key(|head| head.seq)
}
