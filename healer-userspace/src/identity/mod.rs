//! Who: process, cgroup, unit, container, pod. Roots of /proc and /sys/fs/cgroup are injected.

pub mod cgroup;
pub mod exe;
mod explain;
mod living;
pub(crate) mod lru;
mod names;
pub(crate) mod nature;
mod shell_loop;
pub mod place;
mod pod;
pub mod process;
mod process_table;
pub mod procfs;
pub(crate) mod reading;
mod resolve;
pub mod roots;

#[cfg(test)]
pub(crate) mod fixture;

use std::collections::BTreeMap;

pub use self::process_table::UNTRACKED_MAX;
use self::{
    cgroup::{CgroupId, Cgroups, Hierarchy},
    exe::ExePaths,
    explain::Full,
    names::Names,
    process::{Container, Pod, Process, ProcessId, WorkloadKey},
    process_table::{Entry, ProcessTable},
    procfs::pids,
    reading::Reading,
    resolve::same_file,
    roots::Roots,
    shell_loop::ShellLoops,
};
use crate::{
    engine::{certificate::is_fault, time::BootTime},
    signal::{Fact, Owner, Party, Raw, Seen, Signal},
};

/// Inode number of a hierarchy's root directory: everybody whom nobody put anywhere.
pub(crate) const ROOT_CGROUP: u64 = 1;

/// Knows processes by what the kernel sent, by `/proc`, and by what others call them.
///
/// A known process costs no look at `/proc`, an unknown one a single one (and one each for its
/// next two ancestors if they are unknown as well).
pub struct Identity {
    roots: Roots,
    cgroups: Cgroups,
    exes: ExePaths,
    names: Names,
    table: ProcessTable,
    loops: ShellLoops,
    readings: u64,
}

impl Identity {
    /// Knows nobody yet: see [`Identity::scan`].
    pub fn new(roots: Roots) -> Self {
        Self {
            cgroups: Cgroups::new(&roots.cgroup),
            roots,
            exes: ExePaths::new(),
            names: Names::new(),
            table: ProcessTable::new(),
            loops: ShellLoops::new(),
            readings: 0,
        }
    }

    /// Meets every process that runs and every cgroup that exists: at start, and after losses.
    pub fn scan(&mut self, now: BootTime) {
        self.cgroups.walk(now);
        let pids: Vec<u32> = pids(&self.roots.proc).collect();
        let mut all: Vec<_> = pids.into_iter().filter_map(|pid| self.stranger(pid)).collect();
        // Parents before their children, for the children's sake.
        all.sort_by_key(|reading| (reading.id.start, reading.id.pid));
        for reading in all {
            let entry = self.resolve_reading(reading, 0);
            self.table.insert(entry);
        }
    }

    /// Who is known already, by the name it has, is not read again.
    fn stranger(&mut self, pid: u32) -> Option<Reading> {
        let stat = self.stat_of(pid)?;
        let is_known = self.note_name(ProcessId { pid, start: stat.start }, &stat.comm);
        if is_known { None } else { Reading::of(&self.roots.proc, pid) }
    }

    /// Adds who it was. After an exit the process is known among the dead for a while.
    pub fn enrich(&mut self, raw: Raw) -> Signal {
        let Raw { at, seen, mut fact, at_limit, owner } = raw;
        let of_victim = seen.as_ref().and_then(|seen| seen.cgroup);
        let mut process = match (seen, owner) {
            (Some(seen), _) => Some(self.whom(&seen, &fact, at)),
            (None, Some(owner)) => Some(self.owner(owner, at)),
            (None, None) => None,
        };
        if let (Fact::Exited(exit), Some(process)) = (&fact, &mut process)
            && exit.signal.is_none_or(is_fault)
            && exit.is_abnormal()
            && !process.main
        {
            self.loops.note(&self.roots.proc, process);
        }
        self.explain(&mut fact, process.as_ref(), Full { at_limit, of_victim }, at);
        Signal { at, process, fact }
    }

    /// The process that has this pid now. Looks at `/proc` to be sure.
    pub fn of_pid(&mut self, pid: u32) -> Option<Process> {
        let stat = self.stat_of(pid)?;
        let id = ProcessId { pid, start: stat.start };
        self.note_name(id, &stat.comm);
        self.of_id(id)
    }

    /// That process and no other, alive or lately dead.
    pub fn of_id(&mut self, id: ProcessId) -> Option<Process> {
        if let Some(entry) = self.table.get(id) {
            return Some(entry.process.clone());
        }
        if let Some(entry) = self.table.dead(id) {
            return Some(entry.process.clone());
        }
        let reading = self.read(id)?;
        let entry = self.resolve_reading(reading, 1);
        self.table.insert(entry.clone());
        Some(entry.process)
    }

