//! Makes a process of what the kernel sent and what `/proc` still has.

use super::{
    Identity,
    cgroup::{CgroupId, Hierarchy},
    exe::{ExeId, path_by_filename},
    place::place_of,
    process::{Parent, ProcessId},
    process_table::Entry,
    procfs::Exe,
    reading::Reading,
};
use crate::{
    engine::time::BootTime,
    signal::{Party, Seen},
};

/// How far up an unknown process' ancestors are looked up; the one above is only glanced at.
const GENERATIONS: u8 = 1;

impl Identity {
    /// Names a process from its record, from its former self where it runs another program now,
    /// and, for what is still missing, from one reading of `/proc`.
    pub(super) fn resolve(&mut self, seen: &Seen, before: Option<Entry>, now: BootTime) -> Entry {
        let reading = if before.is_none() { self.read(seen.task.id) } else { None };
        self.compose(seen, before, reading, now)
    }

    /// Names one that was never met by what the record of its exec or end says alone, which costs no look at `/proc`;
    /// `None` if that is not all that can be known. Of whoever ends `/proc` shows the root of v1 hierarchies anyway
    /// (kernel/cgroup/cgroup.c, `proc_cgroup_show`).
    pub(super) fn resolve_told(&mut self, seen: &Seen, is_end: bool, now: BootTime) -> Option<Entry> {
        let path = self.known_cgroup(seen)?;
        let is_v2 = || seen.cgroup.is_some_and(|cgroup| cgroup.hierarchy == Hierarchy::V2);
        let is_whole = seen.parent.is_some()
            && !seen.args.is_empty()
            && seen.exe.is_some_and(|exe| self.exes.leads_to(exe, seen.filename.as_deref()))
            && (path != "/" || (is_end && is_v2()))
            // The first process of a container is known by its namespace.
            && place_of(&path).container.is_none();
        is_whole.then(|| self.compose(seen, None, None, now))
    }

    fn compose(
        &mut self,
        seen: &Seen,
        before: Option<Entry>,
        mut reading: Option<Reading>,
        now: BootTime,
    ) -> Entry {
        let is_new = before.is_none();
        let mut entry = before.unwrap_or_default();
        if entry.process.parent.is_none() {
            let above = reading.as_ref().map(|reading| reading.parent);
            self.adopt(&mut entry, seen.parent.as_ref(), above, GENERATIONS);
        }
        // A fork without exec runs its parent's file: who knows the parent knows that.
        let known_exe = seen.exe.and_then(|exe| self.exes.path(exe));
        if !is_new && (known_exe.is_none() || self.known_cgroup(seen).is_none()) {
            reading = self.read(seen.task.id);
        }
        if let Some(reading) = &reading {
            self.place_reading(&mut entry, reading, seen.cgroup);
        }
        self.place_seen(&mut entry, seen, now);
        name(&mut entry, seen, reading.as_ref());
        self.name_exe(&mut entry, seen, known_exe, reading.and_then(|r| r.exe));
        let parents_exe = entry.process.parent.as_ref().and_then(|parent| parent.exe.as_ref());
        if entry.process.args.is_empty() && entry.process.exe.as_ref() == parents_exe {
            // A fork without exec has its parent's arguments too.
            entry.process.args = entry.parent_id().map(|id| self.known_args(id)).unwrap_or_default();
        }
        self.note_fork(&mut entry);
        self.names.assign(&mut entry);
        entry
    }

    fn note_fork(&mut self, entry: &mut Entry) {
        let parents_exe = entry.process.parent.as_ref().and_then(|parent| parent.exe.as_ref());
        let runs_it = entry.process.exe.is_some() && entry.process.exe.as_ref() == parents_exe;
        let is_double = runs_it
            && !entry.process.args.is_empty()
            && entry.parent_id().is_some_and(|id| self.known_args(id) == entry.process.args);
        if let Some(parent) = &mut entry.process.parent {
            parent.is_double = is_double;
        }
    }

    /// A process that only `/proc` has told of.
    pub(super) fn resolve_reading(&mut self, reading: Reading, generations: u8) -> Entry {
        let mut entry = Entry::default();
        let above = Some(reading.parent);
        self.adopt(&mut entry, None, above, generations);
        self.place_reading(&mut entry, &reading, None);
        name(&mut entry, &Seen::default(), Some(&reading));
        self.name_exe(&mut entry, &Seen::default(), None, reading.exe);
        self.names.assign(&mut entry);
        entry
    }

    /// Reads `/proc` once; `None` if the pid has another owner by now. Start 0 takes any.
    pub(super) fn read(&mut self, id: ProcessId) -> Option<Reading> {
        self.readings += 1;
        let reading = Reading::of(&self.roots.proc, id.pid)?;
        (id.start == BootTime(0) || reading.id == id).then_some(reading)
    }

    fn known_args(&mut self, id: ProcessId) -> Vec<String> {
        if let Some(entry) = self.table.get(id) {
            return entry.process.args.clone();
        }
        self.table.dead(id).map(|entry| entry.process.args.clone()).unwrap_or_default()
    }

