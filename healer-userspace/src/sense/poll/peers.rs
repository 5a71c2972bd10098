//! What the kernel half has counted of connections, told as what is new since the last look.

use std::collections::BTreeMap;

use healer_common::{
    event::part::CgroupRef,
    network::{PeerCounters, PeerKey},
};

use crate::{
    engine::time::BootTime,
    signal::{self, Owner, network::PeerCounts},
};

/// Remembers the look before.
#[derive(Debug, Default)]
pub struct PeerLedger {
    told: BTreeMap<[u8; 32], PeerCounters>,
}

impl PeerLedger {
    /// Peers of which something is new, with the owner of the last connection to each.
    pub fn news(&mut self, entries: &[(PeerKey, PeerCounters)]) -> Vec<(Owner, PeerCounts)> {
        let mut told = BTreeMap::new();
        let mut news = Vec::new();
        for (key, counters) in entries {
            let id = bytes(key);
            let before = self.told.get(&id).filter(|before| !has_begun_anew(before, counters));
            if before != Some(counters) {
                news.push((owner(key, counters), counts(key, before, counters)));
            }
            told.insert(id, *counters);
        }
        self.told = told;
        news
    }
}

/// The entry was crowded out and came back.
fn has_begun_anew(before: &PeerCounters, now: &PeerCounters) -> bool {
    now.ok < before.ok || now.refused < before.refused || now.last_ok_ns < before.last_ok_ns
}

fn bytes(key: &PeerKey) -> [u8; 32] {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&key.cgroup_id.to_ne_bytes());
    id[8..24].copy_from_slice(&key.address);
    id[24..28].copy_from_slice(&key.netns.to_ne_bytes());
    id[28..].copy_from_slice(&key.port.to_ne_bytes());
    id
}

fn owner(key: &PeerKey, counters: &PeerCounters) -> Owner {
    let hierarchy = if key.cgroup_id == 0 { CgroupRef::UNKNOWN } else { CgroupRef::V2 };
    let cgroup = CgroupRef { id: key.cgroup_id, hierarchy, pad: 0 };
    signal::owner(counters.owner_tgid, counters.owner_start_boot_ns, &cgroup)
}

fn counts(key: &PeerKey, before: Option<&PeerCounters>, now: &PeerCounters) -> PeerCounts {
    let new = |of: fn(&PeerCounters) -> u32| of(now).wrapping_sub(before.map_or(0, of));
    let time = |ns: u64| (ns != 0).then_some(BootTime(ns));
    PeerCounts {
        peer: signal::network::address(key.address, key.port),
        netns: key.netns,
        cgroup: key.cgroup_id,
        ok: new(|counters| counters.ok),
        refused: new(|counters| counters.refused),
        unreachable: new(|counters| counters.unreachable),
        timed_out: new(|counters| counters.timed_out),
        reset: new(|counters| counters.reset),
        abandoned: new(|counters| counters.abandoned),
        syn_retransmits: new(|counters| counters.syn_retransmits),
        retransmits: new(|counters| counters.retransmits),
        slowest_us: now.slowest_us,
        last_ok: time(now.last_ok_ns),
        last_bad: time(now.last_bad_ns),
    }
}

#[cfg(test)]
mod tests {
    use healer_common::event::wire::Wire as _;

    use super::*;

    fn entry(port: u32, ok: u32) -> (PeerKey, PeerCounters) {
        (
            PeerKey { port, ..PeerKey::ZERO },
            PeerCounters { ok, last_ok_ns: u64::from(ok), ..PeerCounters::ZERO },
        )
    }

    #[test]
    fn only_what_is_new_is_told() {
        let mut ledger = PeerLedger::default();
        let oks = |news: Vec<(Owner, PeerCounts)>| -> Vec<(u16, u32)> {
            news.into_iter().map(|(_, counts)| (counts.peer.port(), counts.ok)).collect()
        };
        assert_eq!(oks(ledger.news(&[entry(1, 3), entry(2, 5)])), [(1, 3), (2, 5)]);
        assert_eq!(oks(ledger.news(&[entry(1, 3), entry(2, 7)])), [(2, 2)]);
        assert_eq!(oks(ledger.news(&[entry(1, 1)])), [(1, 1)], "it was crowded out and came back");
    }
}
