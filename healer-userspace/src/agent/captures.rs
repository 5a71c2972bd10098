//! Evidence is taken once per deadlock or hang, by a thread of its own, and before anything is done to the patient.

use std::{collections::BTreeMap, path::Path, path::PathBuf, thread};

use tokio::sync::oneshot;

use crate::{
    engine::{
        class::Class,
        command::IncidentId,
        diagnosis::Diagnosis,
        report::{Report, ReportFact},
    },
    sense::capture::capture,
    store::{captures, dir::StateDir},
};

/// Incidents remembered, so that none is captured twice.
const KNOWN_MAX: usize = 1024;

/// Told when the evidence of an incident is on disk, or cannot be had.
pub(super) type Taken = oneshot::Receiver<()>;

pub(super) struct Captures {
    state_dir: PathBuf,
    /// `None`: an act waits for it already, or has done so.
    known: BTreeMap<IncidentId, Option<Taken>>,
}

impl Captures {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned(), known: BTreeMap::new() }
    }

    /// Begins, if the report is the first that tells of somebody stuck.
    pub(super) fn note(&mut self, report: &Report) {
        let (Some(incident), ReportFact::Diagnosis(diagnosis)) = (report.incident, &report.fact) else {
            return;
        };
        if !matches!(diagnosis.class, Class::Deadlock | Class::Hang) || self.known.contains_key(&incident) {
            return;
        }
        while KNOWN_MAX <= self.known.len() {
            self.known.pop_first();
        }
        self.known.insert(incident, begin(self.state_dir.clone(), incident, diagnosis.clone()));
    }

    /// What an act on this incident has to wait for.
    pub(super) fn before_act(&mut self, incident: IncidentId) -> Option<Taken> {
        self.known.get_mut(&incident)?.take()
    }
}

fn begin(state_dir: PathBuf, incident: IncidentId, diagnosis: Diagnosis) -> Option<Taken> {
    let (done, taken) = oneshot::channel();
    let take = move || {
        let found = capture(&diagnosis, Path::new("/proc"));
        let kept = StateDir::open(&state_dir)
            .map_err(|error| error.to_string())
            .and_then(|dir| captures::keep(&dir, incident, &found).map_err(|error| error.to_string()));
        if let Err(error) = kept {
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
