//! Who lives: the kernel's records of ends, and `/proc`.

use super::{
    Identity,
    process::{Process, ProcessId},
    procfs::ProcDir,
};
use crate::engine::time::BootTime;

impl Identity {
    /// As [`Identity::of_pid`], but nobody who was seen to end: until its parent reaps it, it still has its pid.
    pub fn of_living_pid(&mut self, pid: u32) -> Option<Process> {
        let start = self.start_of(pid)?;
        let id = ProcessId { pid, start };
        if self.table.dead(id).is_some() { None } else { self.of_id(id) }
    }

    /// Tracked and main processes that are gone although no record of their end came (records
    /// can be lost). From now on they count as dead.
    pub fn vanished(&mut self) -> Vec<Process> {
        let tracked: Vec<_> = self.tracked().collect();
        let mut gone = Vec::new();
        for id in tracked {
            let now = self.start_of(id.pid).map(|start| ProcessId { pid: id.pid, start });
            if now != Some(id) {
                gone.extend(self.of_id(id));
                self.table.bury(id);
                self.names.forget_main(id);
            }
        }
        gone
    }

    /// `/proc` has it now.
    pub fn is_running(&self, id: ProcessId) -> bool {
        self.start_of(id.pid).is_some_and(|start| ProcessId { pid: id.pid, start } == id)
    }

    pub(super) fn start_of(&self, pid: u32) -> Option<BootTime> {
        let stat = ProcDir::open(&self.roots.proc, pid)?.stat()?;
        Some(stat.start)
    }
}
