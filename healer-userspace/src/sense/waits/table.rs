//! Who sleeps, kept from scan to scan: a pass only tells what has changed.

use std::collections::{BTreeMap, BTreeSet};

use healer_common::task_scan::TaskRecord;

use super::{
    files,
    futex::{Call, Sight},
};
use crate::{sense::poll::tasks::Pass, signal::waits::Condition};

/// Sleepers kept at most: 10 MB.
const SLEEPERS_MAX: usize = 32 * 1024;
/// `TASK_UNINTERRUPTIBLE`, `__TASK_STOPPED`, `__TASK_TRACED`, `TASK_FROZEN` (include/linux/sched.h).
const UNINTERRUPTIBLE: u32 = 2;
const STOPPED: u32 = 4;
const TRACED: u32 = 8;
const FROZEN: u32 = 0x8000;
/// `TASK_WAKEKILL`: SIGKILL reaches it all the same; `TASK_NOLOAD`: waits for work by design.
const WAKEKILL: u32 = 0x100;
const NOLOAD: u32 = 0x400;
/// `JOBCTL_TRAP_FREEZE` (include/linux/sched/jobctl.h): a frozen v2 cgroup; its sleepers look like any other.
const TRAP_FREEZE: u64 = 1 << 23;

/// A thread that has slept for at least two scans.
#[derive(Clone, Debug)]
pub(crate) struct Sleeper {
    pub(crate) record: TaskRecord,
    pub(crate) call: Option<Call>,
    /// `None` until it was looked at.
    pub(crate) sight: Option<Sight>,
}

#[derive(Default)]
struct Process {
    threads: BTreeSet<u32>,
    version: u64,
}

#[derive(Default)]
pub(crate) struct Table {
    sleepers: BTreeMap<u32, Sleeper>,
    processes: BTreeMap<u32, Process>,
    /// Whom every scan has to look at: most sleepers wait for nobody in particular, and are settled.
    open: BTreeSet<u32>,
    /// Who takes no signal.
    deaf: BTreeSet<u32>,
    changes: u64,
    /// Sleepers that found no room.
    pub(crate) left_out: u64,
}

impl Table {
    pub(crate) fn apply(&mut self, pass: &Pass) {
        if pass.is_full {
            let there: BTreeSet<u32> = pass.records.iter().map(|record| record.pid).collect();
            let gone: Vec<u32> = self.sleepers.keys().filter(|tid| !there.contains(tid)).copied().collect();
            gone.into_iter().for_each(|tid| self.remove(tid));
        }
        for record in &pass.records {
            if record.flags & TaskRecord::LEFT != 0 {
                self.remove(record.pid);
            } else if !self.get(record.pid).is_some_and(|known| is_same(&known.record, record)) {
                self.insert(*record);
            }
        }
    }

    pub(crate) fn insert(&mut self, record: TaskRecord) {
        self.remove(record.pid);
        if SLEEPERS_MAX <= self.sleepers.len() {
            self.left_out += 1;
            return;
        }
        self.changes += 1;
        let process = self.processes.entry(record.tgid).or_default();
        process.threads.insert(record.pid);
        process.version = self.changes;
        let call = Call::of(&record);
        if call.is_some() || files::is_candidate(&record) || condition(&record) == Condition::Uninterruptible
        {
            self.open.insert(record.pid);
        }
        if is_deaf(&record) {
            self.deaf.insert(record.pid);
        }
        self.sleepers.insert(record.pid, Sleeper { record, call, sight: None });
    }

    /// It runs, or it is no more.
    pub(crate) fn remove(&mut self, tid: u32) {
        let Some(sleeper) = self.sleepers.remove(&tid) else {
            return;
        };
        self.changes += 1;
        self.open.remove(&tid);
        self.deaf.remove(&tid);
        if let Some(process) = self.processes.get_mut(&sleeper.record.tgid) {
            process.threads.remove(&tid);
            process.version = self.changes;
            if process.threads.is_empty() {
                self.processes.remove(&sleeper.record.tgid);
            }
        }
    }

    pub(crate) fn get(&self, tid: u32) -> Option<&Sleeper> {
        self.sleepers.get(&tid)
    }

