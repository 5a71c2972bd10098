//! Who lives: the kernel's records of ends, and `/proc`.

use std::collections::BTreeSet;

use super::{
    Identity,
    process::{Process, ProcessId},
    procfs::{ProcDir, Stat},
};
use crate::{
    engine::time::BootTime,
    signal::{Party, Seen},
};

impl Identity {
    /// As [`Identity::of_pid`], but nobody who was seen to end: until its parent reaps it, it still has its pid.
    pub fn of_living_pid(&mut self, pid: u32) -> Option<Process> {
        let process = self.of_pid(pid)?;
        if self.table.dead(process.id()).is_some() { None } else { Some(process) }
    }

    /// Whoever was met between its fork and its exec, or has renamed itself, is known by a name that it has no more.
    /// True if it is known.
    pub(super) fn note_name(&mut self, id: ProcessId, comm: &str) -> bool {
        let Some(entry) = self.table.get(id) else { return false };
        if entry.process.comm != comm {
            // Its own start is exact, that of /proc is of whole ticks.
            let id = entry.process.id();
            let task = Party { id, comm: comm.to_owned(), uid: entry.process.uid, ..Party::default() };
            let before = entry.clone();
            self.meet(&Seen { task, ..Seen::default() }, Some(before), id.start);
        }
        true
    }

    /// Tracked and main processes that are gone although no record of their end has come yet (records can be lost).
    #[must_use]
    pub fn missing(&self) -> BTreeSet<ProcessId> {
        self.tracked().filter(|id| !self.is_running(*id)).collect()
    }

    /// From now on it counts as dead.
    pub fn bury(&mut self, id: ProcessId) {
        self.table.bury(id);
        self.names.forget_main(id);
    }

    /// `/proc` has it now, and not only because nobody has reaped it.
    pub fn is_running(&self, id: ProcessId) -> bool {
        self.running(id).is_some()
    }

    /// One of a server's workers: its parent lives, and it was forked from it without an exec.
    pub fn is_worker(&self, process: &Process) -> bool {
        let Some(above) = process.parent.as_ref().filter(|above| above.exe.is_some()) else {
            return false;
        };
        if above.exe != process.exe {
            return false;
        }
        let parent = self.running(ProcessId { pid: above.pid, start: above.start });
        let worker = self.running(process.id());
        let (Some(parent), Some(worker)) = (parent, worker) else { return false };
        parent.stack == worker.stack || parent.stack == 0 || worker.stack == 0
    }

    fn running(&self, id: ProcessId) -> Option<Stat> {
        let stat = self.stat_of(id.pid)?;
        (!stat.is_over() && ProcessId { pid: id.pid, start: stat.start } == id).then_some(stat)
    }

    pub(super) fn start_of(&self, pid: u32) -> Option<BootTime> {
        self.stat_of(pid).map(|stat| stat.start)
    }

    pub(super) fn stat_of(&self, pid: u32) -> Option<Stat> {
        ProcDir::open(&self.roots.proc, pid)?.stat()
    }
}
