//! Finds the end of the chain at start: heals a torn line, notices a tail that was cut.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
};

use serde::Deserialize;

use super::{
    NAME, Note, genesis,
    head::Head,
    line::{self, Link},
    rotated,
};
use crate::{
    engine::command::{ActionKey, ActionOutcome, IncidentId},
    identity::process::WorkloadKey,
    store::dir::StateDir,
};

const FIRST_WINDOW: u64 = 256 << 10;

/// What a record said of one intent.
#[derive(Clone, Debug, Deserialize)]
pub struct Told {
    pub seq: u64,
    record: String,
    pub key: ActionKey,
    incident: Option<String>,
    pub workload: Option<WorkloadKey>,
    outcome: Option<String>,
    #[serde(default)]
    says: String,
    errno: Option<i32>,
}

impl Told {
    pub fn incident(&self) -> Option<IncidentId> {
        self.incident.as_deref()?.strip_prefix('i')?.parse().ok().map(IncidentId)
    }

    /// None: it is the intent itself.
    pub fn outcome(&self) -> Option<ActionOutcome> {
        let says = self.says.clone();
        Some(match self.outcome.as_deref()? {
            "done" => ActionOutcome::Done { says },
            "would_do" => ActionOutcome::WouldDo { says },
            "refused" => ActionOutcome::Refused { reason: says },
            "failed" => ActionOutcome::Failed { error: says, errno: self.errno },
            _unknown => ActionOutcome::Unknown { reason: says },
        })
    }
}

/// The end of the chain as found.
#[derive(Debug)]
pub struct Found {
    /// The chain goes on from here.
    pub tip: Head,
    /// Bytes of whole lines in `audit.jsonl`.
    pub length: u64,
    /// The greatest incident number seen near the end.
    pub last_incident: u64,
    /// Intents and results near the end, in order.
    pub told: Vec<Told>,
    pub notes: Vec<Note>,
}

/// `file` is `audit.jsonl`, open for reading and writing; a torn last line is cut off it.
pub(super) fn find_end(dir: &StateDir, file: &File, known: Option<Head>) -> io::Result<Found> {
    let mut notes = Vec::new();
    let length = heal_torn_line(file, &mut notes)?;
    // Empty between a rotation and the first record after it: then the end is in the file before.
    let older = if length == 0 { dir.existing(&rotated(1))? } else { None };
    let source = older.as_ref().unwrap_or(file);
    let (end, last_incident, told) = walk_back(source, known.as_ref())?;
    let first = match &known {
        Some(head) => head.first,
        None => oldest_seq(dir).unwrap_or(1),
    };
    let tip = settle(end, known, first, &mut notes);
    Ok(Found { tip, length, last_incident, told, notes })
}

/// Number of the first record in a file of the audit.
pub(super) fn first_seq(dir: &StateDir, name: &str) -> Option<u64> {
    let file = dir.existing(name).ok()??;
    let mut line = Vec::new();
    BufReader::new(file).read_until(b'\n', &mut line).ok()?;
    line::link(line.trim_ascii_end()).map(|link| link.seq)
}

fn oldest_seq(dir: &StateDir) -> Option<u64> {
    let mut oldest = None;
    for n in 0.. {
        match first_seq(dir, &rotated(n)) {
            Some(seq) => oldest = Some(seq),
            None if n > 0 => break,
            None => {}
        }
    }
    oldest
}

/// A crash or a power cut leaves a line without its newline. It was never acted on: acts wait for a sync.
fn heal_torn_line(mut file: &File, notes: &mut Vec<Note>) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut chunk = vec![0; 64 << 10];
    while end > 0 {
        let size = end.min(chunk.len() as u64);
        let part = &mut chunk[..usize::try_from(size).unwrap_or(usize::MAX)];
        file.seek(SeekFrom::Start(end - size))?;
        file.read_exact(part)?;
        match part.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => {
                end = end - size + at as u64 + 1;
                break;
            }
            None => end -= size,
        }
    }
    if end < length {
        file.set_len(end)?;
        notes.push(Note {
            event: "audit_torn_line_cut",
            says: format!(
                "{} bytes of an unfinished last line in {NAME} were cut: healer or the machine stopped while it was written",
                length - end
            ),
        });
    }
    Ok(end)
}

/// The end of the file as a chain.
enum End {
    Empty,
    /// The known head is there; the chain from it on reaches this.
    Reached(Link),
    /// The known head is there, but a record after it does not follow.
    Broken {
        last_good: Link,
        why: String,
    },
    /// The known head is not there; the last line claims to be this.
    Elsewhere(Option<Link>),
}

