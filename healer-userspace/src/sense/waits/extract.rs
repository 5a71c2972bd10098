//! From sleepers to waits: who could end each wait, by every rule that applies.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    file_memory::{FileMemory, Walk},
    files::{self, FileWait, Holders},
    futex::{self, Sight},
    glibc::Layout,
    memory,
    namespace::Namespaces,
    owned::{joined, owned, vfork},
    peers::Peers,
    procfs::Proc,
    stack,
    table::{Sleeper, Table, condition},
    world,
};
use crate::{
    engine::time::BootTime,
    signal::waits::{Condition, Owner, Source, Wait, WaitKind},
};

const SYS_VFORK: i32 = 58;
const SYS_CLONE: i32 = 56;
const CLONE_VFORK: u64 = 0x4000;

/// Parked threads of one process that are named; the rest is counted.
const PARKED_MAX: usize = 64;

type ByThread = BTreeMap<u32, Vec<Wait>>;

/// All waits that are known.
#[derive(Default)]
pub(crate) struct Waits {
    pub(crate) by_thread: ByThread,
    /// Per process, threads left out for brevity: parked, and nobody waits for one of them.
    pub(crate) parked: BTreeMap<u32, u32>,
}

impl Waits {
    fn add(&mut self, tid: u32, wait: Wait) {
        self.by_thread.entry(tid).or_default().push(wait);
    }

    pub(crate) fn of(&self, tid: u32) -> &[Wait] {
        self.by_thread.get(&tid).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn owners(&self) -> BTreeSet<Owner> {
        self.by_thread.values().flatten().flat_map(|wait| wait.owners.iter().copied()).collect()
    }
}

/// Extracts waits and remembers what need not be looked at twice.
pub(crate) struct Extractor {
    pub(crate) proc: Proc,
    pub(crate) layout: Layout,
    /// Files are looked at only from the initial pid namespace: elsewhere some holders are invisible.
    sees_everybody: bool,
    stacks: BTreeMap<u32, (u64, ByThread)>,
    /// Processes of which every thread is parked, and their version then.
    worlds: BTreeMap<u32, u64>,
    wakers: BTreeMap<u32, (u64, Vec<String>)>,
    files: BTreeMap<u32, FileMemory>,
    walk: Walk,
}

impl Extractor {
    pub(crate) fn new(proc: Proc, layout: Layout) -> Self {
        /// `PROC_PID_INIT_INO` of include/linux/proc_ns.h.
        const INITIAL_NAMESPACE: u64 = 0xEFFF_FFFC;
        let sees_everybody = proc.own_pid_namespace() == Some(INITIAL_NAMESPACE);
        Self {
            proc,
            layout,
            sees_everybody,
            stacks: BTreeMap::new(),
            worlds: BTreeMap::new(),
            wakers: BTreeMap::new(),
            files: BTreeMap::new(),
            walk: Walk::default(),
        }
    }

    /// Waits of all sleepers. With `anew` nothing is taken from memory.
    pub(crate) fn waits(&mut self, table: &mut Table, now: BootTime, anew: bool) -> Waits {
        let mut waits = Waits::default();
        if anew {
            self.worlds.clear();
            self.stacks.clear();
            self.files.clear();
            self.walk = Walk::default();
        }
        self.look_at_futexes(table);
        self.owners(table, &mut waits);
        self.blockers(table, &mut waits);
        self.stacks(table, &mut waits);
        self.files(table, now, &mut waits);
        self.worlds(table, &mut waits);
        waits
    }

    /// Looks up who could wake threads of these processes from outside. Of others what is known holds until one of
    /// their threads runs.
    pub(crate) fn learn_wakers(&mut self, table: &Table, tgids: &BTreeSet<u32>) {
        self.wakers.retain(|tgid, (version, _)| table.version(*tgid) == *version);
        for tgid in tgids {
            self.wakers.insert(*tgid, (table.version(*tgid), world::wakers(&self.proc, *tgid)));
        }
    }

    /// What [`Extractor::learn_wakers`] has found.
    pub(crate) fn wakers(&self, table: &Table, tgid: u32) -> Vec<String> {
        let known = self.wakers.get(&tgid).filter(|(version, _)| *version == table.version(tgid));
        known.map(|(_, wakers)| wakers.clone()).unwrap_or_default()
    }

    fn look_at_futexes(&self, table: &mut Table) {
        table.look(|sleeper| {
            let call = sleeper.call.filter(|_| condition(&sleeper.record) == Condition::Stuck)?;
            let read = memory::reader(sleeper.record.tgid);
            Some(futex::look(&call, self.layout, &read))
        });
    }

