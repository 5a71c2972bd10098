//! What is counted of memory.

use super::{
    Metrics,
    labels::{ReclaimLabels, WorkloadLabels},
};
use crate::signal::memory::MemorySnapshot;

impl Metrics {
    pub fn memory_cgroups(&self, count: usize) {
        self.memory_cgroups.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub fn memory_watch(&self, workload: &str) {
        let series = |workload: &str| WorkloadLabels { workload: workload.into() };
        self.memory_watches.with(workload, series, |counter| {
            counter.inc();
        });
    }

    pub fn memory(&self, snapshot: &MemorySnapshot) {
        for reclaim in snapshot.cgroups.iter().filter_map(|cgroup| cgroup.reclaim) {
            let add = |found, count| {
                self.reclaims.get_or_create_owned(&ReclaimLabels { found }).inc_by(count);
            };
            add("little", reclaim.poor);
            add("enough", reclaim.calls.saturating_sub(reclaim.poor));
        }
    }

    pub fn oom_kill(&self, workload: &str) {
        let series = |workload: &str| WorkloadLabels { workload: workload.into() };
        self.workload_oom_kills.with(workload, series, |counter| {
            counter.inc();
        });
    }
}
