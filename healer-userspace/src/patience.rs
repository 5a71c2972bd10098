//! What may wait for somebody else is asked beside, and not waited for long: file systems that hang, the memory of a
//! process that holds the lock of its mappings.

use core::time::Duration;
use std::{
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};

const PATIENCE: Duration = Duration::from_millis(100);
/// So many may hang at a time; then nobody else is asked.
const HUNG_MAX: usize = 4;

/// Whatever needs the memory of another process (`mmap_lock`, fs/proc/base.c, mm/process_vm_access.c).
pub(crate) static MEMORY: Patience = Patience::new();

/// Whatever asks a file system for more than its names: a dead server of FUSE or NFS answers never.
pub(crate) static FILES: Patience = Patience::new();

type Job = Box<dyn FnOnce() + Send>;

/// Helpers that ask, and about whom those hang that have not come back.
pub(crate) struct Patience(Mutex<Helpers>);

struct Helpers {
    idle: Option<Helper>,
    hung: Vec<(String, Helper)>,
}

/// Ends once nobody asks it any more, and has its answer.
struct Helper {
    jobs: mpsc::Sender<Job>,
    done: mpsc::Receiver<()>,
}

impl Patience {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Helpers { idle: None, hung: Vec::new() }))
    }

    /// `None`: it hangs, hangs still since it was asked before, or too many do.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        about: &str,
        ask: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let helper = self.helpers().free(about)?;
        let (answer, answered) = mpsc::channel();
        // Late: nobody waits for it.
        let job = move || answer.send(ask()).unwrap_or_default();
        helper.jobs.send(Box::new(job)).ok()?;
        let is_done = helper.done.recv_timeout(PATIENCE).is_ok();
        let mut helpers = self.helpers();
        if is_done {
            helpers.idle = Some(helper);
        } else {
            helpers.hung.push((about.to_owned(), helper));
        }
        answered.try_recv().ok().filter(|_| is_done)
    }

    /// The helper that waits for work ends. A thread keeps the rights with which it began.
    pub(crate) fn rest(&self) {
        self.helpers().idle = None;
    }

    fn helpers(&self) -> MutexGuard<'_, Helpers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Helpers {
    fn free(&mut self, about: &str) -> Option<Helper> {
        let still = |helper: &Helper| matches!(helper.done.try_recv(), Err(mpsc::TryRecvError::Empty));
        self.hung.retain(|(_, helper)| still(helper));
        if HUNG_MAX <= self.hung.len() || self.hung.iter().any(|(known, _)| known == about) {
            return None;
        }
        self.idle.take().or_else(Helper::start)
    }
}

impl Helper {
    fn start() -> Option<Self> {
        let (jobs, asked) = mpsc::channel::<Job>();
        let (answer, done) = mpsc::channel();
        let work = move || {
            for job in asked {
                job();
                if answer.send(()).is_err() {
                    return;
                }
            }
        };
        let helper = thread::Builder::new().name("healer-asks".to_owned()).stack_size(128 << 10);
        helper.spawn(work).ok()?;
        Some(Self { jobs, done })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock;

    #[test]
    fn who_hangs_is_waited_for_once_and_the_others_answer() {
        let patience = Patience::new();
        let lock = Arc::new(Mutex::new(()));
        let held = lock.lock().unwrap();
        let hangs = |about: &str| {
            let lock = Arc::clone(&lock);
            patience.ask(about, move || drop(lock.lock().unwrap())).is_none()
        };
        assert!(hangs("dead"));
        let began = clock::boot();
        assert!((0..1000).all(|_| hangs("dead")));
        assert!(clock::boot().since(began) < PATIENCE * 50, "not one patience for each");
        assert!((0..100).any(|_| patience.ask("well", || 7) == Some(7)));
        assert_eq!((0..10).filter(|number| hangs(&format!("dead/{number}"))).count(), 10);
        assert_eq!(patience.helpers().hung.len(), HUNG_MAX);
        assert_eq!(patience.ask("well", || 7), None, "no fifth helper");
        drop(held);
        let again = (0..600).any(|_| {
            thread::sleep(Duration::from_millis(50));
            !hangs("dead")
        });
        assert!(again, "it answers again");
    }
}
