//! Stack evidence: whoever holds a lock that does not name its holder has its address on the stack.
//!
//! A stale pointer can only make somebody a candidate who is none, and a candidate who may run saves everybody:
//! so it causes misses, not false alarms. The reverse is possible in theory: what follows from it is probable,
//! not proved.

use std::collections::{BTreeMap, BTreeSet};

use healer_common::task_scan::TaskRecord;

use super::{
    extract::ByThread,
    futex::Sight,
    memory,
    table::{Sleeper, Table},
};
use crate::signal::waits::{Owner, Source, Wait, WaitKind};

const REACH: usize = 64 * 1024;
/// The x86-64 ABI lets a leaf function keep data below its stack pointer.
const RED_ZONE: u64 = 128;
/// Threads of one process looked at: 16 MB.
pub(crate) const THREADS_MAX: usize = 256;

/// Ownerless locks of one process of which every thread sleeps.
pub(super) fn waits(table: &Table, tgid: u32) -> ByThread {
    let keys_of = |sleeper: &Sleeper| match &sleeper.sight {
        Some(Sight::Ownerless { keys, .. }) => keys.clone(),
        Some(
            Sight::Open
            | Sight::Parked { .. }
            | Sight::Shared { .. }
            | Sight::Owned { .. }
            | Sight::Join { .. },
        )
        | None => Vec::new(),
    };
    let wanted: BTreeMap<u32, Vec<u64>> =
        table.sleepers_of(tgid).map(|one| (one.record.pid, keys_of(one))).collect();
    let all: BTreeSet<u64> = wanted.values().flatten().copied().collect();
    let known = who_knows(table, tgid, &all);
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

/// Per key the sleeping threads of the process that know it.
fn who_knows(table: &Table, tgid: u32, keys: &BTreeSet<u64>) -> BTreeMap<u64, BTreeSet<u32>> {
    let mut known: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    let mut buffer = vec![0; REACH];
    for sleeper in table.sleepers_of(tgid) {
        let record = &sleeper.record;
        for value in values(record, &mut buffer) {
            if keys.contains(&value) {
                known.entry(value).or_default().insert(record.pid);
            }
        }
    }
    known
}

/// Words on the stack, and the registers that a function call preserves.
fn values<'a>(record: &TaskRecord, buffer: &'a mut [u8]) -> impl Iterator<Item = u64> + use<'a> {
    let registers = [record.rbx, record.rbp, record.r12, record.r13, record.r14, record.r15];
    let from = record.sp.wrapping_sub(RED_ZONE) & !7;
    let read = memory::read_upward(record.tgid, from, buffer);
    let buffer: &'a [u8] = buffer;
    let words = buffer[..read].chunks_exact(8);
    words.filter_map(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?))).chain(registers)
}
