//! What budgets, backoff and breakers remember: acts with a confirmed effect, and their outcomes.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    engine::{
        class::Class,
        command::{ActionKey, PastAct},
        policy::{Backoff, Breaker, Budget, Mode},
        time::BootTime,
    },
    identity::process::{ProcessId, WorkloadKey},
};

const KEEP: Duration = Duration::from_secs(24 * 3600);
const MAX_ACTS: usize = 8192;
/// Fewer that nothing heals are their own problem, not the node's.
const NODE_WORKLOADS: usize = 3;
/// Signals and ends of a target that we struck are ours for this long.
const LINGERS: Duration = Duration::from_secs(20);
const OWN_EFFECT: Duration = Duration::from_secs(120);

/// Shadow acts are counted apart: what was not done must not block what would be.
#[derive(Debug, Default)]
pub struct Ledger {
    acts: VecDeque<PastAct>,
    struck: BTreeMap<ProcessId, Blow>,
}

#[derive(Debug)]
struct Blow {
    at: BootTime,
    key: ActionKey,
    /// Until when an end is its doing, if that is known.
    until: Option<BootTime>,
}

/// Words that a tired person reads right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    Allowing,
    Tripped {
        failures: u32,
        probe_at: BootTime,
    },
    /// One act is allowed; it decides.
    Probing,
}

impl Ledger {
    /// Acts of an earlier life, oldest first.
    pub fn recall(&mut self, acts: Vec<PastAct>) {
        let since = core::mem::replace(&mut self.acts, acts.into());
        self.acts.extend(since);
    }

    /// Counts an act whose effect is confirmed (or unknown: then it may have happened).
    pub fn acted(&mut self, act: PastAct) {
        let now = act.at;
        self.acts.push_back(act);
        while self.acts.front().is_some_and(|act| now.since(act.at) > KEEP) || self.acts.len() > MAX_ACTS {
            self.acts.pop_front();
        }
    }

    pub fn verified(&mut self, workload: &WorkloadKey, class: Class, mode: Mode, healed: bool) {
        let last = self.acts.iter_mut().rev().find(|act| {
            act.workload == *workload && act.class == class && act.mode == mode && act.healed.is_none()
        });
        if let Some(act) = last {
            act.healed = Some(healed);
        }
    }

    /// When the last act on it began that healed it, whatever it had.
    pub fn last_cure(&self, workload: &WorkloadKey, mode: Mode) -> Option<BootTime> {
        let cures = self.acts.iter().filter(|act| act.workload == *workload && act.mode == mode);
        cures.filter(|act| act.healed == Some(true)).map(|act| act.at).max()
    }

    /// Remembers that we are about to strike a process, so that its end is ours.
    pub fn strike(&mut self, now: BootTime, target: ProcessId, key: ActionKey) {
        self.struck.retain(|_, blow| now.since(blow.at) < OWN_EFFECT);
        self.struck.insert(target, Blow { at: now, key, until: None });
    }

    /// It was not done after all.
    pub fn spare(&mut self, act: &ActionKey) {
        self.struck.retain(|_, blow| blow.key != *act);
    }

    /// A hook has done its work: what it has asked to end may do so for a while yet, and is its own again after that.
    pub fn worked(&mut self, now: BootTime, act: &ActionKey) {
        let its = self.struck.values_mut().filter(|blow| blow.key == *act);
        its.for_each(|blow| blow.until = Some(now + LINGERS));
    }

    pub fn struck_by(&self, now: BootTime, target: ProcessId) -> Option<&ActionKey> {
        let blow = self.struck.get(&target)?;
        blow.until.is_none_or(|until| now < until).then_some(&blow.key)
    }

    /// Acts within the window, and when the oldest of them leaves it.
    pub fn used(
        &self,
        now: BootTime,
        budget: Budget,
        mode: Mode,
        workload: Option<&WorkloadKey>,
    ) -> (u32, BootTime) {
        let within = self.acts.iter().filter(|act| {
            act.mode == mode
                && workload.is_none_or(|key| act.workload == *key)
                && now.since(act.at) < budget.per
        });
        let times: Vec<_> = within.map(|act| act.at).collect();
        // A budget of nothing is never free: it is looked at again when one that was just used up would be.
        let free_at = *times.first().unwrap_or(&now) + budget.per;
        (times.len() as u32, free_at)
    }

