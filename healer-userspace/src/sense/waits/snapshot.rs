//! Sleepers and waits as the engine gets them: those who wait for somebody, and everybody they wait for.

use std::collections::BTreeMap;

use super::{
    extract::{Extractor, Waits},
    procfs::Proc,
    table::{Sleeper, Table, comm, condition},
};
use crate::{
    engine::time::BootTime,
    identity::process::Process,
    signal::waits::{Condition, Owner, Source, Task, Wait, WaitSnapshot, WaitingProcess},
};

/// Threads in a snapshot at most.
const TASKS_MAX: usize = 2048;

pub(crate) fn snapshot(
    extractor: &Extractor,
    table: &Table,
    waits: &Waits,
    scan: u64,
    now: BootTime,
    name: &mut dyn FnMut(u32, BootTime) -> Option<Process>,
) -> WaitSnapshot {
    let mut draft = Draft { table, waits, now, proc: &extractor.proc, tasks: BTreeMap::new() };
    draft.waiters();
    draft.owners();
    let tasks: Vec<Task> = draft.tasks.into_values().collect();
    let leaders = leaders(table, &tasks);
    let processes = leaders.into_iter().map(|(tgid, (leader, threads))| {
        let of_process = || tasks.iter().filter(|task| task.tgid == tgid);
        let is_closed =
            of_process().flat_map(|task| &task.waits).any(|wait| wait.source == Source::ClosedWorld);
        let is_owner =
            tasks.iter().flat_map(|task| &task.waits).any(|wait| wait.owners.contains(&Owner::Process(tgid)));
        let counted = if is_owner { extractor.proc.threads(tgid).len() as u32 } else { threads };
        WaitingProcess {
            process: name(tgid, leader).unwrap_or_else(|| unnamed(&extractor.proc, tgid, leader)),
            threads: counted,
            parked: waits.parked.get(&tgid).copied().unwrap_or(0),
            wakers: if is_closed { extractor.wakers(tgid) } else { Vec::new() },
        }
    });
    let processes = processes.collect();
    WaitSnapshot { scan, tasks, processes }
}

struct Draft<'a> {
    table: &'a Table,
    waits: &'a Waits,
    now: BootTime,
    proc: &'a Proc,
    tasks: BTreeMap<u32, Task>,
}

impl Draft<'_> {
    /// Takes in those who wait.
    fn waiters(&mut self) {
        for (tid, waits) in self.waits.by_thread.iter().take(TASKS_MAX) {
            if let Some(sleeper) = self.table.get(*tid) {
                self.tasks.insert(*tid, self.task(sleeper, waits.clone()));
            }
        }
    }

    /// Takes in those who are waited for.
    fn owners(&mut self) {
        for owner in self.waits.owners() {
            match owner {
                Owner::Task(tid) => self.owner(tid),
                Owner::Process(tgid) => {
                    // One that is not known to wait is enough to keep the process alive.
                    let threads = self.proc.threads(tgid);
                    let left_out = self.waits.parked.get(&tgid).copied().unwrap_or(0) as usize;
                    let mut free = threads.iter().filter(|tid| self.waits.of(**tid).is_empty());
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
        let task = match self.table.get(tid) {
            Some(sleeper) => Some(self.task(sleeper, Vec::new())),
            None => self.awake(tid),
        };
        if let Some(task) = task {
            self.tasks.insert(tid, task);
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
        }
    }

    /// A thread that is not known to sleep.
    fn awake(&self, tid: u32) -> Option<Task> {
        let status = self.proc.status(tid, tid)?;
        let record = self.proc.record(status.tgid, tid, 0, 0)?;
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
        })
    }
}

/// Start of the leader, and number of threads, of every process in `tasks`.
fn leaders(table: &Table, tasks: &[Task]) -> BTreeMap<u32, (BootTime, u32)> {
    let of = |task: &Task| {
        let record = table.sleepers_of(task.tgid).next().map(|sleeper| sleeper.record);
        let known = record.map(|record| (BootTime(record.leader_start_boot_ns), record.threads));
        (task.tgid, known.unwrap_or((BootTime(0), 0)))
    };
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
