//! A master and its workers are one server: work may wait for several of them, and each shows a little of it.

use core::time::Duration;

use super::{Instead, LASTS, Track};
use crate::{
    engine::time::BootTime,
    signal::work::{Backlog, Hope, Life, Unanswered, UnixWork, Unread, Work},
};

/// A process of the family, and what it does instead of its work.
pub(super) struct Member<'a> {
    pub(super) work: &'a Work,
    pub(super) track: Track,
    pub(super) instead: Instead,
    /// Frozen, traced or starved: whatever it leaves undone is not its own fault.
    pub(super) is_excused: bool,
}

impl<'a> Member<'a> {
    pub(super) fn new(at: BootTime, work: &'a Work, track: Track) -> Self {
        let is_held = match work.condition {
            Life::Free | Life::Stopped => false,
            Life::Traced | Life::Frozen => true,
        };
        let is_starved = track.starved.is_some_and(|last| at.since(last) < LASTS);
        Self { work, track, instead: track.instead(at), is_excused: is_held || is_starved }
    }

    /// What it leaves undone. Of unix sockets only who did not run at all is known to have read nothing.
    pub(super) fn own_work(&self, at: BootTime) -> Work {
        let mut work = self.work.clone();
        // Between two rounds it may be seen at what a round does.
        work.at_its_loop = self.track.at_its_loop.is_some_and(|last| at.since(last) < LASTS);
        if !lasted(at, self.track.rested) {
            work.unix = UnixWork::default();
        }
        work
    }

    fn does_nothing(&self) -> bool {
        !self.is_excused && self.instead.is_nothing()
    }
}

/// What keeps it from its work now is not its own fault, and it did nothing that would show it well.
pub(super) fn is_held(members: &[Member<'_>]) -> bool {
    let waits = |work: &Work| {
        let of_unix = work.unix.unread.is_some() || work.unix.backlog.is_some();
        work.unread.is_some() || work.backlog.is_some() || work.unanswered.is_some() || of_unix
    };
    members.iter().any(|member| member.is_excused && waits(member.work)) && does_nothing_to_be_seen(members)
}

/// One of them leaves a unix socket alone. That it ran a moment is no cure yet: a timer may have ticked.
pub(super) fn leaves_unix(members: &[Member<'_>]) -> bool {
    members.iter().any(|member| waits_long(&member.work.unix)) && does_nothing_to_be_seen(members)
}

/// The same, and what waits there is not counted, because one who could take it ran a moment ago.
pub(super) fn ticked(at: BootTime, members: &[Member<'_>]) -> bool {
    let may_take = |one: &Member<'_>| waits_long(&one.work.unix) || shares_unix_queue(one);
    leaves_unix(members) && members.iter().any(|one| may_take(one) && !lasted(at, one.track.rested))
}

fn does_nothing_to_be_seen(members: &[Member<'_>]) -> bool {
    members.iter().map(|member| member.work).all(|work| !work.moved && !work.accepted && !work.answered)
}

fn waits_long(unix: &UnixWork) -> bool {
    let unread = unix.unread.iter().map(|unread| unread.oldest_ms);
    let all = unread.chain(unix.backlog.iter().map(|backlog| backlog.oldest_ms));
    all.max().is_some_and(|ms| LASTS <= Duration::from_millis(ms))
}

fn shares_queue(member: &Member<'_>) -> bool {
    member.work.backlog.is_some() || member.work.shares
}

fn shares_unix_queue(member: &Member<'_>) -> bool {
    member.work.unix.backlog.is_some() || member.work.unix.shares
}

/// What one of those waits for who could take from the same queue, or answer the probe.
pub(super) fn hope_of_all(members: &[Member<'_>], is_probed: bool) -> Option<Hope> {
    let may_serve = |member: &&Member<'_>| {
        member.does_nothing() && (is_probed || shares_queue(member) || shares_unix_queue(member))
    };
    members.iter().filter(may_serve).find_map(|member| member.work.hope)
}

/// As [`accepts_none`]: nobody counts what was taken, so nobody of them may have run.
pub(super) fn leaves_unix_queue(at: BootTime, members: &[Member<'_>]) -> bool {
    let mut may_accept = members.iter().filter(|member| shares_unix_queue(member));
    may_accept.all(|one| one.does_nothing() && lasted(at, one.track.rested))
}

/// Nobody who could take connections from a queue does, and nobody did: among those who have inherited a listener
/// one that works may be at a long request, and take the next soon.
pub(super) fn accepts_none(at: BootTime, members: &[Member<'_>]) -> bool {
    let mut may_accept = members.iter().filter(|member| shares_queue(member));
    may_accept.all(|one| one.does_nothing() && lasted(at, one.track.accepts_none))
}

/// All of them that do nothing, as one; `None` if that tells no more than each of them alone, or the family answers.
pub(super) fn together(at: BootTime, members: &[Member<'_>]) -> Option<(Work, Instead, usize)> {
    let still: Vec<_> = members.iter().filter(|member| member.does_nothing()).collect();
    let answers = members.iter().any(|member| !lasted(at, member.track.answers_none));
    if still.len() < 2 || answers {
        return None;
    }
    let first = still[0].work;
    let mut sum = Work { condition: first.condition, at_its_loop: true, ..Work::default() };
    (sum.process, sum.pid, sum.comm) = (first.process.clone(), first.process.pid, first.process.comm.clone());
    for work in still.iter().map(|member| member.own_work(at)) {
        sum.runs += work.runs;
        sum.hope = sum.hope.or(work.hope);
        // Who holds no request says nothing of those that wait.
        sum.at_its_loop &= work.at_its_loop || work.unanswered.is_none();
        if work.condition == Life::Free {
            sum.condition = Life::Free;
        }
        sum.unread = both(sum.unread, &work.unread, unread);
        sum.backlog = both(sum.backlog, &work.backlog, backlog);
        sum.unanswered = both(sum.unanswered, &work.unanswered, unanswered);
        sum.unix.unread = both(sum.unix.unread, &work.unix.unread, unread);
        sum.unix.backlog = both(sum.unix.backlog, &work.unix.backlog, backlog);
    }
    let instead = still.iter().map(|member| member.instead).reduce(Instead::and)?;
    Some((sum, instead, still.len()))
}

fn lasted(at: BootTime, since: Option<BootTime>) -> bool {
    since.is_some_and(|since| LASTS <= at.since(since))
}

fn both<T: Clone>(one: Option<T>, other: &Option<T>, add: fn(T, &T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(add(one, other)),
        (one, other) => one.or_else(|| other.clone()),
    }
}

fn unread(one: Unread, other: &Unread) -> Unread {
    Unread {
        sockets: one.sockets + other.sockets,
        bytes: one.bytes + other.bytes,
        oldest_ms: one.oldest_ms.max(other.oldest_ms),
    }
}

/// Of several listeners the one that waits longest.
fn backlog(one: Backlog, other: &Backlog) -> Backlog {
    if one.oldest_ms < other.oldest_ms { other.clone() } else { one }
}

/// What is normal goes by port; of several ports the one that most wait at.
fn unanswered(one: Unanswered, other: &Unanswered) -> Unanswered {
    if one.port != other.port {
        return if one.sockets < other.sockets { other.clone() } else { one };
    }
    let last = one.last_answer_ms.into_iter().chain(other.last_answer_ms).min();
    Unanswered {
        port: one.port,
        sockets: one.sockets + other.sockets,
        oldest_ms: one.oldest_ms.max(other.oldest_ms),
        answered: one.answered.max(other.answered),
        slowest_ms: one.slowest_ms.max(other.slowest_ms),
        last_answer_ms: last,
    }
}
