//! Jobs that systemd has been given by healer: an end that comes with one of them is nobody's stop.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

/// Acts are few, and a job is heard to end as soon as its act is over.
const KEPT: usize = 64;

/// By their paths, which systemd gives once a boot.
#[derive(Clone, Default)]
pub(super) struct OwnJobs(Arc<Mutex<VecDeque<String>>>);

impl OwnJobs {
    pub(super) fn note(&self, job: &str) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() == KEPT {
            jobs.pop_front();
        }
        jobs.push_back(job.to_owned());
    }

    pub(super) fn has(&self, job: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|own| own == job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_jobs_are_known() {
        let jobs = OwnJobs::default();
        let path = |number: usize| format!("/org/freedesktop/systemd1/job/{number}");
        (0..=KEPT).for_each(|number| jobs.clone().note(&path(number)));
        assert!(jobs.has(&path(1)) && jobs.has(&path(KEPT)));
        assert!(!jobs.has(&path(0)) && !jobs.has(&path(KEPT + 1)));
    }
}
