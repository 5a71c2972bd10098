//! From scans of the tasks to snapshots of waits: who is stuck, and who could end it.
//!
//! Everything is read from outside, without stopping anybody. A thread whose switches are the same before and
//! after a word was read has not run in between: so what was read was true at one moment.

mod alert;
mod call_site;
mod children;
mod condition;
mod descriptors;
mod extract;
mod file_memory;
mod file_system;
mod files;
mod futex;
mod glibc;
mod hope;
mod libc_locks;
pub(in crate::sense) mod memory;
mod namespace;
mod owned;
mod parked;
mod peers;
mod pieces;
pub(in crate::sense) mod procfs;
mod prove;
mod shared;
mod snapshot;
mod stack;
mod stack_memory;
mod table;
mod world;

use std::{cell::LazyCell, collections::BTreeSet, io, path::Path, time::Duration};

use healer_common::task_scan::TaskRecord;

pub use glibc::Layout;
pub use prove::prove_again;

use crate::{
    clock,
    engine::{
        detect::deadlock::graph::{Grade, Graph},
        time::BootTime,
    },
    identity::process::Process,
    sense::{
        freezer::{CGROUPS, Freezers},
        poll::tasks::{Pass, TaskScan},
    },
    signal::waits::{Condition, Owner, WaitSnapshot},
};
use alert::{Alert, Suspect};
use condition::{condition, held};
use extract::{Extractor, Waits};
pub(crate) use peers::copy_of;
pub(crate) use procfs::Proc;
use snapshot::{Depth, Shot};
use table::Table;

/// Between scans on a quiet node, while somebody new is suspected, and when scans are dear.
const QUIET: Duration = Duration::from_secs(1);
const ALERT: Duration = Duration::from_millis(250);
const UNDER_LOAD: Duration = Duration::from_secs(2);
/// Until the scan that confirms a new suspicion.
const CONFIRM: Duration = Duration::from_millis(100);
/// Between scans of /proc, where the kernel has no iterators.
const BY_PROC: Duration = Duration::from_secs(5);
/// A scan that costs more than this is dear.
const DEAR: Duration = Duration::from_millis(20);
/// Of a dead file server thousands may wait.
const FILE_SYSTEMS_MAX: usize = 32;
/// Of the time between scans, what a thread must have slept through.
const SLEPT_PERCENT: u32 = 80;

/// Looks for stuck threads, scan by scan.
pub struct Scanner {
    source: Source,
    extractor: Extractor,
    table: Table,
    scans: u64,
    /// Whom the last snapshot shows to be dead.
    alert: Alert,
    /// CPU time of the last scan: that others keep us from running makes it no dearer.
    cost: Duration,
    shows_all: bool,
}

enum Source {
    Kernel(TaskScan),
    /// The records of the last scan.
    Proc(std::collections::BTreeMap<u32, TaskRecord>),
}

impl Source {
    fn asleep_now(&mut self, proc: &Proc, tgid: u32) -> Vec<TaskRecord> {
        match self {
            Self::Kernel(scan) => scan.asleep_now(tgid).unwrap_or_default(),
            Self::Proc(_) => proc.asleep_now(tgid),
        }
    }
}

impl Scanner {
    /// `scan` is [`crate::sense::Sense::take_task_scan`]'s; without it /proc is read. `proc` is `/proc`.
    pub fn new(scan: Option<TaskScan>, proc: &Path) -> Self {
        let source = match scan {
            Some(scan) => Source::Kernel(scan),
            None => Source::Proc(std::collections::BTreeMap::new()),
        };
        Self {
            source,
            extractor: Extractor::new(Proc::new(proc), glibc::self_test()),
            table: Table::default(),
            scans: 0,
            alert: Alert::default(),
            cost: Duration::ZERO,
            shows_all: false,
        }
    }

    /// Which layouts of the C library were found to hold.
    pub fn layout(&self) -> Layout {
        self.extractor.layout
    }

