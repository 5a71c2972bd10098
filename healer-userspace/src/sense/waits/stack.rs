//! Stack evidence: whoever holds a lock that does not name its holder has its address on the stack.
//!
//! A stale pointer can only make somebody a candidate who is none, and a candidate who may run saves everybody:
//! so it causes misses, not false alarms. The reverse happens, because an argument points to a lock as well as a guard
//! does, where the true holder knows the lock by the start of what it lies in, or by no pointer at all. So whoever
//! knows that start is a candidate too. That alone, without anybody who has the address, is evidence only if it is a lock
//! for sure, and if one of those who know its start waits for such a lock itself: what holds a lock holds much else. Of
//! locks in a module's own data and of those of C libraries, whose holders find them by names, nothing is said; and what
//! follows is probable, not proved.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

use healer_common::task_scan::TaskRecord;

use super::{
    call_site,
    extract::{ByThread, Now},
    futex::{CONTENDED, Sight, is_futex_on},
    memory,
    pieces::{AROUND, Lead, Pieces},
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
/// By sleeper, the addresses that the holder of its lock would know; none of a lock of which nothing is said.
type Wanted = BTreeMap<u32, Vec<u64>>;

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
    let wanted: Wanted = table.sleepers_of(tgid).map(|one| (one.record.pid, keys_of(one, &maps))).collect();
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
        if let Some(wait) = scene.wait(sleeper, &wanted) {
            waits.entry(sleeper.record.pid).or_default().push(wait);
        }
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

/// Whether it is a lock that it waits for: a condition of Rust that was notified twice has the word of its mutex.
fn is_lock(sleeper: &Sleeper) -> bool {
    let Some(Sight::Ownerless { word, .. }) = &sleeper.sight else { return false };
    let record = &sleeper.record;
    *word != CONTENDED || call_site::is_mutex_of_rust(&memory::reader(record.pid), record.sp)
}

fn keys_wanted(wanted: &Wanted, tid: u32) -> &[u64] {
    wanted.get(&tid).map_or(&[], Vec::as_slice)
}

#[derive(Default)]
struct Scene {
    all: Keys,
    known: Known,
    /// By key.
    around: BTreeMap<u64, Around>,
    pieces: Pieces,
}

/// Who knows something just before a key, which may be what it lies in, and who may know anything.
#[derive(Default)]
struct Around {
    /// By thread, the nearest that it knows.
    nearest: BTreeMap<u32, u64>,
    /// Who knows where what the key lies in begins, and the last such place.
    at_start: BTreeSet<u32>,
    start: u64,
}

impl Around {
    fn note(&mut self, tid: u32, before: Before) {
        self.nearest.insert(tid, before.nearest);
        if let Some(start) = before.start {
            self.at_start.insert(tid);
            self.start = self.start.max(start);
        }
    }

    /// What lies before the start leads to a neighbour.
    fn tids(&self) -> impl Iterator<Item = u32> {
        let inside = self.nearest.iter().filter(|(_, nearest)| self.start <= **nearest).map(|(tid, _)| *tid);
        inside.chain(self.at_start.iter().copied())
    }
}

/// What one thread knows just before a key.
#[derive(Clone, Copy)]
struct Before {
    nearest: u64,
    start: Option<u64>,
}

impl Before {
    const ANYTHING: Self = Self { nearest: u64::MAX, start: None };
}

/// What one thread knows of the keys.
#[derive(Default)]
struct Knows {
    these: Keys,
    around: BTreeMap<u64, Before>,
}

impl Knows {
    /// From the nearest on: once a start is known, what lies before it leads elsewhere.
    fn is_asked(&self, key: u64) -> bool {
        self.around.get(&key).is_none_or(|before| before.start.is_none())
    }

    fn lead(&mut self, key: u64, value: u64, lead: Lead) {
        if lead == Lead::Nowhere {
            return;
        }
        let before = self.around.entry(key).or_insert(Before { nearest: value, start: None });
        if lead == Lead::FromStart {
            before.start = Some(value);
        }
    }
}

impl Scene {
    /// Whom a thread waits for that sleeps on a lock which names no owner.
    fn wait(&self, sleeper: &Sleeper, wanted: &Wanted) -> Option<Wait> {
        let Some(Sight::Ownerless { lock, word, .. }) = &sleeper.sight else {
            return None;
        };
        let owners = self.owners(sleeper, wanted);
        (!owners.is_empty()).then(|| Wait {
            kind: WaitKind::Lock,
            lock: format!("{lock:#x}"),
            source: Source::Stack,
            word: Some(*word),
            says: format!(
                "its address, or one that may lead to it, is on the stacks of threads {owners:?}, and else only of such \
                 as wait for it too"
            ),
            owners: owners.into_iter().map(Owner::Task).collect(),
        })
    }

    /// Whoever may hold it; none if there is no evidence that anybody does.
    fn owners(&self, sleeper: &Sleeper, wanted: &Wanted) -> BTreeSet<u32> {
        let keys = keys_wanted(wanted, sleeper.record.pid);
        let is_fellow = |tid: u32| keys_wanted(wanted, tid).iter().any(|key| keys.contains(key));
        let exact = keys.iter().filter_map(|key| self.known.get(key)).flatten().copied();
        let mut owners: BTreeSet<u32> = exact.filter(|tid| !is_fellow(*tid)).collect();
        let around: Vec<&Around> = keys.iter().filter_map(|key| self.around.get(key)).collect();
        // Whoever waits for another lock of the same piece has to know where that begins.
        let waits_elsewhere = |tid: u32, start: u64| {
            let its = keys_wanted(wanted, tid);
            !is_fellow(tid) && !its.is_empty() && its.iter().all(|key| !self.pieces.may_hold(start, *key))
        };
        let is_witnessed = |one: &&Around| one.at_start.iter().any(|tid| waits_elsewhere(*tid, one.start));
        if owners.is_empty() && !(around.iter().any(is_witnessed) && is_lock(sleeper)) {
            return owners;
        }
        owners.extend(around.iter().flat_map(|one| one.tids()).filter(|tid| !is_fellow(*tid)));
        owners
    }

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
        for value in near.into_iter().rev() {
            // Whoever waits for a lock does not hold it.
            for key in behind(value).filter(|key| !is_futex_on(record, **key)) {
                if value == *key {
                    knows.these.insert(*key);
                } else if knows.is_asked(*key) {
                    knows.lead(*key, value, pieces.lead(record.pid, value, *key));
                }
            }
        }
        knows
    }

    fn note(&mut self, tid: u32, knows: Knows) {
        for key in knows.these {
            self.known.entry(key).or_default().insert(tid);
        }
        for (key, before) in knows.around {
            self.around.entry(key).or_default().note(tid, before);
        }
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
            let around = self.all.iter().map(|key| (*key, Before::ANYTHING)).collect();
            self.note(*tid, Knows { around, ..Knows::default() });
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

#[cfg(test)]
mod tests {
    use healer_common::event::wire::Wire as _;

    use super::*;

    const A: u64 = 0x1010;
    const B: u64 = 0x1040;
    /// The word of a lock that is held for writing.
    const HELD: u32 = 0x7fff_ffff;

    fn sleeper(tid: u32, key: u64, word: u32) -> Sleeper {
        // Nobody has that much memory: the code that waits cannot be read.
        let record = TaskRecord { pid: tid, tgid: 1, sp: u64::MAX - 64, ..TaskRecord::ZERO };
        let sight = Some(Sight::Ownerless { lock: key, word, keys: vec![key] });
        Sleeper { record, call: None, sight, is_placed: false, looks: 0, file_system: None }
    }

    /// Threads 1 and 2 wait crosswise, 3 waits for no lock.
    fn wanted() -> Wanted {
        Wanted::from([(1, vec![B]), (2, vec![A]), (3, Vec::new())])
    }

    /// Each lock in an `Arc` of its own.
    fn scene() -> Scene {
        Scene { pieces: Pieces::known(&[(A - 16, A + 24), (B - 16, B + 24)]), ..Scene::default() }
    }

    fn knows_start(key: u64) -> Knows {
        knows_start_at(key - 16, key)
    }

    fn knows_start_at(start: u64, key: u64) -> Knows {
        let before = Before { nearest: start, start: Some(start) };
        Knows { around: BTreeMap::from([(key, before)]), ..Knows::default() }
    }

    fn owners(scene: &Scene, tid: u32, word: u32) -> Vec<u32> {
        let key = if tid == 1 { B } else { A };
        scene.owners(&sleeper(tid, key, word), &wanted()).into_iter().collect()
    }

    #[test]
    fn who_knows_its_lock_by_its_arc_alone_holds_it_if_it_waits_for_a_lock_itself() {
        let mut scene = scene();
        scene.note(1, knows_start(A));
        scene.note(2, knows_start(B));
        assert_eq!((owners(&scene, 1, HELD), owners(&scene, 2, HELD)), (vec![2], vec![1]));
        scene.note(3, knows_start(B));
        assert_eq!(owners(&scene, 1, HELD), [2, 3], "whoever else knows it may hold it");
        assert!(owners(&scene, 1, CONTENDED).is_empty(), "perhaps a condition that was notified twice");
    }

    #[test]
    fn who_waits_for_another_lock_of_the_same_piece_has_to_know_where_it_begins() {
        let start = A - 16;
        let mut scene = Scene { pieces: Pieces::known(&[(start, B + 24)]), ..Scene::default() };
        scene.note(1, knows_start_at(start, A));
        scene.note(2, knows_start_at(start, B));
        assert!(owners(&scene, 1, HELD).is_empty() && owners(&scene, 2, HELD).is_empty());
        scene.note(3, Knows { these: Keys::from([A]), ..Knows::default() });
        assert_eq!(owners(&scene, 2, HELD), [1, 3], "somebody has its address");
    }

    #[test]
    fn who_joins_and_has_the_arc_is_no_holder_by_that_alone() {
        let mut scene = Scene::default();
        scene.note(3, knows_start(B));
        assert!(owners(&scene, 1, HELD).is_empty());
        scene.note(2, Knows { these: Keys::from([B]), ..Knows::default() });
        assert_eq!(owners(&scene, 1, HELD), [2, 3]);
    }

    #[test]
    fn who_knows_a_neighbour_of_what_the_lock_lies_in_is_no_candidate() {
        let near = |nearest| Knows {
            around: BTreeMap::from([(B, Before { nearest, start: None })]),
            ..Knows::default()
        };
        let mut scene = Scene::default();
        scene.note(3, near(B - 24));
        scene.note(2, Knows { these: Keys::from([B]), ..Knows::default() });
        assert_eq!(owners(&scene, 1, HELD), [2, 3], "nobody knows where it begins");
        scene.note(4, knows_start(B));
        assert_eq!(owners(&scene, 1, HELD), [2, 4]);
        scene.note(3, near(B - 8));
        scene.note(5, Knows { around: BTreeMap::from([(B, Before::ANYTHING)]), ..Knows::default() });
        assert_eq!(owners(&scene, 1, HELD), [2, 3, 4, 5], "inside it, and never met asleep");
    }
}
