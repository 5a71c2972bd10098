//! Every process that identity has met: the living by pid, the dead by pid and start.

use std::collections::BTreeMap;

use super::{
    exe::ExeId,
    lru::Lru,
    process::{Container, Process, ProcessId, WorkloadKey},
};

/// Untracked living processes that are kept.
pub const UNTRACKED_MAX: usize = 8192;
const DEAD_MAX: usize = 512;

/// A process and what its name was made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) process: Process,
    pub(crate) exe: Option<ExeId>,
    pub(crate) parent_label: String,
    /// Supervise name of the parent.
    pub(crate) inherited: Option<String>,
    /// Id of the container that the parent is in.
    pub(crate) parent_container: Option<String>,
    pub(crate) is_namespace_init: bool,
    /// Never makes room for others.
    pub(crate) is_tracked: bool,
}

impl Entry {
    /// What a child's program key says of its parent.
    pub(crate) fn label(&self) -> String {
        let process = &self.process;
        match WorkloadKey::named(&process.place) {
            Some(key) => key.0,
            None => process.exe.clone().unwrap_or_else(|| process.comm.clone()),
        }
    }

    pub(crate) fn parent_id(&self) -> Option<ProcessId> {
        self.process.parent.as_ref().map(|parent| ProcessId { pid: parent.pid, start: parent.start })
    }

    pub(crate) fn is_in_container(&self, id: &str) -> bool {
        let container = self.process.place.container.as_ref();
        container.is_some_and(|container| container.id == id)
    }

    /// The runtime starts a container's first process from outside of it. A namespace that somebody inside unshares, as
    /// sandboxes do, has a PID 1 as well.
    pub(crate) fn is_first_in(&self, container: &Container) -> bool {
        self.is_namespace_init && self.parent_container.as_ref() != Some(&container.id)
    }

    fn is_pinned(&self) -> bool {
        self.is_tracked || self.process.main
    }
}

/// Boxed: where numbers grow, half of a tree's places stay empty.
pub(crate) struct ProcessTable {
    pinned: BTreeMap<u32, Box<Entry>>,
    others: Lru<u32, Box<Entry>>,
    dead: Lru<ProcessId, Box<Entry>>,
}

impl ProcessTable {
    pub(crate) fn new() -> Self {
        Self { pinned: BTreeMap::new(), others: Lru::new(UNTRACKED_MAX), dead: Lru::new(DEAD_MAX) }
    }

    /// The living process of that pid and start.
    pub(crate) fn get(&mut self, id: ProcessId) -> Option<&mut Entry> {
        let entry = match self.pinned.get_mut(&id.pid) {
            Some(entry) => entry,
            None => self.others.get(&id.pid)?,
        };
        (entry.process.id() == id).then_some(entry)
    }

    pub(crate) fn dead(&mut self, id: ProcessId) -> Option<&mut Entry> {
        self.dead.get(&id).map(Box::as_mut)
    }

    /// Of whose end a record is sure to come: until then the number is theirs.
    pub(crate) fn tracked(&self, pid: u32) -> Option<&Entry> {
        self.pinned.get(&pid).map(Box::as_ref)
    }

    /// Keeps a living process. Who had the pid before is dead; a record that comes late does not
    /// push out the pid's younger owner.
    pub(crate) fn insert(&mut self, entry: Entry) {
        let (pid, entry) = (entry.process.pid, Box::new(entry));
        if let Some(before) = self.remove(pid) {
            if before.process.start > entry.process.start && before.process.id() != entry.process.id() {
                self.put(before);
                self.dead.insert(entry.process.id(), entry);
                return;
            }
            if before.process.id() != entry.process.id() {
                self.dead.insert(before.process.id(), before);
            }
        }
        self.put(entry);
    }

    /// Moves the entry to where its state wants it, after a change.
    pub(crate) fn settle(&mut self, pid: u32) {
        if let Some(entry) = self.remove(pid) {
            self.put(entry);
        }
    }

    /// The process is dead; its name is kept for a while.
    pub(crate) fn bury(&mut self, id: ProcessId) {
        if self.get(id).is_some()
            && let Some(entry) = self.remove(id.pid)
        {
            self.dead.insert(entry.process.id(), entry);
        }
    }

    pub(crate) fn pinned(&self) -> impl Iterator<Item = &Entry> {
        self.pinned.values().map(Box::as_ref)
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = &Entry> {
        self.pinned.values().chain(self.others.values()).map(Box::as_ref)
    }

    pub(crate) fn living_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.pinned.values_mut().chain(self.others.values_mut()).map(Box::as_mut)
    }

    pub(crate) fn dead_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.dead.values_mut().map(Box::as_mut)
    }

    pub(crate) fn len(&self) -> usize {
        self.pinned.len() + self.others.len()
    }

    fn put(&mut self, entry: Box<Entry>) {
        let pid = entry.process.pid;
        if entry.is_pinned() {
            self.pinned.insert(pid, entry);
        } else {
            self.others.insert(pid, entry);
        }
    }

    fn remove(&mut self, pid: u32) -> Option<Box<Entry>> {
        let pinned = self.pinned.remove(&pid);
        pinned.or_else(|| self.others.remove(&pid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::time::BootTime;

    fn entry(pid: u32, tick: u64) -> Entry {
        let mut entry = Entry::default();
        entry.process.pid = pid;
        entry.process.start = BootTime(tick * super::super::process::TICK_NS);
        entry
    }

    #[test]
    fn the_untracked_are_bounded_and_the_tracked_stay() {
        let mut table = ProcessTable::new();
        let mut tracked = entry(1, 1);
        tracked.process.main = true;
        let id = tracked.process.id();
        table.insert(tracked);
        for pid in 2..100_000 {
            table.insert(entry(pid, pid.into()));
        }
        assert_eq!(table.len(), UNTRACKED_MAX + 1);
        assert!(table.get(id).is_some());
    }

    #[test]
    fn a_pids_next_owner_is_somebody_else() {
        let mut table = ProcessTable::new();
        let (old, new) = (entry(7, 10), entry(7, 20));
        let (old_id, new_id) = (old.process.id(), new.process.id());
        table.insert(old.clone());
        table.insert(new);
        assert!(table.get(old_id).is_none() && table.dead(old_id).is_some());
        table.insert(old);
        assert!(table.get(new_id).is_some() && table.dead(new_id).is_none());
        table.bury(old_id);
        assert!(table.get(new_id).is_some());
        table.bury(new_id);
        assert!(table.get(new_id).is_none() && table.dead(new_id).is_some());
    }
}
