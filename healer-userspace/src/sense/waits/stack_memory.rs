//! What the stacks of a process have shown, and how long that holds.

use core::time::Duration;
use std::collections::BTreeMap;

use super::{extract::ByThread, futex::Sight, stack::Shown, table::Table};
use crate::{
    engine::time::BootTime,
    signal::waits::{Owner, Wait},
};

/// A process that does not sleep as a whole is not looked at for shorter waits: it takes a scan of its own.
const FIRST: Duration = Duration::from_secs(3);
const MOST: Duration = Duration::from_secs(60);

/// Of one process.
pub(super) struct StackMemory {
    version: u64,
    looked_at: BootTime,
    /// Everybody who slept then, by switches.
    slept: BTreeMap<u32, u64>,
    shown: Shown,
}

impl StackMemory {
    pub(super) fn new(table: &Table, tgid: u32, looked_at: BootTime, shown: Shown) -> Self {
        let slept = table.sleepers_of(tgid).map(|one| (one.record.pid, one.record.switches)).collect();
        Self { version: table.version(tgid), looked_at, slept, shown }
    }

    /// Nothing could be seen by another look that this one did not see, or it is too soon.
    pub(super) fn is_fresh(&self, table: &Table, tgid: u32, now: BootTime) -> bool {
        let is_same = table.version(tgid) == self.version;
        if is_same && self.shown.met_all || table.all_asleep(tgid).is_some() {
            return is_same;
        }
        let since = now.since(self.looked_at);
        let mut waiters = waited(table, tgid, now);
        match waiters.any(|(tid, waited)| !self.sleeps_on(table, tid) && FIRST <= waited) {
            true => since < FIRST,
            false => {
                let youngest = waited(table, tgid, self.looked_at).map(|(_, waited)| waited).min();
                since < youngest.unwrap_or(MOST).clamp(FIRST, MOST)
            }
        }
    }

    /// What is still true of it: nobody of those concerned has run, and the word is that of a lock that is held.
    pub(super) fn waits(&self, table: &Table) -> ByThread {
        let holds = |wait: &&Wait| {
            wait.owners.iter().all(|owner| match owner {
                Owner::Task(tid) => self.sleeps_on(table, *tid),
                Owner::Process(_) | Owner::Gone(_) => true,
            })
        };
        let is_at_lock =
            |tid| table.get(tid).is_some_and(|one| matches!(one.sight, Some(Sight::Ownerless { .. })));
        let waiters =
            self.shown.waits.iter().filter(|(tid, _)| self.sleeps_on(table, **tid) && is_at_lock(**tid));
        waiters.map(|(tid, waits)| (*tid, waits.iter().filter(holds).cloned().collect())).collect()
    }

    fn sleeps_on(&self, table: &Table, tid: u32) -> bool {
        let switches = table.get(tid).map(|one| one.record.switches);
        switches.is_some() && self.slept.get(&tid).copied() == switches
    }
}

/// Whether a first look is due: at once where everybody sleeps.
pub(super) fn is_due(table: &Table, tgid: u32, now: BootTime) -> bool {
    table.all_asleep(tgid).is_some() || waited(table, tgid, now).any(|(_, waited)| FIRST <= waited)
}

/// Who sleeps on a lock that names no owner, and for how long.
fn waited(table: &Table, tgid: u32, now: BootTime) -> impl Iterator<Item = (u32, Duration)> {
    table.ownerless_of(tgid).filter_map(move |tid| {
        let since = table.get(tid)?.record.since_boot_ns;
        Some((tid, now.since(BootTime(since))))
    })
}

#[cfg(test)]
mod tests {
    use healer_common::{event::wire::Wire as _, task_scan::TaskRecord};

    use super::*;
    use crate::{
        sense::poll::tasks::Pass,
        signal::waits::{Source, WaitKind},
    };

    const SECOND: u64 = 1_000_000_000;

    fn at(second: u64) -> BootTime {
        BootTime(second * SECOND)
    }

    /// Threads 1 and 2 sleep on locks since second 100, thread 3 ticks.
    fn table() -> Table {
        let mut table = Table::default();
        let record = |pid| TaskRecord {
            pid,
            tgid: 1,
            threads: 3,
            switches: 5,
            state: 1,
            syscall: 202,
            arg1: 0x80,
            arg2: 2,
            since_boot_ns: 100 * SECOND,
            ..TaskRecord::ZERO
        };
        table.apply(&Pass { is_full: true, records: vec![record(1), record(2)] });
        table.look(|_| Some(Sight::Ownerless { lock: 1, word: 2, keys: vec![1] }));
        table
    }

    fn shown(met_all: bool) -> Shown {
        let wait = |owner| Wait {
            kind: WaitKind::Lock,
            lock: String::new(),
            source: Source::Stack,
            word: Some(2),
            owners: vec![Owner::Task(owner)],
            says: String::new(),
        };
        Shown { waits: ByThread::from([(1, vec![wait(2)]), (2, vec![wait(3)])]), met_all }
    }

    #[test]
    fn what_was_seen_holds_for_those_who_sleep_on() {
        let mut table = table();
        assert!(!is_due(&table, 1, at(102)) && is_due(&table, 1, at(103)));
        let memory = StackMemory::new(&table, 1, at(103), shown(true));
        assert!(memory.is_fresh(&table, 1, at(170)), "nothing has changed");
        let memory = StackMemory::new(&table, 1, at(103), shown(false));
        assert!(memory.is_fresh(&table, 1, at(105)) && !memory.is_fresh(&table, 1, at(106)), "3 was not met");
        let waits = memory.waits(&table);
        assert_eq!((waits[&1].len(), waits[&2].len()), (1, 0), "3 is awake, and not bound by what it did");
        let ticks = |flags| TaskRecord { pid: 3, tgid: 1, threads: 3, flags, ..TaskRecord::ZERO };
        for flags in [0, TaskRecord::LEFT] {
            table.apply(&Pass { is_full: false, records: vec![ticks(flags)] });
        }
        assert!(table.all_asleep(1).is_none());
        assert!(memory.is_fresh(&table, 1, at(105)), "too soon");
        assert!(!memory.is_fresh(&table, 1, at(109)) && !memory.is_fresh(&table, 1, at(170)));
        table.remove(2);
        assert!(memory.waits(&table)[&1].is_empty());
    }
}
