//! Looks at a patient and keeps what it sees beside the audit. Touches nothing.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    engine::{
        command::{Act, IncidentId},
        diagnosis::Diagnosis,
        policy::Wanted,
    },
    sense::capture::{Sources, capture},
    store::{captures, dir::StateDir},
};

#[derive(Clone, Debug)]
pub struct Evidence {
    state_dir: PathBuf,
    sources: Sources,
    /// What is added to a file was read from it before.
    writing: Arc<Mutex<()>>,
}

impl Evidence {
    pub fn new(state_dir: &Path, sources: Sources) -> Self {
        Self { state_dir: state_dir.to_owned(), sources, writing: Arc::default() }
    }

    /// Beside what is kept of the incident already. Takes `wanted.max_time` and a little.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn take(&self, incident: IncidentId, diagnosis: &Diagnosis, wanted: Wanted) -> io::Result<String> {
        let found = capture(diagnosis, wanted, &self.sources);
        let dir = StateDir::open(&self.state_dir).map_err(io::Error::other)?;
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        captures::keep(&dir, incident, &found)?;
        let graph = if found.svg.is_some() { " and a graph of who waits for whom" } else { "" };
        Ok(format!("{} KiB of evidence{graph} are kept with {incident}", found.text.len().div_ceil(1024)))
    }

    /// As a rung wants it: of the patient as it is now.
    pub(super) fn again(&self, act: &Act) -> io::Result<String> {
        let told: serde_json::Value = serde_json::from_str(&act.incident_json)?;
        let mut diagnoses: Vec<Diagnosis> = serde_json::from_value(told["diagnoses"].clone())?;
        let answered = diagnoses.iter().position(|one| one.class == act.class);
        let at = answered.ok_or_else(|| io::Error::other("the finding is gone"))?;
        let diagnosis = Diagnosis { target: act.target.clone(), ..diagnoses.swap_remove(at) };
        self.take(act.incident, &diagnosis, act.rung.terms.wanted.unwrap_or_default())
    }
}
