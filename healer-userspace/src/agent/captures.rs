//! Evidence is taken once per incident, by a thread of its own, and before anything is done to the patient: of deadlocks
//! and hangs always, of the rest if a rule says so.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
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
/// Looks at one time: a storm of incidents must not become one of threads.
const RUNNING_MAX: usize = 4;

/// Told when the evidence of an incident is on disk, or cannot be had.
pub(super) type Taken = oneshot::Receiver<()>;

pub(super) struct Captures {
    evidence: Evidence,
    /// `None`: an act waits for it already, or has done so.
    known: BTreeMap<IncidentId, Option<Taken>>,
    running: Arc<AtomicUsize>,
}

impl Captures {
    pub(super) fn new(evidence: Evidence) -> Self {
        Self { evidence, known: BTreeMap::new(), running: Arc::default() }
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
        let Some(running) = Running::one_more(&self.running) else {
            tracing::warn!("no evidence of {incident} is taken: {RUNNING_MAX} others are looked at");
            return None;
        };
        let (done, taken) = oneshot::channel();
        let evidence = self.evidence.clone();
        let take = move || {
            let _until_the_end = running;
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

/// One of those that look.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn one_more(count: &Arc<AtomicUsize>) -> Option<Self> {
        let more = |running| (running < RUNNING_MAX).then_some(running + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(count.clone()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