    /// Locks that say who holds them, and joins.
    fn owners(&self, table: &Table, waits: &mut Waits) {
        let mut namespaces = Namespaces::new(&self.proc);
        for sleeper in table.open() {
            let tgid = sleeper.record.tgid;
            let wait = match &sleeper.sight {
                Some(Sight::Owned { tid, .. }) => {
                    let who = namespaces.resolve(tgid, *tid);
                    owned(sleeper, who)
                }
                Some(Sight::Join { word, by_kernel }) => {
                    joined(sleeper, *word, *by_kernel, namespaces.resolve(tgid, *word))
                }
                Some(Sight::Open | Sight::Parked { .. } | Sight::Ownerless { .. }) | None => None,
            };
            if let Some(wait) = wait {
                waits.add(sleeper.record.pid, wait);
            }
        }
    }

    /// Kernel locks whose holder the kernel names, and parents that wait for the exec of a vfork child.
    fn blockers(&self, table: &Table, waits: &mut Waits) {
        for sleeper in table.open().filter(|one| condition(&one.record) == Condition::Uninterruptible) {
            let record = &sleeper.record;
            let is_vfork =
                record.syscall == SYS_VFORK || record.syscall == SYS_CLONE && record.arg0 & CLONE_VFORK != 0;
            let wait = if record.blocker_owner != 0 && record.blocker_owner != record.pid {
                Some(Wait {
                    kind: WaitKind::KernelLock,
                    lock: format!("{:#x}", record.blocker & !3),
                    source: Source::Kernel,
                    word: None,
                    owners: vec![Owner::Task(record.blocker_owner)],
                    says: format!("task_struct.blocker is held by thread {}", record.blocker_owner),
                })
            } else if is_vfork {
                vfork(&self.proc, record)
            } else {
                None
            };
            if let Some(wait) = wait {
                waits.add(record.pid, wait);
            }
        }
    }

    fn stacks(&mut self, table: &Table, waits: &mut Waits) {
        let mut stacks = BTreeMap::new();
        for tgid in table.processes() {
            // Whoever is awake cannot be excluded, and one candidate who may run saves everybody.
            let is_small = table.all_asleep(tgid).is_some_and(|threads| threads <= stack::THREADS_MAX);
            let is_ownerless = |one: &Sleeper| matches!(one.sight, Some(Sight::Ownerless { .. }));
            if !is_small || !table.sleepers_of(tgid).any(is_ownerless) {
                continue;
            }
            let version = table.version(tgid);
            let known = self.stacks.remove(&tgid).filter(|(known, _)| *known == version);
            let found = known.unwrap_or_else(|| (version, by_stack(table, tgid)));
            for (tid, more) in &found.1 {
                more.iter().for_each(|wait| waits.add(*tid, wait.clone()));
            }
            stacks.insert(tgid, found);
        }
        self.stacks = stacks;
    }

    fn files(&mut self, table: &Table, now: BootTime, waits: &mut Waits) {
        if !self.sees_everybody {
            return;
        }
        let stuck = table.open().filter(|one| condition(&one.record) == Condition::Stuck);
        let mut files = BTreeMap::new();
        let settled: BTreeSet<u32> =
            self.files.iter().filter(|(_, memory)| memory.is_settled()).map(|(tid, _)| *tid).collect();
        let may_walk = self.walk.is_due(now);
        let mut due = Vec::new();
        let mut peers = Peers::default();
        for sleeper in stuck.filter(|sleeper| files::is_candidate(&sleeper.record)) {
            let record = &sleeper.record;
            let memory = self.files.remove(&record.pid).filter(|memory| memory.is_of(record));
            let is_good = |memory: &FileMemory| {
                memory.is_fresh(record, now)
                    || memory.is_answered(now, |tgid| self.may_run(table, tgid, &settled))
            };
            let is_enough = memory.as_ref().is_some_and(is_good) || !may_walk;
            if is_enough {
                // What is too old waits for the next walk; who was never looked at, too.
                files.extend(memory.map(|memory| (record.pid, memory)));
            } else if let Some(wait) = FileWait::of(&self.proc, sleeper, &mut peers) {
                due.push((sleeper, wait));
            } else {
                files.insert(record.pid, FileMemory::new(record, now, true, None));
            }
        }
        let inodes: BTreeSet<(u64, u64)> = due.iter().flat_map(|(_, wait)| wait.files()).collect();
        if !inodes.is_empty() {
            let holders = self.walk.time(now, || Holders::find(&self.proc, &inodes));
            for (sleeper, wait) in due {
                let record = &sleeper.record;
                let wait = holders.wait(&self.proc, record.tgid, &wait);
                files.insert(record.pid, FileMemory::new(record, now, false, wait));
            }
        }
        for (tid, memory) in &files {
            memory.wait.iter().for_each(|wait| waits.add(*tid, wait.clone()));
        }
        self.files = files;
    }