    /// Notes the parent, by its record or by its pid, and what descends from it to the child.
    fn adopt(&mut self, entry: &mut Entry, seen: Option<&Party>, pid: Option<u32>, generations: u8) {
        let pid = seen.map(|parent| parent.id.pid).or(pid).unwrap_or(0);
        let start = seen.map_or(BootTime(0), |parent| parent.id.start);
        if pid == 0 {
            return;
        }
        let parent = self.parent(ProcessId { pid, start }, generations);
        let parent = parent.or_else(|| seen.map(by_record));
        let Some(parent) = parent else {
            return;
        };
        entry.parent_label = parent.label();
        entry.inherited = parent.process.place.supervise.clone();
        entry.parent_container = parent.process.place.container.map(|container| container.id);
        entry.process.parent = Some(Parent {
            pid,
            start: parent.process.start,
            comm: parent.process.comm,
            exe: parent.process.exe,
            ..Parent::default()
        });
    }

    fn parent(&mut self, mut id: ProcessId, generations: u8) -> Option<Entry> {
        if id.start == BootTime(0) {
            id.start = self.start_of(id.pid)?;
        }
        if let Some(entry) = self.table.get(id) {
            return Some(entry.clone());
        }
        if let Some(entry) = self.table.dead(id) {
            return Some(entry.clone());
        }
        let reading = self.read(id)?;
        if generations == 0 {
            return Some(self.glance(reading));
        }
        let entry = self.resolve_reading(reading, generations - 1);
        self.table.insert(entry.clone());
        Some(entry)
    }

    /// Enough for a child's key; its own key would ask for its parent.
    fn glance(&mut self, reading: Reading) -> Entry {
        let mut entry = Entry::default();
        self.place_reading(&mut entry, &reading, None);
        name(&mut entry, &Seen::default(), Some(&reading));
        entry.process.exe = reading.exe.map(|exe| exe.path);
        self.names.assign(&mut entry);
        entry
    }

    fn known_cgroup(&mut self, seen: &Seen) -> Option<String> {
        self.cgroups.known(seen.cgroup?)
    }

    /// A removed cgroup has no directory: its id, if a record brought it, learns its path here.
    fn place_reading(&mut self, entry: &mut Entry, reading: &Reading, seen: Option<CgroupId>) {
        let (hierarchy, path) = reading.membership.path();
        let id = hierarchy.map_or(0, |hierarchy| self.cgroups.id(hierarchy, path));
        if let Some(cgroup) = seen
            && id == 0
            && hierarchy == Some(cgroup.hierarchy)
        {
            self.cgroups.remember(cgroup, path);
        }
        entry.process.cgroup_id = id;
        path.clone_into(&mut entry.process.cgroup);
        entry.is_namespace_init = reading.is_namespace_init;
    }

    /// The record's cgroup counts more than `/proc`'s: a zombie has lost its v1 cgroups. Only
    /// the root says less than systemd's own v1 hierarchy, which has no ids.
    pub(super) fn place_seen(&mut self, entry: &mut Entry, seen: &Seen, now: BootTime) {
        let Some(cgroup) = seen.cgroup else {
            return;
        };
        let process = &mut entry.process;
        let is_hint = cgroup.hierarchy == Hierarchy::Memory;
        if process.cgroup_id == cgroup.id || (is_hint && !process.cgroup.is_empty()) {
            return;
        }
        let path = self.cgroups.find(cgroup, now);
        if let Some(path) = path.filter(|path| path != "/" || process.cgroup.is_empty()) {
            process.cgroup = path;
        }
        process.cgroup_id = cgroup.id;
    }

    fn name_exe(&mut self, entry: &mut Entry, seen: &Seen, known: Option<String>, read: Option<Exe>) {
        let read = read.filter(|exe| same_file(exe.id, seen.exe));
        if let Some(exe) = read.as_ref().filter(|exe| !exe.deleted) {
            for id in [exe.id, seen.exe].into_iter().flatten() {
                self.exes.learn(id, &exe.path);
            }
        }
        let id = seen.exe.or(read.as_ref().and_then(|exe| exe.id));
        let before = entry.process.exe.take();
        let before = before.filter(|_| same_file(id, entry.exe));
        let by_name = || path_by_filename(seen.filename.as_deref()?, seen.exe);
        let path = read.map(|exe| exe.path).or(known).or(before);
        entry.process.exe = path.or_else(by_name);
        entry.exe = id.or(entry.exe);
    }
}

/// On overlayfs and btrfs `stat(2)` shows another device than the kernel's inode has, but the
/// same number. An unknown file differs from none.
pub(super) fn same_file(one: Option<ExeId>, other: Option<ExeId>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.ino == other.ino,
        (None, _) | (_, None) => true,
    }
}

/// A parent that is gone and was never met.
fn by_record(party: &Party) -> Entry {
    let seen = Seen { task: party.clone(), ..Seen::default() };
    let mut entry = Entry::default();
    name(&mut entry, &seen, None);
    entry
}

fn name(entry: &mut Entry, seen: &Seen, reading: Option<&Reading>) {
    let process = &mut entry.process;
    if let Some(reading) = reading {
        (process.pid, process.start) = (reading.id.pid, reading.id.start);
        process.uid = reading.uid;
        process.comm.clone_from(&reading.comm);
        process.args.clone_from(&reading.args);
    }
    if seen.task.id.start != BootTime(0) {
        (process.pid, process.start) = (seen.task.id.pid, seen.task.id.start);
        process.uid = seen.task.uid;
        process.comm.clone_from(&seen.task.comm);
    } else if reading.is_none() {
        process.pid = seen.task.id.pid;
    }
    if !seen.args.is_empty() {
        process.args.clone_from(&seen.args);
    }
}
