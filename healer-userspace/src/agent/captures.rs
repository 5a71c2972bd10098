//! Evidence is taken once per incident, by a thread of its own: of deadlocks and hangs always, of the rest if a rule says
//! so. An act waits for it, but not for long: of many at once the last may be looked at later, and their text says so.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::sync::oneshot;

use crate::{
    action::host::evidence::Evidence,
    engine::{
        class::Class,
        command::IncidentId,
        diagnosis::Diagnosis,
        policy::{
            PolicySet, Wanted,
            choose::{self, Owner},
        },
        report::{Report, ReportFact},
    },
};

/// Incidents remembered, so that none is captured twice.
const KNOWN_MAX: usize = 1024;
/// Looks at one time, and with those that wait for their turn: a storm of incidents must not become one of threads.
const RUNNING_MAX: usize = 4;
const ASKED_MAX: usize = 16;

/// Told when the evidence of an incident is on disk, or cannot be had.
pub(super) type Taken = oneshot::Receiver<()>;

pub(super) struct Captures {
    evidence: Evidence,
    /// `None`: an act waits for it already, or has done so.
    known: BTreeMap<IncidentId, Option<Taken>>,
    turns: Arc<Turns>,
}

impl Captures {
    pub(super) fn new(evidence: Evidence) -> Self {
        Self { evidence, known: BTreeMap::new(), turns: Arc::default() }
    }

    /// Begins, if the report is the first that tells of somebody whose evidence is wanted.
    pub(super) fn note(&mut self, report: &Report, policies: &PolicySet) {
        let (Some(incident), ReportFact::Diagnosis(diagnosis)) = (report.incident, &report.fact) else {
            return;
        };
        let Some(wanted) = wanted(diagnosis, policies).filter(|_| !self.known.contains_key(&incident)) else {
            return;
        };
        while KNOWN_MAX <= self.known.len() {
            self.known.pop_first();
        }
        let taken = self.begin(incident, diagnosis.clone(), wanted);
        self.known.insert(incident, taken);
    }

    /// What an act on this incident has to wait for.
    pub(super) fn before_act(&mut self, incident: IncidentId) -> Option<Taken> {
        self.known.get_mut(&incident)?.take()
    }

    fn begin(&self, incident: IncidentId, diagnosis: Diagnosis, wanted: Wanted) -> Option<Taken> {
        let Some(turn) = Turn::asked(&self.turns) else {
            tracing::warn!("no evidence of {incident} is taken: {ASKED_MAX} others are looked at, or wait");
            return None;
        };
        let (done, taken) = oneshot::channel();
        let evidence = self.evidence.clone();
        let take = move || {
            let _until_the_end = turn.comes();
            if let Err(error) = evidence.take(incident, &diagnosis, wanted) {
                tracing::warn!("the evidence of {incident} is not kept: {error}");
            }
            // Nobody may be waiting.
            done.send(()).ok();
        };
        match thread::Builder::new().name("healer-capture".to_owned()).spawn(take) {
            Ok(_) => Some(taken),
            Err(error) => {
                tracing::warn!("no evidence of {incident} is taken: {error}");
                None
            }
        }
    }
}

/// As the owner's first rule for this class says. What nobody asked for is without log lines: they may hold secrets.
fn wanted(diagnosis: &Diagnosis, policies: &PolicySet) -> Option<Wanted> {
    let is_stuck = matches!(diagnosis.class, Class::Deadlock | Class::Hang);
    let unasked = is_stuck.then(|| Wanted { log_lines: 0, ..Wanted::default() });
    let Owner::One(policy) = choose::owner(policies, &diagnosis.target) else {
        return unasked;
    };
    let answers =
        policy.rules.iter().filter(|rule| rule.when.iter().any(|when| when.class == diagnosis.class));
    answers.filter_map(|rule| rule.capture).next().or(unasked)
}

#[derive(Default)]
struct Turns {
    counts: Mutex<Counts>,
    freed: Condvar,
}

#[derive(Default)]
struct Counts {
    asked: usize,
    running: usize,
}

impl Turns {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those that wait for their turn.
struct Turn(Arc<Turns>);

/// One of those that look.
struct Running(Turn);

impl Turn {
    fn asked(turns: &Arc<Turns>) -> Option<Self> {
        let mut counts = turns.counts();
        let has_room = counts.asked < ASKED_MAX;
        counts.asked += usize::from(has_room);
        has_room.then(|| Self(turns.clone()))
    }

    /// Waits for it.
    fn comes(self) -> Running {
        let mut counts = self.0.counts();
        while RUNNING_MAX <= counts.running {
            counts = self.0.freed.wait(counts).unwrap_or_else(PoisonError::into_inner);
        }
        counts.running += 1;
        drop(counts);
        Running(self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.counts().asked -= 1;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let turns = &self.0.0;
        turns.counts().running -= 1;
        turns.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_fifth_waits_for_one_of_four_and_too_many_are_not_taken() {
        let turns = Arc::default();
        let four: Vec<_> = (0..RUNNING_MAX).filter_map(|_| Turn::asked(&turns)).map(Turn::comes).collect();
        let waiting: Vec<_> = (RUNNING_MAX..ASKED_MAX).filter_map(|_| Turn::asked(&turns)).collect();
        assert!(Turn::asked(&turns).is_none());
        let (told, came) = mpsc::channel();
        let fifth = waiting.into_iter().next_back().expect("there is room for more than four");
        let waits = thread::spawn(move || {
            drop(fifth.comes());
            told.send(())
        });
        assert!(came.recv_timeout(core::time::Duration::from_millis(50)).is_err());
        drop(four);
        assert_eq!(came.recv(), Ok(()));
        waits.join().expect("it has ended").expect("we listen");
        let counts = turns.counts();
        assert_eq!((counts.asked, counts.running), (0, 0));
    }
}
