//! From sleepers to waits: who could end each wait, by every rule that applies.

use std::collections::{BTreeMap, BTreeSet};

use healer_common::task_scan::TaskRecord;

use super::{
    children,
    condition::condition,
    file_memory::{FileMemory, Walk},
    files::{self, FileWait, Holders},
    futex::{self, Sight},
    glibc::Layout,
    hope, memory,
    namespace::Namespaces,
    owned::{joined, owned, vfork},
    parked::park,
    peers::Peers,
    procfs::Proc,
    shared::{self, Place},
    stack,
    stack_memory::{self, StackMemory},
    table::{Sleeper, Table},
    world,
};
use crate::{
    clock,
    engine::time::BootTime,
    signal::{
        calls,
        waits::{Condition, Owner, Source, Wait, WaitKind},
    },
};

const CLONE_VFORK: u64 = 0x4000;

pub(super) type ByThread = BTreeMap<u32, Vec<Wait>>;

/// Gives the threads of a process that sleep at this moment, for however short a time.
pub(super) type Now<'a> = &'a mut dyn FnMut(&Proc, u32) -> Vec<TaskRecord>;

/// All waits that are known.
#[derive(Default)]
pub(crate) struct Waits {
    pub(crate) by_thread: ByThread,
    /// Per process, threads left out for brevity: parked, and nobody waits for one of them.
    pub(crate) parked: BTreeMap<u32, u32>,
}

impl Waits {
    pub(super) fn add(&mut self, tid: u32, wait: Wait) {
        self.by_thread.entry(tid).or_default().push(wait);
    }

    pub(crate) fn of(&self, tid: u32) -> &[Wait] {
        self.by_thread.get(&tid).map_or(&[], Vec::as_slice)
    }

