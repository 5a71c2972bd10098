//! Families labelled by workload: a bounded number of workloads, the rest summed up as `other`.

use core::hash::Hash;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use prometheus_client::metrics::family::Family;

use crate::text::printable;

pub(super) const OTHER: &str = "other";

pub(super) struct Capped<Labels, Metric> {
    family: Family<Labels, Metric>,
    cap: usize,
    /// Series by workload key.
    series: Mutex<BTreeMap<String, BTreeSet<Labels>>>,
}

impl<Labels, Metric> Capped<Labels, Metric>
where
    Labels: Clone + Hash + Ord,
    Metric: Default + Clone,
{
    pub(super) fn new(family: Family<Labels, Metric>, cap: usize) -> Self {
        Self { family, cap, series: Mutex::default() }
    }

    /// Runs `change` on the workload's series, or on the one of all others once the cap is reached.
    pub(super) fn with(&self, workload: &str, labels: impl Fn(&str) -> Labels, change: impl FnOnce(&Metric)) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = if series.contains_key(workload) || series.len() < self.cap {
            let labels = labels(&printable(workload));
            series.entry(workload.into()).or_default().insert(labels.clone());
            labels
        } else {
            labels(OTHER)
        };
        change(&self.family.get_or_create_owned(&labels));
    }

    pub(super) fn forget(&self, workload: &str) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        for labels in series.remove(workload).unwrap_or_default() {
            self.family.remove(&labels);
        }
    }
}
