//! Stack evidence: whoever holds a lock that does not name its holder has its address on the stack.
//!
//! A stale pointer can only make somebody a candidate who is none, and a candidate who may run saves everybody:
//! so it causes misses, not false alarms. The reverse is possible in theory: what follows from it is probable,
//! not proved.

use std::collections::{BTreeMap, BTreeSet};

use healer_common::task_scan::TaskRecord;

use super::{memory, table::Table};

const REACH: usize = 64 * 1024;
/// The x86-64 ABI lets a leaf function keep data below its stack pointer.
const RED_ZONE: u64 = 128;
/// Threads of one process looked at: 16 MB.
pub(crate) const THREADS_MAX: usize = 256;

/// Per key the sleeping threads of the process that know it.
pub(crate) fn who_knows(table: &Table, tgid: u32, keys: &BTreeSet<u64>) -> BTreeMap<u64, BTreeSet<u32>> {
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