    /// Threads that wait, and threads that others wait for.
    pub(super) fn tids(&self) -> impl Iterator<Item = u32> {
        let owners = self.by_thread.values().flatten().flat_map(|wait| &wait.owners);
        let owners = owners.filter_map(|owner| match owner {
            Owner::Task(tid) => Some(*tid),
            Owner::Process(_) | Owner::Gone(_) => None,
        });
        self.by_thread.keys().copied().chain(owners)
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
    /// Who waits for somebody awake is told of too.
    pub(crate) shows_all: bool,
    stacks: BTreeMap<u32, StackMemory>,
    /// Processes of which every thread is parked, and their version then.
    worlds: BTreeMap<u32, u64>,
    wakers: BTreeMap<u32, (u64, Vec<String>)>,
    files: BTreeMap<u32, FileMemory>,
    walk: Walk,
    /// Sleepers whose lock somebody of another pid namespace may hold, and how often they had switched then.
    foreign: BTreeMap<u32, u64>,
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
            shows_all: false,
            stacks: BTreeMap::new(),
            worlds: BTreeMap::new(),
            wakers: BTreeMap::new(),
            files: BTreeMap::new(),
            walk: Walk::default(),
            foreign: BTreeMap::new(),
        }
    }

    /// Waits of all sleepers. With `anew` nothing is taken from memory but what stacks have shown.
    pub(crate) fn waits(&mut self, table: &mut Table, time: BootTime, anew: bool, now: Now<'_>) -> Waits {
        let mut waits = Waits::default();
        if anew {
            self.worlds.clear();
            self.files.clear();
            self.walk = Walk::default();
        }
        let locked = locked(table);
        self.look_at_futexes(table, &locked);
        self.owners(table, anew, &mut waits);
        self.blockers(table, &mut waits);
        self.stacks(table, time, &locked, now, &mut waits);
        self.files(table, time, anew, &mut waits);
        self.worlds(table, &mut waits);
        waits
    }

    /// Looks up who could wake threads of these processes from outside. Of others what is known holds until one of
    /// their threads runs.
    pub(crate) fn learn_wakers(&mut self, table: &Table, tgids: &BTreeSet<u32>) {
        self.wakers.retain(|tgid, (version, _)| table.version(*tgid) == *version);
        for tgid in tgids {
            let knows_children = table.sleepers_of(*tgid).any(|one| children::is_wait(&one.record));
            let wakers = world::wakers(&self.proc, *tgid, knows_children);
            self.wakers.insert(*tgid, (table.version(*tgid), wakers));
        }
    }

    /// What [`Extractor::learn_wakers`] has found.
    pub(crate) fn wakers(&self, table: &Table, tgid: u32) -> Vec<String> {
        let known = self.wakers.get(&tgid).filter(|(version, _)| *version == table.version(tgid));
        known.map(|(_, wakers)| wakers.clone()).unwrap_or_default()
    }

    fn look_at_futexes(&self, table: &mut Table, locked: &BTreeSet<u32>) {
        self.look(table, locked);
        // The C++ library asks for a shared futex wherever its word lies, and so does musl for a static semaphore.
        let is_new = |one: &&Sleeper| !one.is_placed && matches!(one.sight, Some(Sight::Shared { .. }));
        let place = |one: &Sleeper| {
            let address = one.call.as_ref()?.address;
            Some((one.record.pid, shared::place(&self.proc, one.record.pid, address) == Some(Place::Own)))
        };
        let places: Vec<(u32, bool)> = table.open().filter(is_new).filter_map(place).collect();
        places.iter().for_each(|(tid, is_own)| table.place(*tid, *is_own));
        if places.iter().any(|(_, is_own)| *is_own) {
            self.look(table, locked);
        }
    }

    fn look(&self, table: &mut Table, locked: &BTreeSet<u32>) {
        table.look(|sleeper| {
            let is_seen =
                || condition(&sleeper.record) == Condition::Stuck && !locked.contains(&sleeper.record.tgid);
            let call = sleeper.call.filter(|_| is_seen())?;
            let read = memory::reader(sleeper.record.pid);
            Some(futex::look(&call, self.layout, &read))
        });
    }

    /// Locks that say who holds them, and joins.
    fn owners(&mut self, table: &mut Table, anew: bool, waits: &mut Waits) {
        let mut foreign = core::mem::take(&mut self.foreign);
        foreign.retain(|tid, switches| table.get(*tid).is_some_and(|one| one.record.switches == *switches));
        let mut namespaces = Namespaces::new(&self.proc);
        let mut joins = Vec::new();
        for sleeper in table.open() {
            let tgid = sleeper.record.tgid;
            let wait = match &sleeper.sight {
                // Asked before anything is said of it, not in each scan.
                Some(Sight::Owned { lock, .. })
                    if is_shared(sleeper)
                        && (foreign.contains_key(&sleeper.record.pid)
                            || anew && namespaces.share_memory(tgid, sleeper.record.pid, *lock)) =>
                {
                    foreign.insert(sleeper.record.pid, sleeper.record.switches);
                    None
                }
                Some(Sight::Owned { tid, .. }) => {
                    let who = namespaces.resolve(tgid, *tid);
                    owned(sleeper, who)
                }
                Some(Sight::Join { word, by_kernel }) => {
                    let who = namespaces.resolve(tgid, *word);
                    joins.push((sleeper.record.pid, joined(sleeper, *word, *by_kernel, who)));
                    None
                }
                Some(Sight::Open | Sight::Parked { .. } | Sight::Shared { .. } | Sight::Ownerless { .. })
                | None => None,
            };
            if let Some(wait) = wait {
                waits.add(sleeper.record.pid, wait);
            }
        }
        self.foreign = foreign;
        joins.into_iter().for_each(|(tid, join)| table.settle(tid, join));
        table.joins().iter().for_each(|(tid, join)| waits.add(*tid, join.clone()));
    }

    /// Kernel locks whose holder the kernel names, and parents that wait for the exec of a vfork child.
    fn blockers(&self, table: &Table, waits: &mut Waits) {
        for sleeper in table.open().filter(|one| condition(&one.record) == Condition::Uninterruptible) {
            let record = &sleeper.record;
            let is_vfork = record.syscall == calls::VFORK
                || record.syscall == calls::CLONE && record.arg0 & CLONE_VFORK != 0;
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

    /// Nobody's stack changes while it sleeps: what they have shown is not read again to be proved.
    fn stacks(
        &mut self,
        table: &Table,
        time: BootTime,
        locked: &BTreeSet<u32>,
        now: Now<'_>,
        waits: &mut Waits,
    ) {
        let mut stacks = BTreeMap::new();
        let mut again = stack::ASKED_AGAIN_MAX;
        for tgid in table.ownerless().into_iter().filter(|tgid| !locked.contains(tgid)) {
            let known = self.stacks.remove(&tgid);
            let is_enough = known.as_ref().is_some_and(|known| known.is_fresh(table, tgid, time));
            let is_small = table.sleepers_of(tgid).count() <= stack::THREADS_MAX;
            let memory = match known {
                Some(known) if is_enough => known,
                known if is_small && (known.is_some() || stack_memory::is_due(table, tgid, time)) => {
                    let shown = stack::look(&self.proc, table, tgid, &mut *now, &mut again);
                    StackMemory::new(table, tgid, time, shown)
                }
                _ => continue,
            };
            for (tid, more) in memory.waits(table) {
                more.into_iter().for_each(|wait| waits.add(tid, wait));
            }
            stacks.insert(tgid, memory);
        }
        self.stacks = stacks;
    }

    fn files(&mut self, table: &Table, now: BootTime, anew: bool, waits: &mut Waits) {
        if !self.sees_everybody {
            return;
        }
        let is_kept = |one: &Sleeper| {
            condition(&one.record) == Condition::Stuck
                && (files::is_candidate(&one.record) || matches!(one.sight, Some(Sight::Shared { .. })))
                && table.is_open(one)
        };
        self.files.retain(|tid, memory| {
            table.get(*tid).is_some_and(|one| is_kept(one) && memory.is_of(&one.record))
        });
        let is_new = |one: &Sleeper| !self.files.contains_key(&one.record.pid);
        let has_new = table.open().any(|one| is_kept(one) && is_new(one));
        if self.walk.is_due(now, has_new) {
            let due: Vec<&Sleeper> =
                table.open().filter(|one| is_kept(one) && !self.is_known(table, one, now)).collect();
            if !due.is_empty() {
                let before = clock::thread_cpu();
                self.look_for_holders(table, now, &due, anew);
                self.walk.took(now, clock::thread_cpu().saturating_sub(before));
            }
        }
        for (tid, memory) in &self.files {
            memory.wait.iter().for_each(|wait| waits.add(*tid, wait.clone()));
        }
    }

    /// What is remembered of its wait is still good enough.
    fn is_known(&self, table: &Table, sleeper: &Sleeper, now: BootTime) -> bool {
        self.files.get(&sleeper.record.pid).is_some_and(|memory| {
            memory.is_fresh(&sleeper.record, now)
                || memory.is_answered(now, |tgid| self.may_run(table, tgid, now, &mut BTreeSet::new()))
        })
    }

    fn look_for_holders(&mut self, table: &Table, now: BootTime, due: &[&Sleeper], anew: bool) {
        let mut peers = Peers::default();
        let mut left = Vec::new();
        for sleeper in due {
            if children::is_wait(&sleeper.record) {
                let wait = children::wait(&self.proc, &mut Namespaces::new(&self.proc), &sleeper.record);
                self.remember(sleeper, now, false, wait);
                continue;
            }
            match FileWait::of(&self.proc, sleeper, &mut peers) {
                Some(wait) => left.push((*sleeper, wait)),
                None => self.remember(sleeper, now, true, None),
            }
        }
        if !anew {
            left.retain(|(sleeper, wait)| !self.is_held_nearby(table, now, sleeper, wait));
        }
        let wanted: Vec<FileWait> = left.iter().map(|(_, wait)| *wait).collect();
        if !wanted.is_empty() {
            let holders = Holders::find(&self.proc, self.proc.pids(), &wanted);
            for (sleeper, wait) in left {
                let wait = holders.wait(&self.proc, sleeper.record.tgid, &wait);
                self.remember(sleeper, now, false, wait);
            }
        }
    }

    /// Most pipes lead to a parent or a child: one of them that may run is answer enough, and saves the look at
    /// everybody.
    fn is_held_nearby(&mut self, table: &Table, now: BootTime, sleeper: &Sleeper, wait: &FileWait) -> bool {
        let tgid = sleeper.record.tgid;
        let holders = Holders::find(&self.proc, self.proc.relatives(tgid), &[*wait]);
        let Some(wait) = holders.wait(&self.proc, tgid, wait) else { return false };
        let may_run = |owner: &Owner| matches!(owner, Owner::Process(one) if self.may_run(table, *one, now, &mut BTreeSet::new()));
        let is_answer = wait.owners.iter().any(may_run);
        if is_answer {
            self.remember(sleeper, now, false, Some(wait));
        }
        is_answer
    }

    fn remember(&mut self, sleeper: &Sleeper, now: BootTime, is_settled: bool, wait: Option<Wait>) {
        let record = &sleeper.record;
        self.files.insert(record.pid, FileMemory::new(record, now, is_settled, wait));
    }

    /// Whether some thread of a process is awake, or sleeps where somebody may wake it who may run in turn.
    fn may_run(&self, table: &Table, tgid: u32, now: BootTime, asked: &mut BTreeSet<u32>) -> bool {
        if !asked.insert(tgid) || !self.proc.has_thread(tgid, tgid) {
            return false;
        }
        table.all_asleep(tgid).is_none()
            || table.sleepers_of(tgid).any(|one| {
                let known = self.files.get(&one.record.pid).filter(|memory| memory.is_of(&one.record));
                !table.is_open(one)
                    || known.is_some_and(|memory| {
                        memory.is_served_unseen()
                            || memory.is_answered(now, |owner| self.may_run(table, owner, now, asked))
                    })
            })
    }

    fn worlds(&mut self, table: &Table, waits: &mut Waits) {
        let closed: Vec<(u32, usize)> = table.closed(|tid| !waits.of(tid).is_empty()).collect();
        let mut worlds = BTreeMap::new();
        for (tgid, threads) in closed {
            let others = table.others_of(tgid).map(|tid| waits.of(tid));
            if !self.shows_all && !hope::may_stay(table, others) {
                continue;
            }
            let version = table.version(tgid);
            let is_known = self.worlds.get(&tgid) == Some(&version);
            if is_known || self.proc.threads(tgid).len() == threads {
                park(&self.proc, table, tgid, waits);
                worlds.insert(tgid, version);
            }
        }
        self.worlds = worlds;
    }
}

/// The word may lie in memory of others too.
fn is_shared(sleeper: &Sleeper) -> bool {
    sleeper.call.is_some_and(|call| !call.is_private) && !sleeper.is_placed
}

/// Processes whose memory nobody can read now. Whoever holds the lock of the mappings for long waits uninterruptibly,
/// and so do those behind it.
fn locked(table: &Table) -> BTreeSet<u32> {
    let is_deaf = |one: &&Sleeper| condition(&one.record) == Condition::Uninterruptible;
    let doubtful: BTreeSet<u32> =
        table.open().filter(is_deaf).chain(table.deaf()).map(|one| one.record.tgid).collect();
    doubtful.into_iter().filter(|tgid| !memory::is_open(*tgid)).collect()
}