    /// Whether some thread of a process is awake, or sleeps where somebody outside may wake it.
    fn may_run(&self, table: &Table, tgid: u32, settled: &BTreeSet<u32>) -> bool {
        let is_open = |one: &Sleeper| table.is_open(one) && !settled.contains(&one.record.pid);
        let asleep = table.all_asleep(tgid).is_some() && table.sleepers_of(tgid).all(is_open);
        !asleep && self.proc.has_thread(tgid, tgid)
    }

    fn worlds(&mut self, table: &Table, waits: &mut Waits) {
        let mut worlds = BTreeMap::new();
        for tgid in table.processes() {
            let Some(threads) = table.all_asleep(tgid) else {
                continue;
            };
            let is_waiting = |one: &Sleeper| is_parked(one) || !waits.of(one.record.pid).is_empty();
            if !table.sleepers_of(tgid).all(is_waiting) {
                continue;
            }
            let version = table.version(tgid);
            let is_known = self.worlds.get(&tgid) == Some(&version);
            if is_known || self.proc.threads(tgid).len() == threads {
                park(table, tgid, waits);
                worlds.insert(tgid, version);
            }
        }
        self.worlds = worlds;
    }
}

/// Names the first parked threads, and those that others wait for; counts the rest.
fn park(table: &Table, tgid: u32, waits: &mut Waits) {
    let named = waits.owners();
    let mut free = PARKED_MAX;
    for sleeper in table.sleepers_of(tgid).filter(|one| is_parked(one)) {
        let tid = sleeper.record.pid;
        let is_told = !waits.of(tid).is_empty() || named.contains(&Owner::Task(tid));
        if !is_told && free == 0 {
            *waits.parked.entry(tgid).or_default() += 1;
            continue;
        }
        free -= usize::from(!is_told);
        if let Some(wait) = parked(sleeper) {
            waits.add(tid, wait);
        }
    }
}

/// Ownerless locks of one process of which every thread sleeps.
fn by_stack(table: &Table, tgid: u32) -> ByThread {
    let keys_of = |sleeper: &Sleeper| match &sleeper.sight {
        Some(Sight::Ownerless { keys, .. }) => keys.clone(),
        Some(Sight::Open | Sight::Parked { .. } | Sight::Owned { .. } | Sight::Join { .. }) | None => {
            Vec::new()
        }
    };
    let wanted: BTreeMap<u32, Vec<u64>> =
        table.sleepers_of(tgid).map(|one| (one.record.pid, keys_of(one))).collect();
    let all: BTreeSet<u64> = wanted.values().flatten().copied().collect();
    let known = stack::who_knows(table, tgid, &all);
    let mut waits = ByThread::new();
    for sleeper in table.sleepers_of(tgid) {
        let Some(Sight::Ownerless { lock, word, keys }) = &sleeper.sight else {
            continue;
        };
        let is_fellow =
            |tid: &u32| wanted.get(tid).is_some_and(|other| other.iter().any(|key| keys.contains(key)));
        let candidates = keys.iter().filter_map(|key| known.get(key)).flatten();
        let owners: BTreeSet<u32> = candidates.filter(|tid| !is_fellow(tid)).copied().collect();
        if owners.is_empty() {
            continue;
        }
        let wait = Wait {
            kind: WaitKind::Lock,
            lock: format!("{lock:#x}"),
            source: Source::Stack,
            word: Some(*word),
            says: format!("its address is on the stacks of threads {owners:?} and on no other"),
            owners: owners.into_iter().map(Owner::Task).collect(),
        };
        waits.entry(sleeper.record.pid).or_default().push(wait);
    }
    waits
}

fn is_parked(sleeper: &Sleeper) -> bool {
    let is_private = sleeper.call.as_ref().is_some_and(|call| call.is_private);
    let sleeps_on = match &sleeper.sight {
        Some(Sight::Parked { .. } | Sight::Owned { .. } | Sight::Ownerless { .. }) => true,
        Some(Sight::Open | Sight::Join { .. }) | None => false,
    };
    is_private && sleeps_on && condition(&sleeper.record) == Condition::Stuck
}

/// The wait of a thread that only its own process can wake.
fn parked(sleeper: &Sleeper) -> Option<Wait> {
    let call = sleeper.call.as_ref()?;
    let word = match &sleeper.sight {
        Some(Sight::Parked { word }) => *word,
        Some(Sight::Owned { word, .. } | Sight::Ownerless { word, .. }) => Some(*word),
        Some(Sight::Open | Sight::Join { .. }) | None => return None,
    };
    Some(Wait {
        kind: WaitKind::Wakeup,
        lock: format!("{:#x}", call.address),
        source: Source::ClosedWorld,
        word,
        owners: vec![Owner::Process(sleeper.record.tgid)],
        says: "an unbounded wait at a private futex: only a thread of its process can wake it".to_owned(),
    })
}