    /// The living main process of a workload; the youngest, if an old one was not seen to end.
    pub fn main_of(&self, workload: &WorkloadKey) -> Option<&Process> {
        self.processes()
            .filter(|process| process.main && process.workload == *workload)
            .max_by_key(|process| process.start)
    }

    /// All that are known and were not seen to end. An untracked one may be gone.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.table.living().map(|entry| &entry.process)
    }

    /// Main and tracked processes: whose every end the kernel is to report.
    pub fn tracked(&self) -> impl Iterator<Item = ProcessId> {
        self.table.pinned().map(|entry| entry.process.id())
    }

    /// How many processes are known, and how often `/proc` was read for one.
    pub fn counts(&self) -> (usize, u64) {
        (self.table.len(), self.readings)
    }

    /// Path of a cgroup, if it is or was seen.
    pub fn cgroup_path(&mut self, cgroup: CgroupId, now: BootTime) -> Option<String> {
        self.cgroups.find(cgroup, now)
    }

    /// `healer supervise` runs this process: it and its descendants have the name from now on.
    /// Gives it back, unless it is gone and was never seen.
    pub fn supervise(&mut self, id: ProcessId, name: &str) -> Option<Process> {
        self.names.supervise(id, name);
        let _known = self.of_id(id);
        if let Some(dead) = self.table.dead(id) {
            self.names.assign(dead);
        }
        self.assign_all();
        self.table.settle(id.pid);
        self.of_id(id)
    }

    /// The supervisor is gone: the process and its descendants lose the name, the dead keep it.
    pub fn release(&mut self, id: ProcessId) {
        self.names.release(id);
        if self.table.get(id).is_some() {
            self.assign_all();
            self.table.settle(id.pid);
        }
    }

    /// Somebody who knows (systemd) says that this is its unit's main process.
    pub fn set_main(&mut self, id: ProcessId) {
        self.names.set_main(id);
        let _known = self.of_id(id);
        self.assign_one(id);
    }

    /// The process stays known until it ends, however many others come.
    pub fn track(&mut self, id: ProcessId) {
        let _known = self.of_id(id);
        if let Some(entry) = self.table.get(id) {
            entry.is_tracked = true;
        }
        self.table.settle(id.pid);
    }

    /// A runtime has told what it calls a container: all its processes have the names from now on.
    pub fn describe(&mut self, container: Container, pod: Option<Pod>) {
        let id = container.id.clone();
        self.names.describe(container, pod);
        for entry in self.table.living_mut() {
            if entry.is_in_container(&id) {
                self.names.assign(entry);
            }
        }
        // Of somebody short-lived the end may wait for the name.
        for entry in self.table.dead_mut() {
            if entry.is_in_container(&id) {
                let main = entry.process.main;
                self.names.assign(entry);
                entry.process.main |= main;
            }
        }
    }

    /// The API server has told who makes a pod again: all its processes know it from now on.
    pub fn control(&mut self, uid: &str, controller: &str) {
        self.names.control(uid, controller);
        for entry in self.table.living_mut() {
            if entry.process.place.pod.as_ref().is_some_and(|pod| pod.uid == uid) {
                self.names.assign(entry);
            }
        }
    }

    /// What its runtime has told of a container.
    pub fn container(&self, id: &str) -> Option<(Container, Option<Pod>)> {
        self.names.container(id).cloned()
    }

    /// Whose socket it is: the process that the kernel named, else whoever stands for the cgroup, else the cgroup
    /// itself.
    pub fn owner(&mut self, owner: Owner, now: BootTime) -> Process {
        if let Some(process) = owner.process.and_then(|id| self.of_id(id)) {
            return process;
        }
        let id = owner.cgroup.map_or(0, |cgroup| cgroup.id);
        let in_it = self.processes().filter(|process| process.cgroup_id == id && id > ROOT_CGROUP);
        if let Some(process) = in_it.min_by_key(|process| (!process.main, process.start, process.pid)) {
            return process.clone();
        }
        let mut entry = Entry::default();
        entry.process.cgroup_id = id;
        entry.process.cgroup =
            owner.cgroup.and_then(|cgroup| self.cgroups.find(cgroup, now)).unwrap_or_default();
        self.names.assign(&mut entry);
        entry.process
    }

    fn whom(&mut self, seen: &Seen, fact: &Fact, now: BootTime) -> Process {
        let id = seen.task.id;
        if id.start == BootTime(0) {
            // Kernels before 6.9 name an OOM victim by its pid alone; by now it may be reaped.
            let is_oom = matches!(fact, Fact::OomKilled(_));
            let tracked = |table: &ProcessTable| table.tracked(id.pid).map(|entry| entry.process.clone());
            let known = self.of_pid(id.pid).or_else(|| tracked(&self.table).filter(|_| is_oom));
            return known.unwrap_or_else(|| self.resolve(seen, None, now).process);
        }
        let process = if matches!(fact, Fact::Execed) {
            match self.table.get(id).cloned() {
                Some(before) => self.meet(seen, Some(before), now),
                None => self.meet_told(seen, fact, now),
            }
        } else {
            self.recall(seen, now).unwrap_or_else(|| self.meet_told(seen, fact, now))
        };
        if matches!(fact, Fact::Exited(_)) {
            self.table.bury(id);
            self.names.forget_main(id);
        }
        process
    }

    fn meet_told(&mut self, seen: &Seen, fact: &Fact, now: BootTime) -> Process {
        let is_end = matches!(fact, Fact::Exited(_));
        let is_whole = is_end || matches!(fact, Fact::Execed);
        let told = if is_whole { self.resolve_told(seen, is_end, now) } else { None };
        let Some(entry) = told else {
            return self.meet(seen, None, now);
        };
        let process = entry.process.clone();
        self.table.insert(entry);
        process
    }

    fn meet(&mut self, seen: &Seen, before: Option<Entry>, now: BootTime) -> Process {
        let entry = self.resolve(seen, before, now);
        let process = entry.process.clone();
        self.table.insert(entry);
        process
    }

    /// A known process, brought up to what the record says.
    fn recall(&mut self, seen: &Seen, now: BootTime) -> Option<Process> {
        let id = seen.task.id;
        let Some(entry) = self.table.get(id) else {
            return self.table.dead(id).map(|entry| entry.process.clone());
        };
        let is_unread = entry.exe.is_none() && seen.exe.is_some();
        let has_new_name = seen.exe.is_none() && entry.process.comm != seen.task.comm;
        // A record without the parent came first, and /proc had nothing left to tell.
        let is_orphan = entry.process.parent.is_none() && seen.parent.is_some();
        if is_unread || has_new_name || is_orphan || !same_file(seen.exe, entry.exe) {
            // An exec that was not sent, as nobody waited for it.
            let before = entry.clone();
            return Some(self.meet(seen, Some(before), now));
        }
        entry.process.start = id.start;
        entry.process.uid = seen.task.uid;
        entry.process.comm.clone_from(&seen.task.comm);
        if entry.process.args.is_empty() {
            entry.process.args.clone_from(&seen.args);
        }
        if has_moved(entry, seen) {
            let mut entry = entry.clone();
            self.place_seen(&mut entry, seen, now);
            self.names.assign(&mut entry);
            self.table.insert(entry);
            return self.of_id(id);
        }
        Some(entry.process.clone())
    }

    /// Adds to a sender or trigger what its record has no room for.
    fn complete(&mut self, party: &mut Party, now: BootTime) {
        if party.id.pid == 0 {
            return;
        }
        let seen = Seen { task: party.clone(), ..Seen::default() };
        let known = self.recall(&seen, now);
        let process = known.unwrap_or_else(|| self.meet(&seen, None, now));
        party.exe = process.exe;
        party.workload = Some(process.workload.0);
    }

    fn assign_one(&mut self, id: ProcessId) {
        if let Some(entry) = self.table.get(id) {
            self.names.assign(entry);
            self.table.settle(id.pid);
        }
    }

    /// Names everybody again; a supervise name goes down the generations, one a round. Who has
    /// lost its parent keeps what it inherited.
    fn assign_all(&mut self) {
        const GENERATIONS: u8 = 16;
        for _ in 0..GENERATIONS {
            let living = self.table.living();
            let names: BTreeMap<_, _> =
                living.map(|entry| (entry.process.id(), entry.process.place.supervise.clone())).collect();
            let mut has_changed = false;
            for entry in self.table.living_mut() {
                if let Some(name) = entry.parent_id().and_then(|id| names.get(&id)) {
                    entry.inherited.clone_from(name);
                }
                let before = entry.process.place.supervise.take();
                self.names.assign(entry);
                has_changed |= entry.process.place.supervise != before;
            }
            if !has_changed {
                return;
            }
        }
    }
}

fn has_moved(entry: &Entry, seen: &Seen) -> bool {
    let cgroup = seen.cgroup.filter(|c| c.hierarchy != Hierarchy::Memory);
    cgroup.is_some_and(|cgroup| cgroup.id != entry.process.cgroup_id)
}

#[cfg(test)]
mod tests;
