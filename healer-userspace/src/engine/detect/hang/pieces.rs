//! Independent pieces of evidence that work waits.

use core::time::Duration;

use super::{super::probe_failed::Known, Instead, LASTS};
use crate::{
    engine::time::Human,
    signal::work::{Backlog, Life, Unanswered, UnixWork, Unread, Work},
};

/// Fewer connections may be slow by nature.
const UNANSWERED_MIN: u32 = 3;
/// Long polls usually end within this; so alone, unanswered requests must be older.
const UNANSWERED_ALONE: Duration = Duration::from_secs(30);
/// What comes and is answered between two looks took at most so long.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// Times the slowest answer before: later than that is not its nature.
const SLOWER_THAN_EVER: u64 = 3;

/// A piece of this source is no evidence of its own: `minEvidence` does not count it.
pub(super) const SAME_SOCKETS: &str = "answers";
const UNREAD: &str = "sockets";
const ACCEPT_QUEUE: &str = "accept_queue";
pub(super) const UNANSWERED: &str = "unanswered";

pub(super) struct Piece {
    /// Which sensor shows it.
    pub(super) source: &'static str,
    pub(super) says: String,
    pub(super) lasted: Duration,
}

/// None if no work waits. An explanation (it is stopped; it used to answer) counts only beside work.
///
/// What is summed over a family stands for all of them at once: as for one alone, a short wait for what they share is no
/// hang.
pub(super) fn pieces(work: &Work, instead: Instead, probe: Option<&Known>, is_sum: bool) -> Vec<Piece> {
    // An answer that is bad is an answer.
    let probe = probe.filter(|probe| probe.is_late);
    let does_nothing = instead.is_nothing();
    let is_silent = does_nothing || matches!(instead, Instead::AnswersNobody(_));
    let mut pieces = Vec::new();
    if does_nothing {
        pieces.extend(work.unread.as_ref().and_then(unread));
        pieces.extend(work.backlog.as_ref().and_then(backlog));
        pieces.extend(probe.map(failed_probe));
    }
    let alone = is_sum || (pieces.is_empty() && probe.is_none());
    let keeps_them = probe.is_none() && keeps_for_later(work);
    let late = work.unanswered.as_ref().filter(|some| is_late(some, alone));
    if let Some(some) = late {
        if !does_nothing {
            pieces.extend(probe.map(failed_probe));
        }
        pieces.push(unanswered(some));
        // Who works may be at one long answer after the other.
        pieces.extend(silent(&Answers::of(some)).filter(|_| is_silent && !keeps_them));
    } else if does_nothing && let Some(backlog) = &work.backlog {
        pieces.extend(serves_no_more(backlog));
    }
    if does_nothing {
        add_unix(&work.unix, &mut pieces);
    }
    if !pieces.is_empty() && work.condition == Life::Stopped {
        let says = "a stop signal holds it (state T)".to_owned();
        pieces.push(Piece { source: "proc", says, lasted: Duration::ZERO });
    }
    pieces
}

/// A stream that is never read by nature is no second reason: only a queue behind it makes it one.
fn add_unix(unix: &UnixWork, pieces: &mut Vec<Piece>) {
    let (unread, backlog) = (unix.unread.as_ref().and_then(unread), unix.backlog.as_ref().and_then(backlog));
    let has_tcp = |source| pieces.iter().any(|piece: &Piece| piece.source == source);
    let (has_unread, has_backlog) = (has_tcp(UNREAD), has_tcp(ACCEPT_QUEUE));
    if backlog.is_some() || pieces.is_empty() {
        pieces.extend(unread.filter(|_| !has_unread));
    }
    pieces.extend(backlog.filter(|_| !has_backlog));
}

fn unread(unread: &Unread) -> Option<Piece> {
    let lasted = Duration::from_millis(unread.oldest_ms);
    let says = format!(
        "{} bytes unread on {} for {}",
        unread.bytes,
        counted(unread.sockets, "socket"),
        Human(lasted)
    );
    (LASTS <= lasted).then_some(Piece { source: UNREAD, says, lasted })
}

