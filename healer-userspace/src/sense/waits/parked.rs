//! Threads that only their own process can wake.

use std::collections::BTreeSet;

use super::{
    extract::Waits,
    futex::Sight,
    libc_locks::LibcLocks,
    procfs::Proc,
    table::{Sleeper, Table},
};
use crate::signal::waits::{Owner, Source, Wait, WaitKind};

/// Parked threads of one process that are named; the rest is counted.
const PARKED_MAX: usize = 64;

/// Names the first parked threads, and those that others wait for; counts the rest.
pub(super) fn park(proc: &Proc, table: &Table, tgid: u32, waits: &mut Waits) {
    let Some(all) = table.parked_of(tgid) else { return };
    let libcs = LibcLocks::of(proc, tgid);
    let wanted: BTreeSet<u32> = waits.tids().filter(|tid| all.contains(tid)).collect();
    let free = all.iter().filter(|tid| !wanted.contains(tid)).take(PARKED_MAX).copied();
    let named: Vec<u32> = free.chain(wanted.iter().copied()).collect();
    let left_out = all.len() - named.len();
    if left_out != 0 {
        waits.parked.insert(tgid, left_out as u32);
    }
    for tid in named {
        if let Some(wait) = table.get(tid).and_then(|one| parked(&libcs, one)) {
            waits.add(tid, wait);
        }
    }
}

/// The wait of a thread that only its own process can wake.
fn parked(libcs: &LibcLocks<'_>, sleeper: &Sleeper) -> Option<Wait> {
    let call = sleeper.call.as_ref()?;
    let word = match &sleeper.sight {
        Some(Sight::Parked { word }) => *word,
        Some(Sight::Owned { word, .. } | Sight::Ownerless { word, .. }) => Some(*word),
        Some(Sight::Open | Sight::Shared { .. } | Sight::Join { .. }) | None => return None,
    };
    Some(Wait {
        kind: if is_lock(libcs, sleeper) { WaitKind::Lock } else { WaitKind::Wakeup },
        lock: format!("{:#x}", call.address),
        source: Source::ClosedWorld,
        word,
        owners: vec![Owner::Process(sleeper.record.tgid)],
        says: "an unbounded wait at a private futex: only a thread of its process can wake it".to_owned(),
    })
}

/// A lock, and not a condition, that no handler of a signal would give back: as the C libraries wait for theirs.
fn is_lock(libcs: &LibcLocks<'_>, sleeper: &Sleeper) -> bool {
    let Sleeper { call: Some(call), sight: Some(Sight::Ownerless { .. }), is_placed: false, .. } = sleeper
    else {
        return false;
    };
    call.is_musl_mutex() || call.is_mutex() && libcs.has(call.address)
}
