//! One peer of one client: what speaks against it since it was last well, and whether that is enough.

mod beside;
mod hard;
mod lapse;
mod moved;
mod no_way;
mod sockets;
mod weigh;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::{
    hard::{HARD_LASTS, is_told_on_the_way},
    weigh::{enough_at, kind_of},
};
use super::{kind::Kind, piece_words, stuck::Stuck};
use crate::{
    engine::time::BootTime,
    signal::network::{ConnectionFailed, FailureCause, PeerCounts, Retransmitted, Stall, Stalled},
};

/// Enough of it is a failure.
const ENOUGH: u32 = 3;
/// A restart without a gap worth naming takes less.
const REFUSAL_LASTS: Duration = Duration::from_secs(2);
/// A lossy path makes gaps without an answer: they end. On one that is known to be lossy, longer ones.
const SILENCE_LASTS: Duration = Duration::from_secs(2);
const SILENCE_LASTS_IF_LOSSY: Duration = Duration::from_secs(15);
/// Time-outs in a row of one connection that stand for a second one.
const MANY_TIMEOUTS: u32 = 5;
const MANY_TIMEOUTS_IF_LOSSY: u32 = 7;
/// The kernel asks again for a connection after a second (RFC 6298): whoever gave up earlier was impatient.
const PATIENT_US: u64 = 1_000_000;
/// Nobody is that impatient: SO_ERROR has taken what ICMP said, and the program gave up because of it.
const TOLD_AT_ONCE_US: u64 = 2_000;
/// A client that waits less, or fewer times, says nothing about its peer.
const HASTY_US: u64 = 100_000;
const HASTY_ENOUGH: u32 = 5;
/// What the kernel has counted meanwhile is read before a verdict.
const SECOND_THOUGHT: Duration = Duration::from_millis(200);
/// Suspicions of silence that an answer ended make a path lossy.
pub(super) const LOSSY_FROM: usize = 2;
/// A peer that never answered is somebody's dependency once it was asked so often.
const ASKED_ENOUGH: usize = 3;
const EVIDENCE_KEPT: usize = 32;
const SAME_MOMENT: Duration = Duration::from_millis(100);
pub(super) const EVIDENCE_LASTS: Duration = Duration::from_secs(180);
const CONNECTIONS_KEPT: usize = 32;
/// No socket has this cookie.
const MOVED: u64 = 0;

#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) at: BootTime,
    pub(super) kind: Kind,
    pub(super) says: String,
    weight: u32,
    cookie: u64,
    timeouts: u32,
    is_reset: bool,
    is_local: bool,
    /// Of a connection that is made.
    is_of_data: bool,
    /// Concluded, where the sensor in use does not tell it.
    is_inferred: bool,
    /// No link or route of this machine is the reason.
    has_cause: bool,
}

/// It is beyond doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Down {
    pub(super) kind: Kind,
    pub(super) since: BootTime,
    /// This machine itself would not send.
    pub(super) is_local: bool,
    /// It may be that slow by design, or what speaks against it is in part concluded.
    pub(super) is_doubtful: bool,
    /// What is told of links and routes need not be waited for.
    pub(super) needs_no_cause: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Well,
    /// Something speaks against it; if nothing comes in between, it is down at this time.
    Suspect(Option<BootTime>),
    Down(Down),
}

#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) last_seen: BootTime,
    pub(super) last_ok: Option<BootTime>,
    /// First connection made after the last piece of evidence.
    pub(super) well_since: Option<BootTime>,
    /// When connections that are made moved last, and first after the last piece of evidence.
    moved_at: Option<BootTime>,
    pub(super) moves_since: Option<BootTime>,
    pub(super) totals: Totals,
    /// The longest that a connection to it took to be made, of those seen.
    slowest_us: u32,
    evidence: VecDeque<Piece>,
    /// When an answer ended a suspicion of silence, and of which connection.
    gaps: VecDeque<(BootTime, u64)>,
    /// The client's paths to its other peers lose packets: they begin where this one does.
    pub(super) is_beside_losses: bool,
    /// Established connections by cookie: the first byte that was not acknowledged.
    unacknowledged: BTreeMap<u64, u32>,
    asked: BTreeSet<u64>,
    pub(super) stuck: Stuck,
    /// Usual time between two connections to it.
    gap: Option<Duration>,
    /// The same between two moments at which connections that are made were seen to have moved.
    moves_gap: Option<Duration>,
    /// When an edge, and when a call told last that there is no way to it.
    edge_at: Option<BootTime>,
    /// When a connection failed last.
    failed_at: Option<BootTime>,
    no_way_at: Option<BootTime>,
}