fn backlog(backlog: &Backlog) -> Option<Piece> {
    let lasted = Duration::from_millis(backlog.oldest_ms);
    let says = format!(
        "{} of at most {} not accepted on {} for {}",
        counted(backlog.waiting, "connection"),
        backlog.limit,
        place(backlog.port),
        Human(lasted)
    );
    (LASTS <= lasted).then_some(Piece { source: ACCEPT_QUEUE, says, lasted })
}

fn place(port: u16) -> String {
    if port == 0 { "a unix socket".to_owned() } else { format!("port {port}") }
}

fn failed_probe(probe: &Known) -> Piece {
    let says = format!("its probe failed {} times in a row ({})", probe.failed, probe.says);
    Piece { source: "probe", says, lasted: Duration::ZERO }
}

/// A server of long polls, as it seems: whatever comes next it would take, and nothing has come that it leaves alone.
/// That what it keeps is old is a suspicion all the same: a loop that waits for a word that will not come looks so too.
fn keeps_for_later(work: &Work) -> bool {
    let unread = work.unread.as_ref().map(|unread| unread.oldest_ms);
    let queued = work.backlog.as_ref().map(|backlog| backlog.oldest_ms);
    let unix_unread = work.unix.unread.as_ref().map(|unread| unread.oldest_ms);
    let unix_queued = work.unix.backlog.as_ref().map(|backlog| backlog.oldest_ms);
    let is_left = |ms: u64| LASTS <= Duration::from_millis(ms);
    let waits = [unread, queued, unix_unread, unix_queued];
    work.at_its_loop && !waits.into_iter().flatten().any(is_left)
}

/// Alone it must be out of the ordinary; what never answered may be made to only listen.
fn is_late(some: &Unanswered, alone: bool) -> bool {
    let at_least = if alone { UNANSWERED_ALONE } else { LASTS };
    UNANSWERED_MIN <= some.sockets
        && at_least <= Duration::from_millis(some.oldest_ms)
        && some.slowest_ms.saturating_mul(SLOWER_THAN_EVER) <= some.oldest_ms
        && (0 < some.answered || !alone)
}

fn unanswered(some: &Unanswered) -> Piece {
    let lasted = Duration::from_millis(some.oldest_ms);
    let says = format!(
        "{} on port {} read and not answered for up to {}",
        counted(some.sockets, "request"),
        some.port,
        Human(lasted)
    );
    Piece { source: UNANSWERED, says, lasted }
}

/// A server that takes one after the other has one request at a time, but others wait for it.
fn serves_no_more(backlog: &Backlog) -> Option<Piece> {
    let answers = Answers {
        oldest_ms: backlog.oldest_ms,
        count: backlog.answered,
        slowest_ms: backlog.slowest_ms,
        last_ms: backlog.last_answer_ms,
    };
    let is_late = UNANSWERED_ALONE <= Duration::from_millis(backlog.oldest_ms)
        && backlog.slowest_ms.saturating_mul(SLOWER_THAN_EVER) <= backlog.oldest_ms;
    silent(&answers).filter(|_| is_late)
}

/// What a port was like before.
struct Answers {
    /// Since when somebody waits.
    oldest_ms: u64,
    count: u64,
    slowest_ms: u64,
    last_ms: Option<u64>,
}

impl Answers {
    fn of(some: &Unanswered) -> Self {
        let (count, slowest_ms) = (some.answered, some.slowest_ms);
        Self { oldest_ms: some.oldest_ms, count, slowest_ms, last_ms: some.last_answer_ms }
    }
}

/// Nothing at all was answered since, though it used to be: a second reason, but told by the same sockets.
fn silent(answers: &Answers) -> Option<Piece> {
    let last = answers.last_ms.filter(|last| answers.oldest_ms <= *last)?;
    let says = format!(
        "the last answer there was {} ago, {} before took at most {}",
        Human(Duration::from_millis(last)),
        answers.count,
        Human(Duration::from_millis(answers.slowest_ms).max(LOOKS_EVERY))
    );
    Some(Piece { source: SAME_SOCKETS, says, lasted: Duration::from_millis(last) })
}

fn counted(count: u32, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