    /// Those who may wait for somebody in particular.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Sleeper> {
        self.open.iter().filter_map(|tid| self.sleepers.get(tid))
    }

    /// Those whom no signal reaches.
    pub(crate) fn deaf(&self) -> impl Iterator<Item = &Sleeper> {
        self.deaf.iter().filter_map(|tid| self.sleepers.get(tid))
    }

    /// It may wait for somebody in particular.
    pub(crate) fn is_open(&self, sleeper: &Sleeper) -> bool {
        self.open.contains(&sleeper.record.pid)
    }

    /// Looks at the open ones; `look` gives what it sees, if it has to look at all.
    pub(crate) fn look(&mut self, look: impl Fn(&Sleeper) -> Option<Sight>) {
        let Self { sleepers, open, .. } = self;
        open.retain(|tid| {
            let Some(sleeper) = sleepers.get_mut(tid) else {
                return false;
            };
            sleeper.sight = look(sleeper);
            sleeper.sight.as_ref().is_none_or(Sight::may_change)
        });
    }

    /// Thread groups of which somebody sleeps.
    pub(crate) fn processes(&self) -> impl Iterator<Item = u32> {
        self.processes.keys().copied()
    }

    /// The sleeping threads of a process.
    pub(crate) fn sleepers_of(&self, tgid: u32) -> impl Iterator<Item = &Sleeper> {
        let threads = self.processes.get(&tgid).into_iter().flat_map(|process| &process.threads);
        threads.filter_map(|tid| self.sleepers.get(tid))
    }

    /// How many of its threads sleep, if that is all of them.
    pub(crate) fn all_asleep(&self, tgid: u32) -> Option<usize> {
        let count = self.processes.get(&tgid)?.threads.len();
        let threads = self.sleepers_of(tgid).next()?.record.threads;
        (threads as usize == count).then_some(count)
    }

    /// Equal as long as no sleeper of the process has run and none has come or gone.
    pub(crate) fn version(&self, tgid: u32) -> u64 {
        self.processes.get(&tgid).map_or(0, |process| process.version)
    }
}

fn is_same(one: &TaskRecord, other: &TaskRecord) -> bool {
    (one.start_boot_ns, one.switches, one.flags) == (other.start_boot_ns, other.switches, other.flags)
}

/// Whether the thread sleeps in its own right, or somebody holds it.
pub(crate) fn condition(record: &TaskRecord) -> Condition {
    if record.flags & TaskRecord::EXITING != 0 {
        Condition::Exiting
    } else if record.state & STOPPED != 0 {
        Condition::Stopped
    } else if record.state & TRACED != 0 || record.ptrace != 0 {
        Condition::Traced
    } else if record.state & FROZEN != 0 || record.jobctl & TRAP_FREEZE != 0 {
        Condition::Frozen
    } else if record.flags & TaskRecord::COMPAT != 0 {
        Condition::Compat
    } else if record.state == 0 {
        Condition::Live
    } else if record.state & UNINTERRUPTIBLE != 0 {
        Condition::Uninterruptible
    } else {
        Condition::Stuck
    }
}

/// No signal reaches it, not even SIGKILL. A frozen v2 cgroup lets SIGKILL through.
pub(crate) fn is_deaf(record: &TaskRecord) -> bool {
    let uninterruptible = record.state & UNINTERRUPTIBLE != 0 && record.state & (WAKEKILL | NOLOAD) == 0;
    uninterruptible || record.state & FROZEN != 0
}

/// The name that the thread has given itself.
pub(crate) fn comm(record: &TaskRecord) -> String {
    let end = record.comm.iter().position(|byte| *byte == 0).unwrap_or(record.comm.len());
    String::from_utf8_lossy(&record.comm[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use healer_common::event::wire::Wire as _;

    use super::*;

    fn record(pid: u32, switches: u64, flags: u32) -> TaskRecord {
        TaskRecord { pid, tgid: 1, switches, flags, state: 1, ..TaskRecord::ZERO }
    }

    #[test]
    fn a_full_pass_forgets_who_is_not_in_it() {
        let mut table = Table::default();
        table.apply(&Pass { is_full: true, records: vec![record(1, 5, 0), record(2, 5, 0)] });
        let before = table.version(1);
        table.apply(&Pass { is_full: true, records: vec![record(1, 5, 0), record(2, 5, 0)] });
        assert_eq!(table.version(1), before);
        table.apply(&Pass { is_full: false, records: vec![record(2, 5, TaskRecord::LEFT)] });
        assert!(table.get(2).is_none() && table.get(1).is_some());
        table.apply(&Pass { is_full: true, records: vec![record(2, 6, 0)] });
        assert!(table.get(1).is_none());
        assert_ne!(table.version(1), before);
    }

    #[test]
    fn whoever_is_held_is_not_stuck() {
        let mut one = record(1, 5, 0);
        assert_eq!(condition(&one), Condition::Stuck);
        one.jobctl = TRAP_FREEZE;
        assert_eq!(condition(&one), Condition::Frozen);
        one.state = 0x104;
        assert_eq!(condition(&one), Condition::Stopped);
        one.flags = TaskRecord::EXITING;
        assert_eq!(condition(&one), Condition::Exiting);
    }
}
