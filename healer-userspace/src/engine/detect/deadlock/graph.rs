//! Who waits for whom. A thread is *dead* if nobody who could wake it will ever run:
//!
//! > D is the greatest set of stuck threads of which each has a wait whose owners all lie in D.
//!
//! Cycles, self-locks, chains into a cycle and whole parked processes are this one set. Removing until nothing
//! can be removed finds it, because a thread taken out can only make others live.

use std::collections::{BTreeMap, BTreeSet};

use crate::signal::waits::{Condition, Owner, Source, Task, Wait, WaitKind, WaitSnapshot, WaitingProcess};

/// Which waits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// Only those of which nothing but the owners is needed to be sure.
    Proof,
    /// Those by stack evidence too, and closed worlds that an interrupt could open.
    Any,
}

pub struct Graph<'a> {
    tasks: BTreeMap<u32, &'a Task>,
    processes: BTreeMap<u32, &'a WaitingProcess>,
    members: BTreeMap<u32, Vec<u32>>,
}

impl<'a> Graph<'a> {
    pub fn new(snapshot: &'a WaitSnapshot) -> Self {
        let mut members: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for task in &snapshot.tasks {
            members.entry(task.tgid).or_default().push(task.tid);
        }
        Self {
            tasks: snapshot.tasks.iter().map(|task| (task.tid, task)).collect(),
            processes: snapshot.processes.iter().map(|one| (one.process.pid, one)).collect(),
            members,
        }
    }

    pub fn task(&self, tid: u32) -> Option<&'a Task> {
        self.tasks.get(&tid).copied()
    }

    pub fn process(&self, tgid: u32) -> Option<&'a WaitingProcess> {
        self.processes.get(&tgid).copied()
    }

    /// The greatest set of threads that can never run again.
    pub fn dead(&self, grade: Grade) -> BTreeSet<u32> {
        let mut dead: BTreeSet<u32> =
            self.tasks.values().filter(|task| can_be_dead(task)).map(|task| task.tid).collect();
        loop {
            let before = dead.len();
            let whole = self.whole_processes(&dead, grade);
            for task in self.tasks.values() {
                if !task.waits.iter().any(|wait| self.holds(task, wait, &dead, &whole, grade)) {
                    dead.remove(&task.tid);
                }
            }
            if dead.len() == before {
                return dead;
            }
        }
    }

    /// The wait that says most about a dead thread.
    pub fn chosen(&self, tid: u32, dead: &BTreeSet<u32>) -> Option<&'a Wait> {
        let task = self.task(tid)?;
        let whole = self.whole_processes(dead, Grade::Any);
        let held = |wait: &&Wait| self.holds(task, wait, dead, &whole, Grade::Any);
        task.waits.iter().filter(held).min_by_key(|wait| wait.source)
    }

    /// Sources that each alone explain why `tid` is dead.
    pub fn sources(&self, tid: u32, dead: &BTreeSet<u32>) -> BTreeSet<Source> {
        let whole = self.whole_processes(dead, Grade::Any);
        let task = self.task(tid).into_iter();
        task.flat_map(|task| task.waits.iter().map(move |wait| (task, wait)))
            .filter(|(task, wait)| self.holds(task, wait, dead, &whole, Grade::Any))
            .map(|(_, wait)| wait.source)
            .collect()
    }

    /// The threads of the snapshot behind one owner.
    pub fn threads_of(&self, owner: Owner) -> Vec<u32> {
        match owner {
            Owner::Task(tid) => vec![tid],
            Owner::Process(tgid) => self.members.get(&tgid).cloned().unwrap_or_default(),
            Owner::Gone(_) => Vec::new(),
        }
    }

    fn holds(
        &self,
        task: &Task,
        wait: &Wait,
        dead: &BTreeSet<u32>,
        whole: &BTreeSet<u32>,
        grade: Grade,
    ) -> bool {
        self.counts(task, wait, grade)
            && !wait.owners.is_empty()
            && wait.owners.iter().all(|owner| match owner {
                Owner::Task(tid) => dead.contains(tid),
                Owner::Process(tgid) => whole.contains(tgid),
                Owner::Gone(_) => true,
            })
    }

    fn counts(&self, task: &Task, wait: &Wait, grade: Grade) -> bool {
        let is_sure = match wait.source {
            Source::Kernel if wait.kind.ends_by_a_signal() && self.may_be_timed_out(task) => return false,
            Source::Kernel => true,
            // Some programs unlock what another thread locked: not proved, as long as one of them runs.
            Source::Layout => !wait.owners.iter().any(|owner| matches!(owner, Owner::Gone(_))),
            Source::Stack => false,
            Source::ClosedWorld => {
                return self
                    .process(task.tgid)
                    .is_some_and(|one| is_closed(one, grade) || grade == Grade::Any && self.only_locks(one));
            }
        };
        is_sure || grade == Grade::Any
    }

    fn may_be_timed_out(&self, task: &Task) -> bool {
        self.process(task.tgid).is_some_and(WaitingProcess::may_be_timed_out)
    }

    /// Each of its threads waits for a lock, or for the end of another: no handler of a signal gives a lock back.
    fn only_locks(&self, one: &WaitingProcess) -> bool {
        let is_lock = |wait: &Wait| match wait.kind {
            WaitKind::Lock => wait.source == Source::ClosedWorld,
            WaitKind::Mutex
            | WaitKind::RobustMutex
            | WaitKind::PiMutex
            | WaitKind::Rwlock
            | WaitKind::Join => true,
            WaitKind::Wakeup
            | WaitKind::Flock
            | WaitKind::PosixLock
            | WaitKind::OfdLock
            | WaitKind::PipeWrite
            | WaitKind::PipeRead
            | WaitKind::SocketWrite
            | WaitKind::SocketRead
            | WaitKind::KernelLock
            | WaitKind::Vfork
            | WaitKind::Child => false,
        };
        let members = self.members.get(&one.process.pid).map_or(&[][..], Vec::as_slice);
        one.parked == 0
            && members.len() as u32 == one.threads
            && one.is_woken_by_signals_only()
            && members.iter().all(|tid| self.tasks[tid].waits.iter().any(is_lock))
    }

    /// Processes of which every thread is dead.
    fn whole_processes(&self, dead: &BTreeSet<u32>, grade: Grade) -> BTreeSet<u32> {
        let is_whole = |(tgid, one): &(&u32, &&WaitingProcess)| {
            let members = self.members.get(tgid).map_or(&[][..], Vec::as_slice);
            let parked_count = one.parked == 0 || is_closed(one, grade);
            parked_count
                && !members.is_empty()
                && members.len() as u32 + one.parked == one.threads
                && members.iter().all(|tid| dead.contains(tid))
        };
        self.processes.iter().filter(is_whole).map(|(tgid, _)| *tgid).collect()
    }
}

/// Who waits for a signal, or for a timer, does so by design: that is rest and no deadlock. An interrupt is a
/// person's, and nobody's work.
fn is_closed(one: &WaitingProcess, grade: Grade) -> bool {
    match grade {
        Grade::Proof => one.wakers.is_empty(),
        Grade::Any => !one.may_be_woken(),
    }
}

fn can_be_dead(task: &Task) -> bool {
    match task.condition {
        Condition::Stuck | Condition::Uninterruptible => true,
        Condition::Live
        | Condition::Stopped
        | Condition::Traced
        | Condition::Frozen
        | Condition::Exiting
        | Condition::Kernel
        | Condition::Compat => false,
    }
}
