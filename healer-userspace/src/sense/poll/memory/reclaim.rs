//! What the kernel half has counted of reclaim.

use aya::{
    Ebpf,
    maps::{HashMap as BpfHashMap, MapData},
};
use healer_common::{
    event::reclaim_stall::ReclaimStall,
    reclaim::{RECLAIM_MAX, ReclaimCounters, ReclaimKey},
};

use crate::{
    sense::{
        maps::{MapTrouble, Words, typed},
        room::room,
    },
    signal::memory::Reclaim,
};

/// The map RECLAIM. It may be sent to another thread and outlives [`crate::sense::Sense`].
pub struct ReclaimMap(BpfHashMap<MapData, Words<2>, Words<5>>);

impl ReclaimMap {
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, MapTrouble> {
        typed(ebpf, "RECLAIM").map(Self)
    }

    /// The sum over memory cgroups; costs 1 µs each.
    pub fn of_cgroups(&self, ids: &[u64]) -> Reclaim {
        let key =
            |id: &u64| Words::of(&ReclaimKey { cgroup_id: *id, scope: ReclaimStall::SCOPE_MEMCG, pad: 0 });
        sum(ids.iter().filter_map(|id| self.0.get(&key(id), 0).ok()?.read()))
    }

    /// The sum over all whom the node itself had no memory for.
    pub fn of_node(&self) -> Reclaim {
        let entries = self.0.iter().take(room(RECLAIM_MAX) as usize).filter_map(Result::ok);
        let of_node = entries.filter_map(|(key, counters)| {
            let key: ReclaimKey = key.read()?;
            (key.scope == ReclaimStall::SCOPE_NODE).then(|| counters.read())?
        });
        sum(of_node)
    }
}

fn sum(counters: impl Iterator<Item = ReclaimCounters>) -> Reclaim {
    let mut sum = Reclaim::default();
    let mut took_ns = 0;
    for one in counters {
        sum.calls += u64::from(one.calls);
        sum.poor += u64::from(one.poor);
        sum.pages += one.pages;
        took_ns += one.took_ns;
    }
    sum.took_ms = took_ns / 1_000_000;
    sum
}