    /// What keeps the sleeping threads of a process from being judged: it is stopped, traced, frozen, or 32-bit.
    /// `None` if nothing does, or if it does not sleep.
    pub fn left_out(&self, tgid: u32) -> Option<Condition> {
        let conditions = self.table.sleepers_of(tgid).map(|sleeper| condition(&sleeper.record));
        conditions.into_iter().find(|one| match one {
            Condition::Stopped | Condition::Traced | Condition::Frozen | Condition::Compat => true,
            Condition::Stuck
            | Condition::Live
            | Condition::Uninterruptible
            | Condition::Exiting
            | Condition::Kernel => false,
        })
    }

    /// How long to wait until the next scan.
    pub fn interval(&self) -> Duration {
        match self.source {
            Source::Proc(_) => BY_PROC,
            Source::Kernel(_) if self.alert.is_new() && self.cost < CONFIRM => CONFIRM,
            Source::Kernel(_) if self.is_alert() && self.cost < ALERT => ALERT,
            Source::Kernel(_) if DEAR < self.cost => UNDER_LOAD,
            Source::Kernel(_) => QUIET,
        }
    }

    /// Somebody new is suspected.
    fn is_alert(&self) -> bool {
        self.alert.is_on(clock::boot())
    }

    /// Scans once. `name` gives the process of a thread group, by the exact start of its leader.
    ///
    /// # Errors
    /// If the kernel refuses the scan.
    pub fn scan(
        &mut self,
        name: &mut dyn FnMut(u32, BootTime) -> Option<Process>,
    ) -> io::Result<WaitSnapshot> {
        let (began, cpu) = (clock::boot(), clock::thread_cpu());
        // Who sleeps for less than that is not worth telling of, however soon a suspicion is to be confirmed.
        let min_sleep = self.interval().max(ALERT) * SLEPT_PERCENT / 100;
        let pass = match &mut self.source {
            Source::Kernel(scan) => scan.pass(min_sleep)?,
            Source::Proc(last) => {
                let mut freezers = Freezers::new(Path::new(CGROUPS));
                pass_of_proc(&self.extractor.proc, &mut freezers, last, began)
            }
        };
        self.table.apply(&pass);
        self.look_at_file_systems(began);
        self.scans += 1;
        let source = &mut self.source;
        let mut now = |proc: &Proc, tgid| source.asleep_now(proc, tgid);
        let waits = self.extractor.waits(&mut self.table, began, false, &mut now);
        let quick = self.shot(&waits, began).take(Depth::Hopeless, &mut numbered);
        let dead = Graph::new(&quick).dead(Grade::Any);
        let is_known = self.alert.knows(&suspects(&quick, &dead)) && !self.is_alert();
        let mut snapshot = if self.shows_all {
            self.look_closely(&dead, began, name)
        } else if dead.is_empty() {
            WaitSnapshot { scan: self.scans, ..WaitSnapshot::default() }
        } else if is_known {
            // Nobody of them has run since the proof: that would have been told.
            let mut snapshot = quick;
            keep(&mut snapshot, &dead);
            self.forget_ended(&mut snapshot);
            self.shot(&waits, began).name(&mut snapshot, name);
            snapshot
        } else {
            let mut snapshot = self.look_closely(&dead, began, name);
            keep(&mut snapshot, &dead);
            snapshot
        };
        self.forget_awake();
        self.shot(&waits, began).add_deaf(&mut snapshot, name);
        let dead = Graph::new(&snapshot).dead(Grade::Any);
        self.alert.note(began, suspects(&snapshot, &dead));
        self.cost = clock::thread_cpu().saturating_sub(cpu);
        Ok(snapshot)
    }

    /// Of each that takes no signal until it is found, before it is told of: it does not run in between. First those
    /// whom nobody has looked at.
    fn look_at_file_systems(&mut self, now: BootTime) {
        let is_new = |one: &&table::Sleeper| {
            !one.is_placed
                && condition(&one.record) == Condition::Uninterruptible
                && (self.shows_all || snapshot::is_told(&one.record, now))
        };
        let mut new: Vec<(u8, TaskRecord)> =
            self.table.deaf().filter(is_new).map(|one| (one.looks, one.record)).collect();
        new.sort_by_key(|(looks, _)| *looks);
        for (_, record) in new.into_iter().take(FILE_SYSTEMS_MAX) {
            let found = file_system::of(&self.extractor.proc, &record);
            self.table.lies_on(record.pid, found);
        }
    }