fn walk_back(mut file: &File, known: Option<&Head>) -> io::Result<(End, u64, Vec<Told>)> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok((End::Empty, 0, Vec::new()));
    }
    let mut window = FIRST_WINDOW;
    loop {
        let from = length.saturating_sub(window);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(length - from).read_to_end(&mut bytes)?;
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        lines.pop(); // after the last newline there is nothing
        if from > 0 && !lines.is_empty() {
            lines.remove(0); // most likely not whole
        }
        let end = follow(&lines, known);
        if from == 0 || !matches!(end, End::Elsewhere(_)) {
            return Ok((end, last_incident(&lines), lines.iter().filter_map(|line| told(line)).collect()));
        }
        window = window.saturating_mul(4);
    }
}

/// Without a known head every last line that is whole will do.
fn follow(lines: &[&[u8]], known: Option<&Head>) -> End {
    let last = lines.last().and_then(|line| line::link(line));
    let Some(known) = known else {
        return match (&last, lines.last().map(|line| line::check(line))) {
            (_, Some(Ok(link))) => End::Reached(link),
            _ => End::Elsewhere(last),
        };
    };
    let is_head = |link: &Link| link.seq == known.seq && link.hash == known.hash;
    let follows_head = |link: &Link| link.seq == known.seq + 1 && link.prev == known.hash;
    let links: Vec<Option<Link>> = lines.iter().map(|line| line::link(line)).collect();
    let at = |test: &dyn Fn(&Link) -> bool| links.iter().position(|link| link.as_ref().is_some_and(test));
    let Some(start) = at(&is_head).or_else(|| at(&follows_head)) else {
        return End::Elsewhere(last);
    };
    match chain(&lines[start..]) {
        Some(end) => end,
        None => End::Elsewhere(last),
    }
}

/// None if the first line is itself no good.
fn chain(lines: &[&[u8]]) -> Option<End> {
    let mut last_good: Option<Link> = None;
    for line in lines {
        let why = match (line::check(line), &last_good) {
            (Ok(link), None) => {
                last_good = Some(link);
                continue;
            }
            (Ok(link), Some(before)) if link.seq == before.seq + 1 && link.prev == before.hash => {
                last_good = Some(link);
                continue;
            }
            (Ok(_), Some(_)) => "it does not follow the record before it".to_owned(),
            (Err(bad), _) => bad.to_string(),
        };
        return last_good.map(|last_good| End::Broken { last_good, why });
    }
    last_good.map(End::Reached)
}

/// Greatest `"incident":"iN"` of the lines.
fn last_incident(lines: &[&[u8]]) -> u64 {
    const KEY: &str = "\"incident\":\"i";
    let of = |line: &&[u8]| {
        let text = core::str::from_utf8(line).ok()?;
        let digits = &text[text.find(KEY)? + KEY.len()..];
        digits[..digits.find('"')?].parse::<u64>().ok()
    };
    lines.iter().filter_map(of).max().unwrap_or(0)
}

/// Only what is worth parsing: the window holds thousands of lines.
fn told(line: &[u8]) -> Option<Told> {
    let text = core::str::from_utf8(line).ok()?;
    let is_one = ["\"record\":\"intent\"", "\"record\":\"result\""].iter().any(|part| text.contains(part));
    let told: Told = is_one.then(|| serde_json::from_str(text).ok()).flatten()?;
    ["intent", "result"].contains(&told.record.as_str()).then_some(told)
}

fn settle(end: End, known: Option<Head>, first: u64, notes: &mut Vec<Note>) -> Head {
    let head = |link: Link| Head { seq: link.seq, hash: link.hash, first };
    let mut note = |says: String| {
        notes.push(Note { event: "audit_broken", says });
    };
    match (end, known) {
        (End::Reached(link), _) => head(link),
        (End::Broken { last_good, why }, _) => {
            note(format!(
                "the line after record {} of {NAME} is bad: {why}; the chain goes on from record {0}",
                last_good.seq
            ));
            head(last_good)
        }
        (End::Empty, None) => genesis(),
        (End::Empty | End::Elsewhere(None), Some(known)) => {
            note(format!(
                "{NAME} does not hold record {}, the last that healer wrote: it was removed, cut or replaced",
                known.seq
            ));
            known
        }
        (End::Elsewhere(Some(last)), Some(known)) => {
            note(format!(
                "{NAME} does not hold record {} as healer wrote it (it ends with record {}): it was cut or rewritten",
                known.seq, last.seq
            ));
            known
        }
        (End::Elsewhere(last), None) => {
            note(format!("the last line of {NAME} is bad, and no head is known"));
            last.map_or_else(genesis, head)
        }
    }
}
