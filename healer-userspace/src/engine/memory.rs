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
    /// Of each process the oldest first.
    signals: BTreeMap<ProcessId, VecDeque<(BootTime, SignalSent)>>,
    ooms: BTreeMap<ProcessId, (BootTime, OomKill)>,
    /// Everything above, in the order in which it is forgotten.
    order: VecDeque<Noted>,
    /// Records lost, with the time at which the loss was noticed.
    losses: VecDeque<(BootTime, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Noted {
    now: BootTime,
    id: ProcessId,
    /// When an OOM choice was made; `None` for a signal.
    oom_at: Option<BootTime>,
}

impl Memory {
    pub fn note(&mut self, now: BootTime, signal: &Signal) {
        if let Fact::Lost { count, .. } = signal.fact {
            self.losses.push_back((now, count));
            if MAX_REMEMBERED < self.losses.len() {
                self.losses.pop_front();
            }
        }
        let Some(process) = &signal.process else {
            return;
        };
        match &signal.fact {
            Fact::SignalSent(sent) => {
                let list = self.signals.entry(process.id()).or_insert_with(|| VecDeque::with_capacity(1));
                list.push_back((signal.at, sent.clone()));
                self.order.push_back(Noted { now, id: process.id(), oom_at: None });
            }
            Fact::OomKilled(oom) => {
                self.ooms.insert(process.id(), (signal.at, oom.clone()));
                self.order.push_back(Noted { now, id: process.id(), oom_at: Some(signal.at) });
            }
            Fact::Exited(_)
            | Fact::Execed
            | Fact::Registered(_)
            | Fact::Deregistered
            | Fact::StopAsked { .. }
            | Fact::Answered { .. }
            | Fact::Waits(_)
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
        while let Some(&noted) = self.order.front() {
            if now.since(noted.now) < KEEP && self.order.len() <= MAX_REMEMBERED {
                break;
            }
            self.order.pop_front();
            self.forget(noted);
        }
        while self.losses.front().is_some_and(|(at, _)| now.since(*at) > 2 * KEEP) {
            self.losses.pop_front();
        }
    }

    fn forget(&mut self, noted: Noted) {
        if let Some(at) = noted.oom_at {
            // It may have been chosen again since.
            if self.ooms.get(&noted.id).is_some_and(|(chosen, _)| *chosen == at) {
                self.ooms.remove(&noted.id);
            }
        } else if let Some(list) = self.signals.get_mut(&noted.id) {
            list.pop_front();
            if list.is_empty() {
                self.signals.remove(&noted.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::process::Process;

    fn sent(pid: u32, at: BootTime) -> Signal {
        let sent = SignalSent {
            signal: libc::SIGTERM,
            si_code: 0,
            sender: None,
            group: true,
            ignored: false,
            fault_address: 0,
        };
        let process = Process { pid, ..Process::default() };
        Signal { at, process: Some(process), fact: Fact::SignalSent(sent) }
    }

    fn id(pid: u32) -> ProcessId {
        ProcessId { pid, start: BootTime(0) }
    }

    #[test]
    fn a_storm_on_one_process_is_bounded() {
        let mut memory = Memory::default();
        for at in 0..3 * MAX_REMEMBERED as u64 {
            memory.note(BootTime(at), &sent(7, BootTime(at)));
        }
        assert_eq!(memory.signals[&id(7)].len(), MAX_REMEMBERED);
        assert_eq!(memory.order.len(), MAX_REMEMBERED);
    }

    #[test]
    fn what_is_old_is_forgotten_and_the_rest_is_not() {
        let mut memory = Memory::default();
        let later = BootTime(0) + KEEP;
        memory.note(BootTime(0), &sent(7, BootTime(0)));
        memory.note(BootTime(0), &sent(8, BootTime(0)));
        memory.note(later, &sent(8, later));
        assert!(memory.signal(id(7), libc::SIGTERM).is_none());
        assert_eq!(memory.signal(id(8), libc::SIGTERM).map(|(at, _)| *at), Some(later));
        assert_eq!(memory.signals.len(), 1);
    }
}