/// Since the peer is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) ok: u64,
    pub(super) failed: u64,
    pub(super) retransmits: u64,
}

impl Peer {
    pub(super) fn failed(&mut self, at: BootTime, failed: &ConnectionFailed) {
        self.last_seen = self.last_seen.max(at);
        self.totals.failed += 1;
        if failed.streak == 1 {
            self.begins_anew();
        }
        self.failed_at = Some(at);
        if failed.cause == FailureCause::Unreachable {
            self.edge_at = Some(at);
        }
        let (kind, weight) = match failed.cause {
            FailureCause::Refused | FailureCause::Reset => (Kind::Refuses, 1),
            FailureCause::Unreachable => (Kind::Unreachable, 2),
            FailureCause::TimedOut => (Kind::NoAnswer, 3),
            FailureCause::GaveUp if failed.age_us.is_some_and(|age| PATIENT_US <= age) => (Kind::NoAnswer, 2),
            FailureCause::GaveUp if failed.age_us.is_some_and(|age| age < TOLD_AT_ONCE_US) => {
                (Kind::Unreachable, 1)
            }
            FailureCause::GaveUp if self.is_silent_to_the_hasty(failed) => (Kind::NoAnswer, 1),
            FailureCause::GaveUp => return,
        };
        self.add(Piece {
            at,
            kind,
            says: piece_words::failed(failed),
            weight,
            cookie: failed.flow.cookie,
            timeouts: 0,
            is_reset: !failed.connecting,
            is_local: false,
            is_of_data: !failed.connecting,
            is_inferred: failed.inferred,
            has_cause: kind == Kind::Unreachable && is_told_on_the_way(failed.age_us),
        });
    }

    /// A client that gives up before the kernel asks again, each time: who has always answered in a tenth of that, and
    /// does not any more, is silent.
    fn is_silent_to_the_hasty(&self, failed: &ConnectionFailed) -> bool {
        let is_long = |age_us| HASTY_US <= age_us && 10 * u64::from(self.slowest_us) <= age_us;
        self.last_ok.is_some() && HASTY_ENOUGH <= failed.streak && failed.age_us.is_some_and(is_long)
    }

    pub(super) fn retransmitted(&mut self, at: BootTime, sent: &Retransmitted) {
        self.last_seen = self.last_seen.max(at);
        if !sent.connecting {
            let before = self.unacknowledged.insert(sent.flow.cookie, sent.unacknowledged);
            if before.is_some_and(|before| before != sent.unacknowledged) {
                // It moves: its silences are gaps, each of them.
                let own = |gap: &&mut (BootTime, u64)| gap.1 == sent.flow.cookie;
                self.gaps.iter_mut().filter(own).for_each(|(_, cookie)| *cookie = MOVED);
                self.answered(at - Duration::from_nanos(1));
            }
            while CONNECTIONS_KEPT < self.unacknowledged.len() {
                self.unacknowledged.pop_first();
            }
        }
        // Want of room for a moment is no refusal.
        let is_want =
            |errno: &i32| matches!(*errno, libc::ENOMEM | libc::ENOBUFS | libc::EBUSY | libc::EAGAIN);
        let refusal = sent.local_error.filter(|errno| !is_want(errno));
        let weight = match refusal {
            Some(_) => 3,
            None if sent.connecting || 2 <= sent.retransmits => 1,
            None => return,
        };
        self.add(Piece {
            at,
            kind: Kind::NoAnswer,
            says: piece_words::retransmitted(sent),
            weight,
            cookie: sent.flow.cookie,
            timeouts: sent.retransmits,
            is_reset: false,
            is_local: refusal.is_some(),
            is_of_data: !sent.connecting,
            is_inferred: sent.sampled && refusal.is_none(),
            has_cause: refusal == Some(libc::EPERM),
        });
    }

