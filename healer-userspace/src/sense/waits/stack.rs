//! Stack evidence: whoever holds a lock that does not name its holder has its address on the stack.
//!
//! A stale pointer can only make somebody a candidate who is none, and a candidate who may run saves everybody:
//! so it causes misses, not false alarms. The reverse happens, because an argument points to a lock as well as a guard
//! does, where the true holder knows the lock by the start of what it lies in, or by no pointer at all. So whoever
//! knows that start is a candidate too; of locks in a module's own data and of those of C libraries, whose holders
//! find them by names, nothing is said; and what follows is probable, not proved.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

use healer_common::task_scan::TaskRecord;

use super::{
    extract::{ByThread, Now},
    futex::{Sight, is_futex_on},
    memory,
    procfs::Proc,
    shared,
    table::{Sleeper, Table},
};
use crate::signal::waits::{Owner, Source, Wait, WaitKind};

const REACH: usize = 64 * 1024;
/// The x86-64 ABI lets a leaf function keep data below its stack pointer.
const RED_ZONE: u64 = 128;
/// Threads of one process looked at: 16 MB.
pub(crate) const THREADS_MAX: usize = 256;
/// How far before a lock what it lies in may begin: if the allocator says that it reaches so far, and if it says nothing.
const AROUND: u64 = 4096;
const INSIDE: u64 = 256;
/// Of these, threads that were awake lately: each is looked at in a moment when it sleeps.
const AWAKE_MAX: usize = 32;
const TRIES: usize = 4;
const BETWEEN_TRIES: Duration = Duration::from_millis(2);

type Keys = BTreeSet<u64>;

/// What one look at the stacks of a process has shown.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) waits: ByThread,
    /// Threads that were awake lately and know none of the locks. As long as the waiters sleep on the locks have not
    /// changed hands, so whoever holds none in one moment holds none.
    pub(super) innocent: BTreeSet<u32>,
}

/// Whom the threads of `tgid` wait for that sleep on a lock which names no owner. `innocent`: see [`Shown`].
pub(super) fn look(proc: &Proc, table: &Table, tgid: u32, innocent: BTreeSet<u32>, now: Now<'_>) -> Shown {
    let own_data = proc.maps(tgid).map(|(maps, _)| maps).unwrap_or_default();
    let wanted: BTreeMap<u32, Vec<u64>> =
        table.sleepers_of(tgid).map(|one| (one.record.pid, keys_of(one, &own_data))).collect();
    let mut scene = Scene { all: wanted.values().flatten().copied().collect(), ..Scene::default() };
    if scene.all.is_empty() {
        return Shown::default();
    }
    scene.sleepers(table, tgid);
    let innocent = scene.awake(proc, table, tgid, innocent, now);
    let mut waits = ByThread::new();
    for sleeper in table.sleepers_of(tgid) {
        let (Some(Sight::Ownerless { lock, word, .. }), Some(keys)) =
            (&sleeper.sight, wanted.get(&sleeper.record.pid))
        else {
            continue;
        };
        let is_fellow =
            |tid: &u32| wanted.get(tid).is_some_and(|other| other.iter().any(|key| keys.contains(key)));
        let those = |known: &BTreeMap<u64, BTreeSet<u32>>| {
            let candidates = keys.iter().filter_map(|key| known.get(key)).flatten();
            let owners = candidates.filter(|tid| !is_fellow(tid) && scene.may_hold(**tid, sleeper));
            owners.copied().collect::<BTreeSet<u32>>()
        };
        let mut owners = those(&scene.known);
        if owners.is_empty() {
            continue;
        }
        owners.extend(those(&scene.around));
        let wait = Wait {
            kind: WaitKind::Lock,
            lock: format!("{lock:#x}"),
            source: Source::Stack,
            word: Some(*word),
            says: format!(
                "its address, or that of what it lies in, is on the stacks of threads {owners:?} and on no other"
            ),
            owners: owners.into_iter().map(Owner::Task).collect(),
        };
        waits.entry(sleeper.record.pid).or_default().push(wait);
    }
    Shown { waits, innocent }
}

/// None of a lock in a module's own data.
fn keys_of(sleeper: &Sleeper, maps: &str) -> Vec<u64> {
    match &sleeper.sight {
        Some(Sight::Ownerless { lock, keys, .. }) if !shared::is_of_module(maps, *lock) => keys.clone(),
        Some(
            Sight::Open
            | Sight::Parked { .. }
            | Sight::Shared { .. }
            | Sight::Owned { .. }
            | Sight::Ownerless { .. }
            | Sight::Join { .. },
        )
        | None => Vec::new(),
    }
}

#[derive(Default)]
struct Scene {
    all: Keys,
    /// Per key the threads of the process that know it, or what it lies in.
    known: BTreeMap<u64, BTreeSet<u32>>,
    /// The same of those that know something just before it, which may be what it lies in.
    around: BTreeMap<u64, BTreeSet<u32>>,
    began: BTreeMap<u32, u64>,
}

