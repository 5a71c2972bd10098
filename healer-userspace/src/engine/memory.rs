//! The last fatal signals and OOM choices, kept until the death that they explain.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::time::BootTime;
use crate::{
    identity::process::ProcessId,
    signal::{Fact, OomKill, Signal, SignalSent},
};

const MAX_REMEMBERED: usize = 4096;
/// A group signal reaches its members within this time of the first.
const GROUP_SPAN: Duration = Duration::from_millis(5);
/// An OOM victim that does not exit (D state, frozen) is reported without its exit.
pub(super) const KEEP: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Memory {
    signals: BTreeMap<ProcessId, Vec<(BootTime, SignalSent)>>,
    ooms: BTreeMap<ProcessId, (BootTime, OomKill)>,
    order: VecDeque<(BootTime, ProcessId)>,
    /// Records lost, with the time at which the loss was noticed.
    losses: VecDeque<(BootTime, u64)>,
}

impl Memory {
    pub fn note(&mut self, now: BootTime, signal: &Signal) {
        if let Fact::Lost { count, .. } = signal.fact {
            self.losses.push_back((now, count));
            self.losses.truncate(MAX_REMEMBERED);
        }
        let Some(process) = &signal.process else {
            return;
        };
        match &signal.fact {
            Fact::SignalSent(sent) => {
                self.signals.entry(process.id()).or_default().push((signal.at, sent.clone()));
                self.order.push_back((now, process.id()));
            }
            Fact::OomKilled(oom) => {
                self.ooms.insert(process.id(), (signal.at, oom.clone()));
                self.order.push_back((now, process.id()));
            }
            Fact::Exited(_)
            | Fact::Execed
            | Fact::Registered(_)
            | Fact::Deregistered
            | Fact::StopAsked { .. }
            | Fact::Answered { .. }
            | Fact::Waits(_)
            | Fact::Work(_)
            | Fact::Probed(_)
            | Fact::Lost { .. } => {}
        }
        self.forget_old(now);
    }

    /// The OOM choice that ended `id`, if one did.
    pub fn oom(&self, id: ProcessId) -> Option<&(BootTime, OomKill)> {
        self.ooms.get(&id)
    }

    /// The last signal `number` generated for `id`.
    pub fn signal(&self, id: ProcessId, number: i32) -> Option<&(BootTime, SignalSent)> {
        self.signals.get(&id)?.iter().rev().find(|(_, sent)| sent.signal == number)
    }

    /// The kernel said that the process ignores this signal.
    pub fn ignores(&self, id: ProcessId, number: i32) -> bool {
        self.signal(id, number).is_some_and(|(_, sent)| sent.ignored)
    }

    /// How many processes got the same signal from the same sender at the same moment.
    pub fn struck_together(&self, at: BootTime, sent: &SignalSent) -> usize {
        let same = |(when, other): &&(BootTime, SignalSent)| {
            other.signal == sent.signal
                && other.sender.as_ref().map(|party| party.id) == sent.sender.as_ref().map(|party| party.id)
                && when.since(at).max(at.since(*when)) <= GROUP_SPAN
        };
        self.signals.values().filter(|list| list.iter().any(|entry| same(&entry))).count()
    }

    /// Records lost since `from`.
    pub fn lost_since(&self, from: BootTime) -> u64 {
        self.losses.iter().filter(|(at, _)| *at >= from).map(|(_, count)| count).sum()
    }

    fn forget_old(&mut self, now: BootTime) {
        while let Some(&(at, id)) = self.order.front() {
            if now.since(at) < KEEP && self.order.len() <= MAX_REMEMBERED {
                break;
            }
            self.order.pop_front();
            if !self.order.iter().any(|(_, later)| *later == id) {
                self.signals.remove(&id);
                self.ooms.remove(&id);
            }
        }
        while self.losses.front().is_some_and(|(at, _)| now.since(*at) > 2 * KEEP) {
            self.losses.pop_front();
        }
    }
}