    /// Convoys too: everybody who waits for somebody, not only the dead.
    #[must_use]
    pub fn showing_all(mut self) -> Self {
        (self.shows_all, self.extractor.shows_all) = (true, true);
        self
    }

    /// What was remembered is not good enough for a proof: words and files are read anew. What stacks have shown, which
    /// proves nothing, holds as long as those concerned sleep on.
    fn look_closely(
        &mut self,
        dead: &BTreeSet<u32>,
        now: BootTime,
        name: &mut dyn FnMut(u32, BootTime) -> Option<Process>,
    ) -> WaitSnapshot {
        let suspects = dead.iter().filter_map(|tid| self.table.get(*tid));
        let tgids: BTreeSet<u32> = suspects.map(|one| one.record.tgid).collect();
        self.table.reopen(&tgids);
        let source = &mut self.source;
        let mut at_once = |proc: &Proc, tgid| source.asleep_now(proc, tgid);
        let waits = self.extractor.waits(&mut self.table, now, !dead.is_empty(), &mut at_once);
        let quick = self.shot(&waits, now).take(Depth::Hopeless, &mut numbered);
        let worlds = snapshot::worlds(&quick, dead);
        self.extractor.learn_wakers(&self.table, &worlds);
        let mut snapshot = self.shot(&waits, now).take(Depth::Everybody, name);
        self.bracket(&mut snapshot, dead);
        snapshot
    }

    fn shot<'a>(&'a self, waits: &'a Waits, now: BootTime) -> Shot<'a> {
        Shot { extractor: &self.extractor, table: &self.table, waits, scan: self.scans, now }
    }

    /// Only whoever ends in its sleep does not run once more, and with it ends its process.
    fn forget_ended(&mut self, snapshot: &mut WaitSnapshot) {
        let proc = &self.extractor.proc;
        let has_ended = |tgid: &u32| proc.threads(*tgid).is_empty();
        let tgids: BTreeSet<u32> = snapshot.tasks.iter().map(|task| task.tgid).collect();
        let ended: BTreeSet<u32> = tgids.into_iter().filter(has_ended).collect();
        let gone = snapshot.tasks.iter().filter(|task| ended.contains(&task.tgid));
        gone.for_each(|task| self.table.remove(task.tid));
        snapshot.tasks.retain(|task| !ended.contains(&task.tgid));
        snapshot.processes.retain(|one| !ended.contains(&one.process.pid));
    }

    /// The deaf who would be told of are few: each is looked at, for whoever ends in its sleep does not run once more.
    fn forget_awake(&mut self) {
        let proc = &self.extractor.proc;
        let woke = |sleeper: &&table::Sleeper| {
            let record = &sleeper.record;
            let status = proc.status(record.tgid, record.pid);
            status.is_none_or(|status| status.switches != record.switches || status.state == 'Z')
        };
        let told = self.table.deaf().take(snapshot::DEAF_MAX);
        let tids: Vec<u32> = told.filter(woke).map(|sleeper| sleeper.record.pid).collect();
        tids.into_iter().for_each(|tid| self.table.remove(tid));
    }

    /// After the words were read: whoever has run meanwhile is alive.
    fn bracket(&mut self, snapshot: &mut WaitSnapshot, dead: &BTreeSet<u32>) {
        let proc = &self.extractor.proc;
        for task in snapshot.tasks.iter_mut().filter(|task| dead.contains(&task.tid)) {
            let is_same = proc
                .status(task.tgid, task.tid)
                .is_some_and(|status| status.switches == task.switches && matches!(status.state, 'S' | 'D'));
            if !is_same {
                task.condition = Condition::Live;
                self.table.remove(task.tid);
            }
        }
    }
}

/// For a look that nobody is told of.
#[expect(clippy::unnecessary_wraps, reason = "it stands for one that does not know everybody")]
fn numbered(pid: u32, start: BootTime) -> Option<Process> {
    Some(Process { pid, start, ..Process::default() })
}

