//! Sleepers and waits as the engine gets them: those who wait for somebody, and everybody they wait for.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    condition::condition,
    extract::{Extractor, Waits},
    hope::hopeless,
    procfs::Proc,
    table::{Sleeper, Table, comm},
};
use crate::{
    engine::time::BootTime,
    identity::process::Process,
    signal::waits::{Condition, Deaf, Owner, Source, Task, Wait, WaitSnapshot, WaitingProcess},
};
use healer_common::task_scan::TaskRecord;

/// Threads in a snapshot at most.
const TASKS_MAX: usize = 2048;
/// Deaf ones at most: one dead file server may have thousands wait.
pub(crate) const DEAF_MAX: usize = 256;
/// Disks are slower than contended locks: sooner it is no news that a thread waits for one.
const DEAF_FOR_MS: u64 = 10_000;

/// How far a snapshot goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Those who wait and may be dead, as the table has them. Reads nothing.
    Hopeless,
    /// All who wait, whoever they wait for as well, and threads counted anew.
    Everybody,
}

pub(crate) struct Shot<'a> {
    pub(crate) extractor: &'a Extractor,
    pub(crate) table: &'a Table,
    pub(crate) waits: &'a Waits,
    pub(crate) scan: u64,
    pub(crate) now: BootTime,
}

impl Shot<'_> {
    pub(crate) fn take(
        &self,
        depth: Depth,
        name: &mut dyn FnMut(u32, BootTime) -> Option<Process>,
    ) -> WaitSnapshot {
        let proc = &self.extractor.proc;
        let mut draft = Draft { shot: self, tasks: BTreeMap::new() };
        match depth {
            Depth::Hopeless => draft.waiters(hopeless(self.table, self.waits).into_iter()),
            Depth::Everybody => draft.waiters(self.waits.by_thread.keys().copied()),
        }
        if depth == Depth::Everybody {
            draft.owners();
        }
        let tasks: Vec<Task> = draft.tasks.into_values().collect();
        let owners = self.waits.owners();
        let leaders = leaders(self.table, &tasks);
        let processes = leaders.into_iter().map(|(tgid, (leader, threads))| {
            let is_counted = depth == Depth::Everybody && owners.contains(&Owner::Process(tgid));
            WaitingProcess {
                process: name(tgid, leader).unwrap_or_else(|| unnamed(proc, tgid, leader)),
                threads: if is_counted { proc.threads(tgid).len() as u32 } else { threads },
                parked: self.waits.parked.get(&tgid).copied().unwrap_or(0),
                wakers: self.extractor.wakers(self.table, tgid),
            }
        });
        let processes = processes.collect();
        WaitSnapshot { scan: self.scan, tasks, processes, deaf: Vec::new() }
    }

    /// Names those who have a number only.
    pub(crate) fn name(
        &self,
        snapshot: &mut WaitSnapshot,
        name: &mut dyn FnMut(u32, BootTime) -> Option<Process>,
    ) {
        for one in snapshot.processes.iter_mut().map(|one| &mut one.process) {
            let (pid, start) = (one.pid, one.start);
            *one = name(pid, start).unwrap_or_else(|| unnamed(&self.extractor.proc, pid, start));
        }
    }

    /// Adds those whom no signal reaches, and their processes.
    pub(crate) fn add_deaf(
        &self,
        snapshot: &mut WaitSnapshot,
        name: &mut dyn FnMut(u32, BootTime) -> Option<Process>,
    ) {
        let deaf = self.table.deaf().filter(|one| is_told(&one.record, self.now)).map(|sleeper| Deaf {
            task: self.task(sleeper, self.waits.of(sleeper.record.pid).to_vec()),
            dying: sleeper.record.flags & TaskRecord::DYING != 0,
        });
        snapshot.deaf = deaf.take(DEAF_MAX).collect();
        let known: BTreeSet<u32> = snapshot.processes.iter().map(|one| one.process.pid).collect();
        let tasks: Vec<Task> = snapshot.deaf.iter().map(|one| one.task.clone()).collect();
        for (tgid, (leader, threads)) in leaders(self.table, &tasks) {
            if !known.contains(&tgid) {
                let process =
                    name(tgid, leader).unwrap_or_else(|| unnamed(&self.extractor.proc, tgid, leader));
                snapshot.processes.push(WaitingProcess { process, threads, parked: 0, wakers: Vec::new() });
            }
        }
    }

    fn task(&self, sleeper: &Sleeper, waits: Vec<Wait>) -> Task {
        let record = &sleeper.record;
        let waited = self.now.since(BootTime(record.since_boot_ns));
        Task {
            tid: record.pid,
            start: BootTime(record.start_boot_ns),
            tgid: record.tgid,
            comm: comm(record),
            condition: condition(record),
            syscall: record.syscall,
            args: [record.arg0, record.arg1, record.arg2, record.arg3],
            waited_ms: waited.as_millis() as u64,
            switches: record.switches,
            waits,
            file_system: sleeper.file_system.clone(),
        }
    }
}

