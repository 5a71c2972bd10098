//! Open incidents, by number and by workload: most signals concern a workload that has none.

use std::collections::{BTreeMap, BTreeSet};

use super::{command::IncidentId, incident::Incident};
use crate::identity::process::WorkloadKey;

#[derive(Debug, Default)]
pub(super) struct Incidents {
    open: BTreeMap<IncidentId, Incident>,
    of_workload: BTreeMap<WorkloadKey, BTreeSet<IncidentId>>,
}

impl Incidents {
    pub(super) fn insert(&mut self, id: IncidentId, incident: Incident) {
        match self.of_workload.get_mut(&incident.workload) {
            Some(ids) => drop(ids.insert(id)),
            None => drop(self.of_workload.insert(incident.workload.clone(), BTreeSet::from([id]))),
        }
        self.open.insert(id, incident);
    }

    /// For a step, after which it is inserted again; [`Incidents::forget`] ends it.
    pub(super) fn remove(&mut self, id: &IncidentId) -> Option<Incident> {
        self.open.remove(id)
    }

    pub(super) fn forget(&mut self, id: IncidentId) -> Option<Incident> {
        let incident = self.open.remove(&id)?;
        if let Some(ids) = self.of_workload.get_mut(&incident.workload) {
            ids.remove(&id);
            if ids.is_empty() {
                self.of_workload.remove(&incident.workload);
            }
        }
        Some(incident)
    }

    pub(super) fn get_mut(&mut self, id: &IncidentId) -> Option<&mut Incident> {
        self.open.get_mut(id)
    }

    pub(super) fn ids_of(&self, workload: &WorkloadKey) -> Vec<IncidentId> {
        self.of_workload.get(workload).into_iter().flatten().copied().collect()
    }

    pub(super) fn of(&self, workload: &WorkloadKey) -> impl Iterator<Item = &Incident> {
        let ids = self.of_workload.get(workload).into_iter().flatten();
        ids.filter_map(|id| self.open.get(id))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Incident> {
        self.open.values()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Incident> {
        self.open.values_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}
