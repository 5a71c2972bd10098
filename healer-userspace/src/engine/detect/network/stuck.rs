//! Connections to one peer that do not move, by the word of the sockets themselves: a peer that takes nothing more,
//! and connections that stay dead beside new ones that work.

use core::time::Duration;
use std::collections::BTreeMap;

use super::questions::Questions;
use crate::{
    engine::time::{BootTime, Human},
    identity::process::Process,
    signal::network::{Stall, Stalled},
};

/// Told anew at every look, five seconds apart at most: what was not is over.
const OVER_AFTER: Duration = Duration::from_secs(8);
/// Who cannot run will not read. Who can may be busy, or a slow consumer by design.
const HALTED_LASTS: Duration = Duration::from_secs(2);
const FROZEN_LASTS: Duration = Duration::from_secs(10);
/// Dead beside others that work: after so long new connections are still made, and the old ones stay silent.
const STALE_LASTS: Duration = Duration::from_secs(10);
const STALE_TIMEOUTS: u32 = 6;
const STALE_TIMEOUTS_IF_LOSSY: u32 = 9;
const DEAD_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Stuck {
    frozen: Option<Frozen>,
    /// By cookie.
    dead: BTreeMap<u64, (BootTime, Stalled)>,
    pub(super) questions: Questions,
}

/// It is there, and does not read what it was sent.
#[derive(Clone, Debug)]
pub(super) struct Frozen {
    pub(super) since: BootTime,
    pub(super) server: Option<Process>,
    pub(super) halted: bool,
    pub(super) says: String,
    last: BootTime,
}

impl Frozen {
    fn sure_at(&self) -> BootTime {
        self.since + if self.halted { HALTED_LASTS } else { FROZEN_LASTS }
    }

    pub(super) fn is_old_enough(&self, now: BootTime) -> Result<(), BootTime> {
        if self.sure_at() <= now { Ok(()) } else { Err(self.sure_at()) }
    }
}

impl Stuck {
    pub(super) fn note(&mut self, at: BootTime, stalled: &Stalled) {
        if stalled.why == Stall::Unanswered {
            let cookie = stalled.flow.cookie;
            if self.dead.len() < DEAD_MAX || self.dead.contains_key(&cookie) {
                self.dead.insert(cookie, (at, stalled.clone()));
            }
            return;
        }
        if stalled.why == Stall::NoReply {
            return self.questions.note(at, stalled);
        }
        let before = self.frozen.take();
        let kept = before.as_ref().filter(|before| at.since(before.last) < OVER_AFTER);
        let since = kept.map_or(stalled.since, |kept| kept.since.min(stalled.since));
        let halted = stalled.halted || kept.is_some_and(|kept| kept.halted && kept.last == at);
        let server = stalled.server.clone().or_else(|| kept.and_then(|kept| kept.server.clone()));
        let says = words(at, stalled);
        self.frozen = Some(Frozen { since, server, halted, says, last: at });
    }

    /// The connections are gone with their client. Questions are not: whoever dies of names that nobody tells asks again
    /// in its next life.
    pub(super) fn close(&mut self) {
        self.frozen = None;
        self.dead.clear();
    }

    /// What was not told again is over. True if the peer failed by it until now.
    pub(super) fn forget(&mut self, now: BootTime) -> bool {
        self.dead.retain(|_, (told, _)| now.since(*told) < OVER_AFTER);
        let is_answered = self.questions.forget(now);
        self.frozen.take_if(|frozen| OVER_AFTER <= now.since(frozen.last)).is_some() || is_answered
    }

    /// Until when it fails, if nothing more is told.
    pub(super) fn fails_until(&self) -> Option<BootTime> {
        let frozen = self.frozen.as_ref().map(|frozen| frozen.last + OVER_AFTER);
        frozen.or_else(|| self.questions.due())
    }

    pub(super) fn frozen(&self) -> Option<&Frozen> {
        self.frozen.as_ref()
    }

    /// To be looked at again, lest the end be missed.
    pub(super) fn due(&self) -> Option<BootTime> {
        let frozen = self.frozen.as_ref().map(|frozen| frozen.last);
        frozen
            .into_iter()
            .chain(self.dead.values().map(|(told, _)| *told))
            .max()
            .map(|last| last + OVER_AFTER)
            .into_iter()
            .chain(self.questions.due())
            .min()
    }

    /// Older than a connection that was made since, and still without an answer long after it.
    pub(super) fn stale(&self, now: BootTime, last_ok: Option<BootTime>, is_lossy: bool) -> Vec<&Stalled> {
        let Some(ok) = last_ok.filter(|ok| now.since(*ok) < STALE_LASTS) else { return Vec::new() };
        let least = if is_lossy { STALE_TIMEOUTS_IF_LOSSY } else { STALE_TIMEOUTS };
        let dead = self.dead.values().map(|(_, stalled)| stalled);
        dead.filter(|one| least <= one.retransmits && one.since < ok && STALE_LASTS <= ok.since(one.since))
            .collect()
    }
}

fn words(at: BootTime, stalled: &Stalled) -> String {
    let age = Human(at.since(stalled.since));
    let peer = stalled.flow.peer;
    match stalled.why {
        Stall::WindowClosed => format!("{peer} has taken nothing more for {age}: its window is closed"),
        Stall::Unread if stalled.halted => {
            format!("{peer} has not read what it was sent for {age}: it is stopped")
        }
        Stall::Unread | Stall::Held | Stall::Unanswered | Stall::NoReply => {
            format!("{peer} has not read what it was sent for {age}")
        }
    }
}