    pub(super) fn stalled(&mut self, at: BootTime, stalled: &Stalled) {
        self.last_seen = self.last_seen.max(at);
        if stalled.why != Stall::Held {
            self.stuck.note(at, stalled);
            return;
        }
        self.add(Piece {
            at,
            kind: Kind::NoAnswer,
            says: format!(
                "data for {} is held up in this machine, though its window is open",
                stalled.flow.peer
            ),
            weight: 3,
            cookie: stalled.flow.cookie,
            timeouts: 0,
            is_reset: false,
            is_local: true,
            is_of_data: true,
            is_inferred: false,
            has_cause: true,
        });
    }

    pub(super) fn counted(&mut self, counts: &PeerCounts) {
        self.totals.ok += u64::from(counts.ok);
        self.slowest_us = self.slowest_us.max(counts.slowest_us);
        self.totals.retransmits += u64::from(counts.retransmits) + u64::from(counts.syn_retransmits);
        self.last_seen = self.last_seen.max(counts.last_ok.max(counts.last_bad).unwrap_or_default());
        if let Some(at) = counts.last_ok {
            self.note_gap(at, counts.ok);
            self.answered(at);
        }
    }

    fn note_gap(&mut self, at: BootTime, made: u32) {
        if let Some(before) = self.last_ok.filter(|before| *before < at && made != 0) {
            let gap = at.since(before) / made;
            self.gap = Some(self.gap.map_or(gap, |usual| (usual + gap) / 2));
        }
    }

    /// It was well at `at`: what came before no longer counts.
    pub(super) fn answered(&mut self, at: BootTime) {
        self.last_seen = self.last_seen.max(at);
        self.last_ok = self.last_ok.max(Some(at));
        let mut pieces = self.evidence.iter().rev();
        let silent = pieces.find(|piece| piece.at <= at && piece.kind == Kind::NoAnswer);
        if let Some(cookie) = silent.map(|piece| piece.cookie) {
            // One connection that is dead beside others makes no lossy path.
            self.gaps.retain(|(_, other)| *other != cookie || *other == MOVED);
            self.gaps.push_back((at, cookie));
        }
        self.evidence.retain(|piece| at < piece.at);
        if self.evidence.is_empty() {
            self.well_since.get_or_insert(at);
            self.asked.clear();
        }
    }

    fn add(&mut self, piece: Piece) {
        let is_answered = self.last_ok.is_some_and(|ok| piece.at <= ok);
        if is_answered || piece.is_of_data && self.moved_at.is_some_and(|moved| piece.at <= moved) {
            return;
        }
        (self.well_since, self.moves_since) = (None, None);
        if self.asked.len() < ASKED_ENOUGH {
            self.asked.insert(piece.cookie);
        }
        if self.evidence.len() == EVIDENCE_KEPT {
            let is_the_same_moment = |last: &Piece| piece.at.since(last.at) < SAME_MOMENT;
            if self.evidence.back().is_some_and(is_the_same_moment) {
                return;
            }
            // The first say since when, the last whether it goes on.
            self.evidence.remove(EVIDENCE_KEPT / 2);
        }
        self.evidence.push_back(piece);
    }

    pub(super) fn is_lossy(&self) -> bool {
        self.is_beside_losses || LOSSY_FROM <= self.gaps.len()
    }

    pub(super) fn gaps(&self) -> usize {
        self.gaps.len()
    }

    /// When each gap ended, oldest first.
    pub(super) fn answered_late(&self) -> impl Iterator<Item = BootTime> {
        self.gaps.iter().map(|(at, _)| *at)
    }

    /// The client needs it, as far as one can see.
    pub(super) fn is_dependency(&self) -> bool {
        self.last_answer().is_some() || ASKED_ENOUGH <= self.asked.len()
    }