/// Of those who take no signal: told to die, or asleep for long.
pub(crate) fn is_told(record: &TaskRecord, now: BootTime) -> bool {
    let waited = now.since(BootTime(record.since_boot_ns));
    record.flags & TaskRecord::DYING != 0 || DEAF_FOR_MS <= waited.as_millis() as u64
}

/// Processes that a closed world would need to be closed, and those of which a handler or a timer may end a wait.
pub(crate) fn worlds(snapshot: &WaitSnapshot, dead: &BTreeSet<u32>) -> BTreeSet<u32> {
    let dead = snapshot.tasks.iter().filter(|task| dead.contains(&task.tid));
    let is_asked = |wait: &Wait| wait.source == Source::ClosedWorld || wait.kind.ends_by_a_signal();
    let closed = dead.filter(|task| task.waits.iter().any(is_asked));
    closed.map(|task| task.tgid).collect()
}

struct Draft<'a> {
    shot: &'a Shot<'a>,
    tasks: BTreeMap<u32, Task>,
}

impl Draft<'_> {
    /// Takes in those who wait.
    fn waiters(&mut self, tids: impl Iterator<Item = u32>) {
        for tid in tids.take(TASKS_MAX) {
            if let Some(sleeper) = self.shot.table.get(tid) {
                self.tasks.insert(tid, self.shot.task(sleeper, self.shot.waits.of(tid).to_vec()));
            }
        }
    }

    /// Takes in those who are waited for.
    fn owners(&mut self) {
        for owner in self.shot.waits.owners() {
            match owner {
                Owner::Task(tid) => self.owner(tid),
                Owner::Process(tgid) => {
                    // One that is not known to wait is enough to keep the process alive.
                    let threads = self.shot.extractor.proc.threads(tgid);
                    let left_out = self.shot.waits.parked.get(&tgid).copied().unwrap_or(0) as usize;
                    let mut free = threads.iter().filter(|tid| self.shot.waits.of(**tid).is_empty());
                    if let Some(free) = free.nth(left_out) {
                        self.owner(*free);
                    }
                }
                Owner::Gone(_) => {}
            }
        }
    }

    fn owner(&mut self, tid: u32) {
        if self.tasks.contains_key(&tid) {
            return;
        }
        let task = match self.shot.table.get(tid) {
            Some(sleeper) => Some(self.shot.task(sleeper, Vec::new())),
            None => self.awake(tid),
        };
        if let Some(task) = task {
            self.tasks.insert(tid, task);
        }
    }

    /// A thread that is not known to sleep.
    fn awake(&self, tid: u32) -> Option<Task> {
        let status = self.shot.extractor.proc.status(tid, tid)?;
        let record = self.shot.extractor.proc.record(status.tgid, tid, 0, 0)?;
        // It has not slept through a scan yet.
        let condition = Some(condition(&record)).filter(|condition| *condition != Condition::Stuck);
        Some(Task {
            tid,
            start: BootTime(record.start_boot_ns),
            tgid: status.tgid,
            comm: comm(&record),
            condition: condition.unwrap_or(Condition::Live),
            syscall: record.syscall,
            args: [record.arg0, record.arg1, record.arg2, record.arg3],
            waited_ms: 0,
            switches: record.switches,
            waits: Vec::new(),
            file_system: None,
        })
    }
}

/// Start of the leader, and number of threads, of every process in `tasks`.
fn leaders(table: &Table, tasks: &[Task]) -> BTreeMap<u32, (BootTime, u32)> {
    let of = |task: &Task| (task.tgid, table.leader_of(task.tgid).unwrap_or((BootTime(0), 0)));
    tasks.iter().map(of).collect()
}

/// What /proc says, where nobody knows more.
fn unnamed(proc: &Proc, tgid: u32, leader: BootTime) -> Process {
    let stat = proc.stat(tgid, tgid);
    let start = if leader == BootTime(0) {
        stat.as_ref().map_or(leader, |stat| BootTime(stat.start_boot_ns))
    } else {
        leader
    };
    Process { pid: tgid, start, comm: stat.map(|stat| stat.comm).unwrap_or_default(), ..Process::default() }
}
