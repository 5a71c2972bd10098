//! Checks a chain that may have been tampered with, while healer runs or not.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
};

use super::{
    head::{self, Head},
    line::{self, GENESIS, Link},
    rotated,
};
use crate::store::dir::StateDir;

/// Files beyond this number are not looked for.
const FILES_AT_MOST: u32 = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Whole,
    Broken(Break),
}

/// The first place where the chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    pub file: String,
    /// From 1; 0 = the file as a whole.
    pub line: u64,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub outcome: Outcome,
    pub files: usize,
    /// Good records, up to the first break.
    pub records: u64,
    pub first: u64,
    pub last: u64,
    pub last_hash: String,
    /// Whether a head was there to compare the end with.
    pub head: Option<Head>,
    /// What is odd but no break.
    pub remarks: Vec<String>,
}

/// All files of a state directory against `audit.head` and, if it was to be had, the journal's copy.
///
/// # Errors
/// I/O; `NotFound` if there is no audit at all.
pub fn directory(dir: &StateDir, journal: Option<&Head>) -> io::Result<Checked> {
    let side = head::read(dir)?; // before the files: they may only be ahead of it
    let files = open_all(dir)?;
    if files.is_empty() && side.is_none() && journal.is_none() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut chain = Chain::new([side, journal.cloned()].into_iter().flatten().collect());
    for (name, file) in files {
        if !chain.file(&name, BufReader::new(file))? {
            break;
        }
    }
    Ok(chain.finish())
}

/// One file by itself: its own chain, no head.
///
/// # Errors
/// I/O.
pub fn single(name: &str, file: impl BufRead) -> io::Result<Checked> {
    let mut chain = Chain::new(Vec::new());
    chain.file(name, file)?;
    Ok(chain.finish())
}

/// Oldest first. Opened again if a rotation happened meanwhile.
fn open_all(dir: &StateDir) -> io::Result<Vec<(String, File)>> {
    let names: Vec<String> = (0..FILES_AT_MOST).rev().map(rotated).collect();
    let inodes = || names.iter().map(|name| dir.inode(name)).collect::<Vec<_>>();
    for _ in 0..10 {
        let before = inodes();
        let mut files = Vec::new();
        for name in &names {
            if let Some(file) = dir.existing(name)? {
                files.push((name.clone(), file));
            }
        }
        if before == inodes() {
            return Ok(files);
        }
    }
    Err(io::Error::other("the files are rotated faster than they can be opened"))
}

struct Chain {
    heads: Vec<Head>,
    /// Heads whose record was met.
    met: Vec<bool>,
    before: Option<Link>,
    broken: Option<Break>,
    files: usize,
    records: u64,
    first: u64,
    last_file: String,
    unfinished: bool,
    remarks: Vec<String>,
}

impl Chain {
    fn new(heads: Vec<Head>) -> Self {
        Self {
            met: heads.iter().map(|head| head.seq == 0).collect(),
            heads,
            before: None,
            broken: None,
            files: 0,
            records: 0,
            first: 0,
            last_file: super::NAME.to_owned(),
            unfinished: false,
            remarks: Vec::new(),
        }
    }

    /// False at the first break.
    fn file(&mut self, name: &str, mut file: impl BufRead) -> io::Result<bool> {
        self.files += 1;
        name.clone_into(&mut self.last_file);
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            if file.read_until(b'\n', &mut bytes)? == 0 {
                break;
            }
            let why = if self.unfinished {
                Some("the file before it ends within a line".to_owned())
            } else if bytes.pop_if(|last| *last == b'\n').is_none() {
                self.unfinished = true;
                continue;
            } else {
                self.record(&bytes)
            };
            if let Some(why) = why {
                self.broken = Some(Break { file: name.to_owned(), line: number, why });
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is wrong with the next record.
    fn record(&mut self, bytes: &[u8]) -> Option<String> {
        let link = match line::check(bytes) {
            Ok(link) => link,
            Err(bad) => return Some(bad.to_string()),
        };
        let wrong = match &self.before {
            None => self.wrong_start(&link),
            Some(before) => wrong_step(before, &link),
        };
        if wrong.is_some() {
            return wrong;
        }
        for (head, met) in self.heads.iter().zip(&mut self.met) {
            if head.seq == link.seq {
                if head.hash != link.hash {
                    return Some(format!(
                        "record {} is not the one that healer wrote: the head kept beside the file has another hash, so the file was rewritten",
                        link.seq
                    ));
                }
                *met = true;
            }
        }
        self.records += 1;
        self.before = Some(link);
        None
    }

    fn wrong_start(&mut self, link: &Link) -> Option<String> {
        self.first = link.seq;
        let oldest = self.heads.iter().map(|head| head.first).max();
        if let Some(oldest) = oldest.filter(|oldest| link.seq > *oldest) {
            return Some(format!(
                "it begins with record {}, but records from {oldest} on should be there: older files were removed or cut",
                link.seq
            ));
        }
        (link.seq <= 1 && link.prev != GENESIS).then(|| "the first record points to one before it".to_owned())
    }

    fn finish(mut self) -> Checked {
        if self.broken.is_none() {
            self.broken = self.missing_end();
        }
        if self.unfinished && self.broken.is_none() {
            self.remarks.push(format!(
                "{} ends within a line: healer writes it right now, or stopped while it did (the next start heals that)",
                self.last_file
            ));
        }
        let head = self.heads.iter().max_by_key(|head| head.seq).cloned();
        let (last, last_hash) = match &self.before {
            Some(link) => (link.seq, link.hash.clone()),
            None => (0, GENESIS.to_owned()),
        };
        if let Some(head) = head.as_ref().filter(|head| last > head.seq) {
            self.remarks.push(format!(
                "{} records after the head are chained but not yet covered by it",
                last - head.seq
            ));
        }
        Checked {
            outcome: self.broken.map_or(Outcome::Whole, Outcome::Broken),
            files: self.files,
            records: self.records,
            first: self.first,
            last,
            last_hash,
            head,
            remarks: self.remarks,
        }
    }

    /// A head whose record never came: the tail was cut.
    fn missing_end(&self) -> Option<Break> {
        let last = self.before.as_ref().map_or(0, |link| link.seq);
        let unmet = self.heads.iter().zip(&self.met).filter(|(head, met)| {
            let dropped_by_rotation = head.seq < self.first;
            !**met && !dropped_by_rotation
        });
        let head = unmet.map(|(head, _)| head).max_by_key(|head| head.seq)?;
        Some(Break {
            file: self.last_file.clone(),
            line: 0,
            why: format!("it ends with record {last}, but healer wrote {}: the tail was cut", head.seq),
        })
    }
}

fn wrong_step(before: &Link, link: &Link) -> Option<String> {
    let follows = link.prev == before.hash;
    if link.seq == before.seq + 1 {
        return (!follows).then(|| {
            format!(
                "record {} does not follow record {} as it stands here: one of them was replaced",
                link.seq, before.seq
            )
        });
    }
    if link.seq > before.seq + 1 {
        let (from, to) = (before.seq + 1, link.seq - 1);
        return Some(format!("records {from} to {to} are missing before it"));
    }
    Some(format!("record {} comes after record {}: repeated or out of order", link.seq, before.seq))
}
