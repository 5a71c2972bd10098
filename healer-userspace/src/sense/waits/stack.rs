//! Stack evidence: whoever holds a lock that does not name its holder has its address on the stack.
//!
//! A stale pointer can only make somebody a candidate who is none, and a candidate who may run saves everybody:
//! so it causes misses, not false alarms. The reverse happens, because an argument points to a lock as well as a guard
//! does, where the true holder knows the lock by the start of what it lies in, or by no pointer at all. So whoever
//! knows that start is a candidate too, and never the only one: what holds a lock holds much else. Of locks in a module's
//! own data and of those of C libraries, whose holders find them by names, nothing is said; and what follows is
//! probable, not proved.

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
    pieces::{AROUND, Pieces},
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
/// Of these, threads that were awake lately: each is looked at in a moment when it sleeps.
const AWAKE_MAX: usize = 32;
/// So often one scan asks again who sleeps now, whichever process it looks at: each time the kernel goes through all
/// tasks of the node.
pub(super) const ASKED_AGAIN_MAX: usize = 3;
const BETWEEN_TRIES: Duration = Duration::from_millis(2);

type Keys = BTreeSet<u64>;
/// By key, who knows it.
type Known = BTreeMap<u64, BTreeSet<u32>>;

/// What one look at the stacks of a process has shown.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) waits: ByThread,
    /// Each thread was met asleep.
    pub(super) met_all: bool,
}

/// Whom the threads of `tgid` wait for that sleep on a lock which names no owner. `again`: see [`ASKED_AGAIN_MAX`].
pub(super) fn look(proc: &Proc, table: &Table, tgid: u32, now: Now<'_>, again: &mut usize) -> Shown {
    // Nobody is waited for here who lets nobody read its memory. Where modules lie must be known of all of them.
    let maps = if memory::is_open(tgid) { proc.maps(tgid) } else { None };
    let Some((maps, true)) = maps else {
        return Shown::default();
    };
    let wanted: BTreeMap<u32, Vec<u64>> =
        table.sleepers_of(tgid).map(|one| (one.record.pid, keys_of(one, &maps))).collect();
    let mut scene = Scene { all: wanted.values().flatten().copied().collect(), ..Scene::default() };
    if scene.all.is_empty() {
        return Shown { met_all: true, ..Shown::default() };
    }
    scene.sleepers(table, tgid);
    let met_all = scene.awake(proc, table, tgid, now, again);
    let mut waits = ByThread::new();
    if scene.pieces.is_too_much() {
        return Shown { waits, met_all };
    }
    for sleeper in table.sleepers_of(tgid) {
        let (Some(Sight::Ownerless { lock, word, .. }), Some(keys)) =
            (&sleeper.sight, wanted.get(&sleeper.record.pid))
        else {
            continue;
        };
        let is_fellow =
            |tid: &u32| wanted.get(tid).is_some_and(|other| other.iter().any(|key| keys.contains(key)));
        let those = |known: &Known| {
            let candidates = keys.iter().filter_map(|key| known.get(key)).flatten();
            candidates.filter(|tid| !is_fellow(tid)).copied().collect::<BTreeSet<u32>>()
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
                "its address, or one that may lead to it, is on the stacks of threads {owners:?}, and else only of such \
                 as wait for it too"
            ),
            owners: owners.into_iter().map(Owner::Task).collect(),
        };
        waits.entry(sleeper.record.pid).or_default().push(wait);
    }
    Shown { waits, met_all }
}

/// None of a lock in a module's own data.
fn keys_of(sleeper: &Sleeper, maps: &str) -> Vec<u64> {
    match &sleeper.sight {
        Some(Sight::Ownerless { lock, keys, .. }) if shared::module_of(maps, *lock).is_none() => keys.clone(),
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
    known: Known,
    /// Who knows something just before a key, which may be what it lies in, and who may know anything.
    around: Known,
    pieces: Pieces,
}

/// What one thread knows of the keys.
#[derive(Default)]
struct Knows {
    these: Keys,
    around: Keys,
}

impl Scene {
    fn sleepers(&mut self, table: &Table, tgid: u32) {
        let mut buffer = vec![0; REACH];
        for sleeper in table.sleepers_of(tgid) {
            let knows = self.ask(&sleeper.record, &mut buffer);
            self.note(sleeper.record.pid, knows);
        }
    }

    fn ask(&mut self, record: &TaskRecord, buffer: &mut [u8]) -> Knows {
        let (all, pieces) = (&self.all, &mut self.pieces);
        let behind = |value: u64| all.range(value..value.saturating_add(AROUND));
        let near: BTreeSet<u64> =
            values(record, buffer).filter(|value| behind(*value).next().is_some()).collect();
        let mut knows = Knows::default();
        for value in near {
            // Whoever waits for a lock does not hold it.
            for key in behind(value).filter(|key| !is_futex_on(record, **key)) {
                if value == *key {
                    knows.these.insert(*key);
                } else if !knows.around.contains(key) && pieces.may_lead(record.pid, value, *key) {
                    knows.around.insert(*key);
                }
            }
        }
        knows
    }

    fn note(&mut self, tid: u32, knows: Knows) {
        let note = |known: &mut Known, keys: Keys| {
            keys.into_iter().for_each(|key| {
                known.entry(key).or_default().insert(tid);
            });
        };
        note(&mut self.known, knows.these);
        note(&mut self.around, knows.around);
    }

    /// Who is never met asleep cannot be excluded. Gives whether there is none.
    fn awake(&mut self, proc: &Proc, table: &Table, tgid: u32, now: Now<'_>, again: &mut usize) -> bool {
        let mut open = proc.threads(tgid);
        open.retain(|tid| table.get(*tid).is_none());
        let mut open: BTreeSet<u32> = open.into_iter().collect();
        let mut buffer = vec![0; REACH];
        while !open.is_empty() && open.len() <= AWAKE_MAX {
            for record in now(proc, tgid) {
                if !open.contains(&record.pid) {
                    continue;
                }
                let knows = self.ask(&record, &mut buffer);
                let slept_on = proc
                    .status(tgid, record.pid)
                    .is_some_and(|status| status.switches == record.switches && status.state != 'R');
                if slept_on {
                    open.remove(&record.pid);
                    self.note(record.pid, knows);
                }
            }
            if open.is_empty() || *again == 0 {
                break;
            }
            *again -= 1;
            thread::sleep(BETWEEN_TRIES);
        }
        for tid in &open {
            self.note(*tid, Knows { around: self.all.clone(), ..Knows::default() });
        }
        open.is_empty()
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
