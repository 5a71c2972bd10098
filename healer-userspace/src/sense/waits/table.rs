//! Who sleeps, kept from scan to scan: a pass only tells what has changed.

use std::collections::{BTreeMap, BTreeSet};

use healer_common::task_scan::TaskRecord;

use super::{
    condition::{condition, is_deaf},
    file_system::Found,
    files,
    futex::{Call, Sight},
};
use crate::{
    engine::time::BootTime,
    sense::poll::tasks::Pass,
    signal::waits::{Condition, FileSystem, Wait},
};

/// Sleepers kept at most: 10 MB.
const SLEEPERS_MAX: usize = 32 * 1024;
/// A thread that has slept for at least two scans.
#[derive(Clone, Debug)]
pub(crate) struct Sleeper {
    pub(crate) record: TaskRecord,
    pub(crate) call: Option<Call>,
    /// `None` until it was looked at.
    pub(crate) sight: Option<Sight>,
    /// It was looked at where the word of a shared futex lies, or which file system its call is about.
    pub(crate) is_placed: bool,
    /// For its file system.
    pub(crate) looks: u8,
    pub(crate) file_system: Option<FileSystem>,
}

/// Those of its threads that sleep.
#[derive(Default)]
struct Process {
    /// Only a thread of their own process can wake them.
    parked: BTreeSet<u32>,
    others: BTreeSet<u32>,
    /// Threads that it has, and when its leader began, as the last record of one of them tells.
    threads: u32,
    began: u64,
    version: u64,
}

impl Process {
    fn len(&self) -> usize {
        self.parked.len() + self.others.len()
    }

    fn all(&self) -> Option<usize> {
        (self.threads as usize == self.len()).then_some(self.len())
    }
}