    pub(super) fn evidence(&self) -> impl DoubleEndedIterator<Item = &Piece> {
        self.evidence.iter()
    }

    pub(super) fn since(&self) -> Option<BootTime> {
        self.evidence.front().map(|piece| piece.at)
    }

    /// `is_explained`: what is known of servers and links leaves no other reason.
    pub(super) fn state(&self, now: BootTime, is_explained: impl Fn(Kind) -> bool) -> State {
        match self.reached(now, is_explained) {
            down @ State::Down(_) => down,
            reached @ (State::Well | State::Suspect(_)) => {
                self.served(now).or_else(|| self.answers_questions()).unwrap_or(reached)
            }
        }
    }

    fn reached(&self, now: BootTime, is_explained: impl Fn(Kind) -> bool) -> State {
        let (Some(first), Some(last)) = (self.evidence.front(), self.evidence.back()) else {
            return State::Well;
        };
        let is_local = self.evidence.iter().any(|piece| piece.is_local);
        let (kind, Some(enough_at)) = (kind_of(self.evidence.iter()), enough_at(self.evidence.iter())) else {
            return State::Suspect(None);
        };
        if !self.is_dependency() {
            return State::Suspect(None);
        }
        let is_hard = self.is_hard(kind, is_explained);
        let has_lasted = match kind {
            _ if is_local || is_hard => true,
            Kind::Refuses | Kind::Unreachable => REFUSAL_LASTS <= last.at.since(first.at),
            Kind::NoAnswer | Kind::Frozen | Kind::Dns | Kind::Stale => self.is_silent(enough_at, last.at),
        };
        if !has_lasted {
            return State::Suspect(None);
        }
        let due = last.at + SECOND_THOUGHT;
        let first_due = self.verdict_at(is_hard).map_or(due, |at| at + SECOND_THOUGHT);
        if now < first_due.min(due) {
            return State::Suspect(Some(first_due.min(due)));
        }
        let is_doubtful = !is_local && self.rests_on_conclusions(kind);
        let needs_no_cause = self.needs_no_cause();
        State::Down(Down { kind, since: first.at, is_local, is_doubtful, needs_no_cause })
    }

    /// What was told does not suffice without what was concluded, or says something else.
    fn rests_on_conclusions(&self, kind: Kind) -> bool {
        let told = || self.evidence.iter().filter(|piece| !piece.is_inferred);
        enough_at(told()).is_none() || kind_of(told()) != kind
    }

    /// The piece that made the case; later ones must not put the verdict off.
    fn verdict_at(&self, is_hard: bool) -> Option<BootTime> {
        let enough_at = enough_at(self.evidence.iter())?;
        let first = self.evidence.front()?.at;
        let kind = kind_of(self.evidence.iter());
        let said_at = self.said_at(kind).unwrap_or_default();
        let makes_it = |piece: &&Piece| match kind {
            _ if piece.is_local => true,
            _ if is_hard => enough_at.max(said_at) <= piece.at && HARD_LASTS <= piece.at.since(first),
            Kind::Refuses | Kind::Unreachable => {
                enough_at <= piece.at && REFUSAL_LASTS <= piece.at.since(first)
            }
            Kind::NoAnswer | Kind::Frozen | Kind::Dns | Kind::Stale => self.is_silent(enough_at, piece.at),
        };
        self.evidence.iter().find(makes_it).map(|piece| piece.at)
    }

    /// No answer all the while, to more than one connection or to one that asked very often.
    fn is_silent(&self, enough_at: BootTime, last: BootTime) -> bool {
        let (lasts, many) = if self.is_lossy() {
            (SILENCE_LASTS_IF_LOSSY, MANY_TIMEOUTS_IF_LOSSY)
        } else {
            (SILENCE_LASTS, MANY_TIMEOUTS)
        };
        let connections: BTreeSet<u64> = self.evidence.iter().map(|piece| piece.cookie).collect();
        let timeouts = self.evidence.iter().map(|piece| piece.timeouts).max();
        lasts <= last.since(enough_at) && (2 <= connections.len() || Some(many) <= timeouts)
    }
}