impl Scene {
    fn sleepers(&mut self, table: &Table, tgid: u32) {
        let mut buffer = vec![0; REACH];
        for sleeper in table.sleepers_of(tgid) {
            self.note(&sleeper.record, &mut buffer);
        }
    }

    /// Whether it knows none of the keys.
    fn note(&mut self, record: &TaskRecord, buffer: &mut [u8]) -> bool {
        self.began.insert(record.pid, record.start_boot_ns);
        let mut knows_nothing = true;
        for value in values(record, buffer) {
            for key in self.all.range(value..value.saturating_add(AROUND)) {
                // Whoever waits for a lock does not hold it.
                let reach = if is_futex_on(record, *key) { None } else { reach(record.pid, value, *key) };
                let to = match reach {
                    Some(Reach::Sure) => &mut self.known,
                    Some(Reach::Possible) => &mut self.around,
                    None => continue,
                };
                to.entry(*key).or_default().insert(record.pid);
                knows_nothing = false;
            }
        }
        knows_nothing
    }

    /// Who is never met asleep cannot be excluded. Gives those who know nothing.
    fn awake(
        &mut self,
        proc: &Proc,
        table: &Table,
        tgid: u32,
        mut innocent: BTreeSet<u32>,
        now: Now<'_>,
    ) -> BTreeSet<u32> {
        let is_open = |tid: &u32| table.get(*tid).is_none() && !innocent.contains(tid);
        let mut open: BTreeSet<u32> = proc.threads(tgid).into_iter().filter(is_open).collect();
        let mut buffer = vec![0; REACH];
        for attempt in 0..TRIES {
            if open.is_empty() || AWAKE_MAX < open.len() {
                break;
            }
            if attempt != 0 {
                thread::sleep(BETWEEN_TRIES);
            }
            for record in now(proc, tgid) {
                if !open.contains(&record.pid) {
                    continue;
                }
                let mut moment = Self { all: self.all.clone(), ..Self::default() };
                let knows_nothing = moment.note(&record, &mut buffer);
                let slept_on = proc
                    .status(tgid, record.pid)
                    .is_some_and(|status| status.switches == record.switches && status.state != 'R');
                if slept_on {
                    open.remove(&record.pid);
                    self.take(moment);
                    innocent.extend(knows_nothing.then_some(record.pid));
                }
            }
        }
        for key in self.all.clone() {
            self.known.entry(key).or_default().extend(open.iter().copied());
        }
        innocent
    }

    fn take(&mut self, other: Self) {
        self.began.extend(other.began);
        other.known.into_iter().for_each(|(key, tids)| self.known.entry(key).or_default().extend(tids));
        other.around.into_iter().for_each(|(key, tids)| self.around.entry(key).or_default().extend(tids));
    }

    /// A thread that began after the waiter fell asleep was not there when the lock was taken.
    fn may_hold(&self, tid: u32, waiter: &Sleeper) -> bool {
        let since = waiter.record.since_boot_ns;
        since == 0 || self.began.get(&tid).is_none_or(|began| *began <= since)
    }
}

/// How a pointer leads to a lock behind it.
enum Reach {
    /// It is the lock's, or that of the piece of memory that the lock lies in.
    Sure,
    Possible,
}

/// Before a piece of its memory glibc keeps the size, a multiple of sixteen, and three flags (malloc/malloc.c).
fn reach(pid: u32, start: u64, key: u64) -> Option<Reach> {
    const LEAST: u64 = 32;
    const MOST: u64 = 1 << 20;
    if start == key {
        return Some(Reach::Sure);
    }
    let mut size = [0; 8];
    let is_read = memory::read(pid, start.wrapping_sub(8), &mut size) == size.len();
    let size = u64::from_ne_bytes(size) & !7;
    let is_size = start.is_multiple_of(16) && size.is_multiple_of(16) && (LEAST..=MOST).contains(&size);
    match is_read && is_size {
        true => (key < start + size - 8).then_some(Reach::Sure),
        false => (key - start <= INSIDE).then_some(Reach::Possible),
    }
}

/// Words on the stack, and the registers that a function call preserves.
fn values<'a>(record: &TaskRecord, buffer: &'a mut [u8]) -> impl Iterator<Item = u64> + use<'a> {
    let registers = [record.rbx, record.rbp, record.r12, record.r13, record.r14, record.r15];
    let from = record.sp.wrapping_sub(RED_ZONE) & !7;
    let read = memory::read_upward(record.pid, from, buffer);
    let buffer: &'a [u8] = buffer;
    let words = buffer[..read].chunks_exact(8);
    words.filter_map(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?))).chain(registers)
}