#[derive(Default)]
pub(crate) struct Table {
    sleepers: BTreeMap<u32, Sleeper>,
    processes: BTreeMap<u32, Process>,
    /// Whom every scan has to look at: most sleepers wait for nobody in particular, and are settled.
    open: BTreeSet<u32>,
    /// By process, who sleeps on a lock that names no owner: nothing new is seen there before it has run.
    ownerless: BTreeSet<(u32, u32)>,
    /// Who joins a thread. Its end wakes them.
    joins: BTreeMap<u32, Wait>,
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
            } else if self.get(record.pid).is_some_and(|known| is_same(&known.record, record)) {
                self.count_threads(record);
            } else {
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
        process.others.insert(record.pid);
        (process.threads, process.began) = (record.threads, record.leader_start_boot_ns);
        process.version = self.changes;
        let call = Call::of(&record);
        if call.is_some() || files::is_candidate(&record) || condition(&record) == Condition::Uninterruptible
        {
            self.open.insert(record.pid);
        }
        if is_deaf(&record) {
            self.deaf.insert(record.pid);
        }
        let sleeper = Sleeper { record, call, sight: None, is_placed: false, looks: 0, file_system: None };
        self.sleepers.insert(record.pid, sleeper);
    }

    /// Some may have come or gone that were never seen to sleep.
    fn count_threads(&mut self, record: &TaskRecord) {
        let process = self.processes.get_mut(&record.tgid);
        if let Some(process) = process.filter(|process| process.threads != record.threads) {
            self.changes += 1;
            (process.threads, process.version) = (record.threads, self.changes);
        }
    }

    /// It runs, or it is no more.
    pub(crate) fn remove(&mut self, tid: u32) {
        let Some(sleeper) = self.sleepers.remove(&tid) else {
            return;
        };
        self.changes += 1;
        self.open.remove(&tid);
        self.ownerless.remove(&(sleeper.record.tgid, tid));
        self.joins.remove(&tid);
        self.deaf.remove(&tid);
        if let Some(process) = self.processes.get_mut(&sleeper.record.tgid) {
            process.parked.remove(&tid);
            process.others.remove(&tid);
            process.version = self.changes;
            if process.len() == 0 {
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

    /// Processes with threads that sleep on a lock that names no owner.
    pub(crate) fn ownerless(&self) -> Vec<u32> {
        let mut tgids: Vec<u32> = self.ownerless.iter().map(|(tgid, _)| *tgid).collect();
        tgids.dedup();
        tgids
    }

    /// Those of one process.
    pub(crate) fn ownerless_of(&self, tgid: u32) -> impl Iterator<Item = u32> {
        self.ownerless.range((tgid, 0)..=(tgid, u32::MAX)).map(|(_, tid)| *tid)
    }

    pub(crate) fn joins(&self) -> &BTreeMap<u32, Wait> {
        &self.joins
    }

    /// Whom it joins is known, or that it joins nobody.
    pub(crate) fn settle(&mut self, tid: u32, join: Option<Wait>) {
        self.open.remove(&tid);
        self.joins.extend(join.map(|join| (tid, join)));
    }

    /// What was settled in these processes is to be looked at once more.
    pub(crate) fn reopen(&mut self, tgids: &BTreeSet<u32>) {
        for tgid in tgids {
            let process = self.processes.get(tgid).into_iter();
            let threads = process.flat_map(|process| process.parked.iter().chain(&process.others));
            for tid in threads.copied() {
                if self.ownerless.remove(&(*tgid, tid)) || self.joins.remove(&tid).is_some() {
                    self.open.insert(tid);
                }
            }
        }
    }

    /// Where the word of its shared futex lies: in memory of its own it is as good as private.
    pub(crate) fn place(&mut self, tid: u32, is_own: bool) {
        let Some(sleeper) = self.sleepers.get_mut(&tid) else { return };
        sleeper.is_placed = true;
        if let Some(call) = sleeper.call.as_mut().filter(|_| is_own) {
            call.is_private = true;
        }
    }

    /// Which file system its system call is about.
    pub(crate) fn lies_on(&mut self, tid: u32, found: Found) {
        let Some(sleeper) = self.sleepers.get_mut(&tid) else { return };
        sleeper.looks += 1;
        (sleeper.is_placed, sleeper.file_system) = found.after(sleeper.looks);
    }

    /// Looks at the open ones; `look` gives what it sees, if it has to look at all.
    pub(crate) fn look(&mut self, look: impl Fn(&Sleeper) -> Option<Sight>) {
        let Self { sleepers, open, ownerless, processes, .. } = self;
        open.retain(|tid| {
            let Some(sleeper) = sleepers.get_mut(tid) else {
                return false;
            };
            sleeper.sight = look(sleeper);
            if let Some(process) = processes.get_mut(&sleeper.record.tgid) {
                let (to, from) = match is_parked(sleeper) {
                    true => (&mut process.parked, &mut process.others),
                    false => (&mut process.others, &mut process.parked),
                };
                if from.remove(tid) {
                    to.insert(*tid);
                }
            }
            if matches!(sleeper.sight, Some(Sight::Ownerless { .. })) {
                ownerless.insert((sleeper.record.tgid, *tid));
            }
            let (Some(sight), Some(call)) = (&sleeper.sight, &sleeper.call) else {
                return true;
            };
            sight.may_change(call)
        });
    }

    /// Thread groups that sleep as a whole, and how many threads they have: each of these is parked, or one that
    /// `waits`.
    pub(crate) fn closed(&self, waits: impl Fn(u32) -> bool) -> impl Iterator<Item = (u32, usize)> {
        let closed = move |(tgid, process): (&u32, &Process)| {
            let is_closed = process.others.iter().all(|tid| waits(*tid));
            let threads = if is_closed { process.all() } else { None };
            threads.map(|threads| (*tgid, threads))
        };
        self.processes.iter().filter_map(closed)
    }

    /// The sleeping threads of a process.
    pub(crate) fn sleepers_of(&self, tgid: u32) -> impl Iterator<Item = &Sleeper> {
        let process = self.processes.get(&tgid).into_iter();
        let threads = process.flat_map(|process| process.parked.iter().chain(&process.others));
        threads.filter_map(|tid| self.sleepers.get(tid))
    }

    /// Those of its sleeping threads that only another of its threads can wake.
    pub(crate) fn parked_of(&self, tgid: u32) -> Option<&BTreeSet<u32>> {
        self.processes.get(&tgid).map(|process| &process.parked)
    }

    /// Its sleeping threads that others may wake.
    pub(crate) fn others_of(&self, tgid: u32) -> impl Iterator<Item = u32> {
        self.processes.get(&tgid).into_iter().flat_map(|process| process.others.iter().copied())
    }

    /// How many of its threads sleep, if that is all of them.
    pub(crate) fn all_asleep(&self, tgid: u32) -> Option<usize> {
        self.processes.get(&tgid)?.all()
    }

    /// Start of its leader, and its threads.
    pub(crate) fn leader_of(&self, tgid: u32) -> Option<(BootTime, u32)> {
        self.processes.get(&tgid).map(|process| (BootTime(process.began), process.threads))
    }

    /// Equal as long as no sleeper of the process has run and none has come or gone.
    pub(crate) fn version(&self, tgid: u32) -> u64 {
        self.processes.get(&tgid).map_or(0, |process| process.version)
    }
}

fn is_parked(sleeper: &Sleeper) -> bool {
    let is_private = sleeper.call.as_ref().is_some_and(|call| call.is_private);
    let sleeps_on = match &sleeper.sight {
        Some(Sight::Parked { .. } | Sight::Owned { .. } | Sight::Ownerless { .. }) => true,
        Some(Sight::Open | Sight::Shared { .. } | Sight::Join { .. }) | None => false,
    };
    is_private && sleeps_on && condition(&sleeper.record) == Condition::Stuck
}

/// By /proc a freezer is seen a moment after it holds the thread.
fn is_same(one: &TaskRecord, other: &TaskRecord) -> bool {
    (one.start_boot_ns, one.switches, one.flags) == (other.start_boot_ns, other.switches, other.flags)
        && condition(one) == condition(other)
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
    fn a_process_is_closed_while_each_of_its_threads_is_parked_or_waits() {
        let parks = |pid| TaskRecord { syscall: 202, arg1: 0x80, threads: 2, ..record(pid, 5, 0) };
        let mut table = Table::default();
        table.apply(&Pass {
            is_full: true,
            records: vec![parks(1), TaskRecord { threads: 2, ..record(2, 5, 0) }],
        });
        table.look(|sleeper| sleeper.call.map(|_| Sight::Parked { word: None }));
        assert_eq!(table.parked_of(1).map(|parked| parked.len()), Some(1));
        assert_eq!(table.closed(|_| false).next(), None);
        assert_eq!(table.closed(|tid| tid == 2).next(), Some((1, 2)));
        let grown = TaskRecord { threads: 3, ..parks(1) };
        table.apply(&Pass {
            is_full: true,
            records: vec![TaskRecord { threads: 3, ..record(2, 5, 0) }, grown],
        });
        assert_eq!(
            (table.closed(|_| true).next(), table.all_asleep(1)),
            (None, None),
            "one was never seen to sleep"
        );
        table.remove(1);
        assert_eq!(table.parked_of(1).map(|parked| parked.len()), Some(0));
    }

    #[test]
    fn what_says_nothing_new_is_looked_at_once_until_it_is_to_be_proved() {
        let sleeps = |pid| TaskRecord { syscall: 202, arg1: 0x80, ..record(pid, 5, 0) };
        let mut table = Table::default();
        table.apply(&Pass { is_full: true, records: vec![sleeps(1), sleeps(2)] });
        let looks = core::cell::Cell::new(0);
        let look = |table: &mut Table| {
            looks.set(0);
            table.look(|sleeper| {
                looks.set(looks.get() + 1);
                Some(match sleeper.record.pid {
                    1 => Sight::Ownerless { lock: 1, word: 2, keys: vec![1] },
                    _ => Sight::Join { word: 1, by_kernel: true },
                })
            });
            looks.get()
        };
        assert_eq!(look(&mut table), 2);
        table.settle(2, Some(join()));
        assert_eq!((look(&mut table), table.ownerless(), table.joins().len()), (0, vec![1], 1));
        table.reopen(&BTreeSet::from([1]));
        assert!(table.ownerless().is_empty() && table.joins().is_empty());
        assert_eq!(look(&mut table), 2);
        table.settle(2, Some(join()));
        table.apply(&Pass {
            is_full: false,
            records: [1, 2].map(|pid| record(pid, 5, TaskRecord::LEFT)).into(),
        });
        assert!(table.ownerless().is_empty() && table.joins().is_empty());
    }

    fn join() -> Wait {
        Wait {
            kind: crate::signal::waits::WaitKind::Join,
            lock: String::new(),
            source: crate::signal::waits::Source::Kernel,
            word: Some(1),
            owners: Vec::new(),
            says: String::new(),
        }
    }
}
