//! Who may be dead at all, seen before anything is copied: on most nodes nobody, in every scan.

use std::collections::{BTreeMap, BTreeSet};

use super::{extract::Waits, table::Table};
use crate::signal::waits::{Owner, Wait};

/// Whoever waits for somebody, without those of whom it is plain that somebody may wake them. The same fixpoint as
/// `Graph::dead`, by what the table alone knows.
pub(super) fn hopeless(table: &Table, waits: &Waits) -> BTreeSet<u32> {
    let mut left: BTreeSet<u32> = waits.by_thread.keys().copied().collect();
    loop {
        let whole = whole(table, waits, &left);
        let holds = |wait: &Wait| {
            wait.owners.iter().all(|owner| match owner {
                Owner::Task(tid) => left.contains(tid),
                Owner::Process(tgid) => whole.contains(tgid),
                Owner::Gone(_) => true,
            })
        };
        let live: Vec<u32> = left.iter().filter(|tid| !waits.of(**tid).iter().any(holds)).copied().collect();
        if live.is_empty() {
            return left;
        }
        live.iter().for_each(|tid| {
            left.remove(tid);
        });
    }
}

/// Processes of which every thread is among those.
fn whole(table: &Table, waits: &Waits, left: &BTreeSet<u32>) -> BTreeSet<u32> {
    let mut members: BTreeMap<u32, u32> = BTreeMap::new();
    for sleeper in left.iter().filter_map(|tid| table.get(*tid)) {
        *members.entry(sleeper.record.tgid).or_default() += 1;
    }
    let is_whole = |(tgid, members): (u32, u32)| {
        let parked = waits.parked.get(&tgid).copied().unwrap_or(0);
        let threads = table.leader_of(tgid).map_or(0, |(_, threads)| threads);
        (members + parked == threads).then_some(tgid)
    };
    members.into_iter().filter_map(is_whole).collect()
}

/// Whether all of these may stay unanswered: none has only waits that somebody awake may end.
pub(super) fn may_stay<'a>(table: &Table, mut threads: impl Iterator<Item = &'a [Wait]>) -> bool {
    let may_last = |wait: &Wait| {
        wait.owners.iter().all(|owner| match owner {
            Owner::Process(tgid) => table.all_asleep(*tgid).is_some(),
            Owner::Task(_) | Owner::Gone(_) => true,
        })
    };
    threads.all(|waits| waits.iter().any(may_last))
}

#[cfg(test)]
mod tests {
    use healer_common::{event::wire::Wire as _, task_scan::TaskRecord};

    use super::*;
    use crate::{
        sense::poll::tasks::Pass,
        signal::waits::{Source, WaitKind},
    };

    fn table(threads: &[(u32, u32)]) -> Table {
        let record = |&(pid, tgid): &(u32, u32)| {
            let threads = threads.iter().filter(|(_, other)| *other == tgid).count() as u32;
            TaskRecord { pid, tgid, threads, switches: 1, state: 1, ..TaskRecord::ZERO }
        };
        let mut table = Table::default();
        table.apply(&Pass { is_full: true, records: threads.iter().map(record).collect() });
        table
    }

    fn waits(edges: &[(u32, Owner)]) -> Waits {
        let mut waits = Waits::default();
        for (tid, owner) in edges {
            let wait = Wait {
                kind: WaitKind::Mutex,
                lock: String::new(),
                source: Source::Layout,
                word: None,
                owners: vec![*owner],
                says: String::new(),
            };
            waits.by_thread.entry(*tid).or_default().push(wait);
        }
        waits
    }

    #[test]
    fn a_cycle_is_left_and_a_chain_to_somebody_awake_is_not() {
        let table = table(&[(1, 1), (2, 1), (3, 1), (4, 4), (5, 5)]);
        let cycle = waits(&[(1, Owner::Task(2)), (2, Owner::Task(1)), (3, Owner::Task(1))]);
        assert_eq!(hopeless(&table, &cycle), BTreeSet::from([1, 2, 3]));
        let chain = waits(&[(1, Owner::Task(2)), (2, Owner::Task(9)), (4, Owner::Process(1))]);
        assert!(hopeless(&table, &chain).is_empty());
        let crossed = waits(&[(4, Owner::Process(5)), (5, Owner::Process(4))]);
        assert_eq!(hopeless(&table, &crossed), BTreeSet::from([4, 5]));
        let mut parked = waits(&[(1, Owner::Process(1))]);
        assert!(hopeless(&table, &parked).is_empty(), "two of its threads wait for nobody");
        parked.parked.insert(1, 2);
        assert_eq!(hopeless(&table, &parked), BTreeSet::from([1]));
    }

    #[test]
    fn whoever_waits_for_somebody_awake_does_not_stay() {
        let table = table(&[(1, 1), (4, 4)]);
        let waits = waits(&[(1, Owner::Process(4)), (4, Owner::Process(9))]);
        assert!(may_stay(&table, [waits.of(1)].into_iter()), "who sleeps may never wake");
        assert!(!may_stay(&table, [waits.of(1), waits.of(4)].into_iter()), "9 is awake");
    }
}