/// Leaves the dead, whoever they wait for, and their processes.
fn keep(snapshot: &mut WaitSnapshot, dead: &BTreeSet<u32>) {
    let of_dead = snapshot.tasks.iter().filter(|task| dead.contains(&task.tid));
    let owners: BTreeSet<Owner> =
        of_dead.flat_map(|task| &task.waits).flat_map(|wait| wait.owners.clone()).collect();
    snapshot.tasks.retain(|task| {
        dead.contains(&task.tid)
            || owners.contains(&Owner::Task(task.tid))
            || owners.contains(&Owner::Process(task.tgid))
    });
    let tgids: BTreeSet<u32> = snapshot.tasks.iter().map(|task| task.tgid).collect();
    snapshot.processes.retain(|one| tgids.contains(&one.process.pid));
}

fn suspects(snapshot: &WaitSnapshot, dead: &BTreeSet<u32>) -> BTreeSet<Suspect> {
    let tasks = snapshot.tasks.iter().filter(|task| dead.contains(&task.tid));
    tasks.map(|task| Suspect { tid: task.tid, start: task.start, switches: task.switches }).collect()
}

/// The same by /proc: a thread sleeps if it has not switched since the scan before.
fn pass_of_proc(
    proc: &Proc,
    freezers: &mut Freezers,
    last: &mut std::collections::BTreeMap<u32, TaskRecord>,
    now: BootTime,
) -> Pass {
    let mut seen = std::collections::BTreeMap::new();
    let mut pass = Pass { is_full: true, records: Vec::new() };
    for tgid in proc.pids() {
        let threads = proc.threads(tgid);
        let leader = proc.stat(tgid, tgid).map_or(0, |stat| stat.start_boot_ns);
        let freezer = LazyCell::new(|| freezers.of(&proc.path(""), tgid));
        for tid in &threads {
            let Some(mut record) = proc.record(tgid, *tid, leader, threads.len() as u32) else {
                continue;
            };
            let known = last
                .get(tid)
                .filter(|old| (old.start_boot_ns, old.switches) == (record.start_boot_ns, record.switches));
            record.since_boot_ns = known.map_or(now.0, |old| old.since_boot_ns);
            if known.is_some() && record.state != 0 && tgid != std::process::id() {
                pass.records.push(freezer.map_or(record, |freezer| held(record, freezer)));
            }
            seen.insert(*tid, record);
        }
    }
    *last = seen;
    pass
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fixture::{Fake, Tree};

    /// In a futex, like any sleeper.
    fn sleeps(tree: &Tree, pid: u32, cgroup: &str) {
        tree.process(&Fake::new(pid, "web").in_cgroup(cgroup));
        let file = |name: &str, text: &str| tree.file(&format!("proc/{pid}/task/{pid}/{name}"), text);
        file("stat", &format!("{pid} (web) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 500 0 0\n"));
        file("status", &format!("State:\tS (sleeping)\nTgid:\t{pid}\nvoluntary_ctxt_switches:\t5\n"));
        file("syscall", "202 0x55 0x80 0x2 0x0 0x0 0x0 0x7ffd 0x7f01\n");
    }

    #[test]
    fn by_proc_who_is_frozen_is_told_from_who_sleeps() {
        let tree = Tree::new();
        let (frozen, well) = (4_194_311, 4_194_312);
        sleeps(&tree, frozen, "/frozen");
        sleeps(&tree, well, "/well");
        tree.file("cgroup/frozen/cgroup.events", "populated 1\nfrozen 1\n");
        let proc = Proc::new(&tree.root().join("proc"));
        let mut last = std::collections::BTreeMap::new();
        let mut pass = |now| {
            let mut freezers = Freezers::new(&tree.root().join("cgroup"));
            pass_of_proc(&proc, &mut freezers, &mut last, BootTime(now))
        };
        assert!(pass(1).records.is_empty(), "the first meets them");
        let records = pass(2).records;
        let of = |pid: u32| records.iter().find(|record| record.pid == pid).map(condition);
        assert_eq!((of(frozen), of(well)), (Some(Condition::Frozen), Some(Condition::Stuck)));
    }
}