    /// When the next act on this workload may start.
    pub fn backoff_until(&self, workload: &WorkloadKey, mode: Mode, backoff: &Backoff) -> BootTime {
        let mut until = BootTime(0);
        let mut wait = backoff.initial;
        let mut last: Option<BootTime> = None;
        for act in self.acts.iter().filter(|act| act.workload == *workload && act.mode == mode) {
            match last {
                Some(before) if act.at.since(before) < backoff.reset_after => {
                    wait = wait.mul_f64(backoff.factor).min(backoff.max);
                }
                Some(_) | None => wait = backoff.initial,
            }
            until = act.at + wait;
            last = Some(act.at);
        }
        until
    }

    pub fn breaker(
        &self,
        now: BootTime,
        workload: &WorkloadKey,
        class: Class,
        mode: Mode,
        breaker: &Breaker,
    ) -> BreakerState {
        state(self.acts_of(workload, class, mode), now, breaker)
    }

    /// When the act began by which it tripped; None while it allows.
    pub fn tripped_at(
        &self,
        now: BootTime,
        workload: &WorkloadKey,
        class: Class,
        mode: Mode,
        breaker: &Breaker,
    ) -> Option<BootTime> {
        let state = self.breaker(now, workload, class, mode, breaker);
        (state != BreakerState::Allowing)
            .then(|| count(self.acts_of(workload, class, mode), breaker).tripped)?
    }

    fn acts_of(&self, workload: &WorkloadKey, class: Class, mode: Mode) -> impl Iterator<Item = &PastAct> {
        let is_of = move |act: &&PastAct| act.workload == *workload && act.class == class && act.mode == mode;
        self.acts.iter().filter(is_of)
    }

    pub fn node_tripped_at(&self, now: BootTime, mode: Mode, breaker: &Breaker) -> Option<BootTime> {
        let state = self.node_breaker(now, mode, breaker);
        let of_mode = |act: &&PastAct| act.mode == mode;
        (state != BreakerState::Allowing).then(|| count(self.acts.iter().filter(of_mode), breaker).tripped)?
    }

    /// Of the whole node: whatever it was that was acted on.
    /// One that is hopeless has a breaker of its own, and holds nobody else.
    pub fn node_breaker(&self, now: BootTime, mode: Mode, breaker: &Breaker) -> BreakerState {
        let acts = || self.acts.iter().filter(|act| act.mode == mode);
        let since_a_cure = acts().rev().take_while(|act| act.healed != Some(true));
        let failed = since_a_cure.filter(|act| act.healed == Some(false));
        let workloads: BTreeSet<_> = failed.map(|act| &act.workload).collect();
        if workloads.len() < NODE_WORKLOADS { BreakerState::Allowing } else { state(acts(), now, breaker) }
    }
}

/// Failures in a row, near enough to each other.
struct Count {
    failures: u32,
    last: BootTime,
    /// When they became too many.
    tripped: Option<BootTime>,
}

/// After these acts, oldest first. One that heals ends the count.
fn count<'a>(acts: impl Iterator<Item = &'a PastAct>, breaker: &Breaker) -> Count {
    let mut count = Count { failures: 0, last: BootTime(0), tripped: None };
    for act in acts {
        match act.healed {
            Some(true) => count.failures = 0,
            Some(false) => {
                let in_window = count.failures > 0 && act.at.since(count.last) < breaker.memory();
                count.failures = if in_window { count.failures + 1 } else { 1 };
                count.last = act.at;
                if count.failures == breaker.trip_after {
                    count.tripped = Some(act.at);
                }
            }
            None => {}
        }
    }
    count
}

fn state<'a>(acts: impl Iterator<Item = &'a PastAct>, now: BootTime, breaker: &Breaker) -> BreakerState {
    let Count { failures, last, .. } = count(acts, breaker);
    let probe_at = last + breaker.probe_after;
    if failures < breaker.trip_after {
        BreakerState::Allowing
    } else if now < probe_at {
        BreakerState::Tripped { failures, probe_at }
    } else {
        BreakerState::Probing
    }
}
