//! Signals of containers whose name has been asked for: kept, in their order, until the answer is there.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::{
    engine::time::BootTime,
    identity::process::ProcessId,
    signal::{Exit, Fact, Signal},
};

/// Longer than any answer; a diagnosis under a bare id is better than none.
const WAITS_FOR: Duration = Duration::from_secs(1);
/// All containers together; what comes on top of that does not wait.
const KEPT_MAX: usize = 1024;
/// A container that its runtime did not know is not asked for again so soon.
const NAMELESS_FOR: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Unnamed {
    waiting: BTreeMap<String, (BootTime, Vec<Signal>)>,
    kept: usize,
    nameless: BTreeMap<String, BootTime>,
    unseen: BTreeMap<String, Exit>,
    /// Containers whose PID 1 was told to have ended.
    over: BTreeSet<String>,
}

impl Unnamed {
    /// False if there is no room.
    pub(super) fn keep(&mut self, now: BootTime, id: &str, signal: &Signal) -> bool {
        if KEPT_MAX <= self.kept {
            return false;
        }
        self.kept += 1;
        let (_, signals) = self.waiting.entry(id.to_owned()).or_insert((now, Vec::new()));
        signals.push(signal.clone());
        true
    }

    /// The runtime's word on how PID 1 has ended: which of the ends was that? If none of them, it is told with the name.
    pub(super) fn ended(&mut self, id: &str, told: Exit) {
        let signals = self.waiting.get_mut(id).map(|(_, signals)| signals);
        let is_it = |signal: &&mut Signal| matches!(&signal.fact, Fact::Exited(exit) if code_of(exit) == code_of(&told));
        // The last one: when PID 1 has ended the kernel lets nobody of its namespace live on.
        let last = signals.and_then(|signals| signals.iter_mut().rev().find(is_it));
        if let Some(process) = last.and_then(|last| last.process.as_mut()) {
            process.main = true;
        } else if self.unseen.len() < KEPT_MAX {
            self.unseen.insert(id.to_owned(), told);
        }
    }

    pub(super) fn holds_end_of(&self, dead: ProcessId) -> bool {
        let is_it = |signal: &Signal| {
            matches!(signal.fact, Fact::Exited(_))
                && signal.process.as_ref().is_some_and(|process| process.id() == dead)
        };
        self.waiting.values().any(|(_, signals)| signals.iter().any(is_it))
    }

    pub(super) fn note_end(&mut self, id: &str) {
        if KEPT_MAX <= self.over.len() {
            self.over.clear();
        }
        self.over.insert(id.to_owned());
    }

    pub(super) fn is_over(&self, id: &str) -> bool {
        self.over.contains(id)
    }

    /// How a container ended whose end the kernel told under no name, or not at all.
    pub(super) fn unseen_end(&mut self, id: &str) -> Option<Exit> {
        self.unseen.remove(id)
    }

    pub(super) fn named(&mut self, id: &str) -> Vec<Signal> {
        self.nameless.remove(id);
        let (_, signals) = self.waiting.remove(id).unwrap_or_default();
        self.kept -= signals.len();
        signals
    }

    pub(super) fn nameless(&mut self, now: BootTime, id: &str) -> Vec<Signal> {
        let signals = self.named(id);
        self.nameless.retain(|_, at| now.since(*at) < NAMELESS_FOR);
        if self.nameless.len() < KEPT_MAX {
            self.nameless.insert(id.to_owned(), now);
        }
        signals
    }

    pub(super) fn is_nameless(&self, now: BootTime, id: &str) -> bool {
        self.nameless.get(id).is_some_and(|at| now.since(*at) < NAMELESS_FOR)
    }

    pub(super) fn late(&mut self, now: BootTime) -> Vec<Signal> {
        let is_late = |(_, (since, _)): &(&String, &(BootTime, Vec<Signal>))| WAITS_FOR <= now.since(*since);
        let late: Vec<String> = self.waiting.iter().filter(is_late).map(|(id, _)| id.clone()).collect();
        late.iter().flat_map(|id| self.named(id)).collect()
    }
}

/// As a shell and the runtimes have it.
fn code_of(exit: &Exit) -> i32 {
    exit.signal.map_or(exit.code, |signal| 128 + signal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::process::Process;

    fn signal(at: u64) -> Signal {
        Signal { at: BootTime(at), process: None, fact: Fact::Execed }
    }

    fn second(at: u64) -> BootTime {
        BootTime(at * 1_000_000_000)
    }

    #[test]
    fn signals_wait_in_order_for_the_name_or_for_a_second() {
        let mut unnamed = Unnamed::default();
        for at in [1, 2] {
            assert!(unnamed.keep(second(10), "a", &signal(at)));
        }
        assert!(unnamed.keep(second(10), "b", &signal(3)));
        assert_eq!(unnamed.named("a"), [signal(1), signal(2)]);
        assert_eq!(unnamed.late(second(10)), []);
        assert_eq!(unnamed.late(second(11)), [signal(3)]);
        assert_eq!(unnamed.kept, 0);
    }

    #[test]
    fn whom_the_runtime_does_not_know_does_not_wait_again_soon() {
        let mut unnamed = Unnamed::default();
        assert!(unnamed.keep(second(10), "a", &signal(1)));
        assert_eq!(unnamed.nameless(second(10), "a"), [signal(1)]);
        assert!(unnamed.is_nameless(second(39), "a") && !unnamed.is_nameless(second(40), "a"));
    }

    #[test]
    fn the_end_that_was_pid_1s_is_told_by_its_code() {
        let mut unnamed = Unnamed::default();
        for code in [3, 0, 3, 1] {
            let fact = Fact::Exited(Exit { code, ..Exit::default() });
            let signal = Signal { at: BootTime(1), process: Some(Process::default()), fact };
            assert!(unnamed.keep(second(1), "a", &signal));
        }
        unnamed.ended("a", Exit { code: 3, ..Exit::default() });
        assert_eq!(unnamed.unseen_end("a"), None);
        let mains = unnamed.named("a").into_iter().map(|signal| signal.process.unwrap().main);
        assert_eq!(mains.collect::<Vec<_>>(), [false, false, true, false]);
    }

    #[test]
    fn an_end_that_nobody_saw_is_kept_for_the_name() {
        let mut unnamed = Unnamed::default();
        let exit = Exit { code: 4, ..Exit::default() };
        unnamed.ended("a", exit);
        assert_eq!(unnamed.unseen_end("a"), Some(exit));
        assert_eq!(unnamed.unseen_end("a"), None);
    }

    #[test]
    fn a_storm_does_not_wait() {
        let mut unnamed = Unnamed::default();
        let kept = (0..5000).filter(|at| unnamed.keep(second(1), "a", &signal(*at))).count();
        assert_eq!(kept, KEPT_MAX);
    }
}
