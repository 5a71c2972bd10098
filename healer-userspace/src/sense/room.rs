//! How many entries a map has on this machine.

/// Until 6.16 (d4adf1c9ee77) each CPU kept up to 128 free entries of an LRU map to itself: with many of them a small
/// map would crowd out its newest. Twice that is enough.
const OF_A_CPU: u32 = 256;

/// The maps of which the least recently used entry makes room, but for SEEN, whose room threads need.
pub(crate) const CROWDED: [(&str, u32); 6] = [
    ("EXECS", healer_common::tuning::EXECS_MAX),
    ("ERRORS", healer_common::tuning::ERRORS_MAX),
    ("ENDED", healer_common::tuning::ENDED_MAX),
    ("PEERS", healer_common::network::PEERS_MAX),
    ("RECLAIM", healer_common::reclaim::RECLAIM_MAX),
    ("RECLAIMING", healer_common::reclaim::RECLAIMING_MAX),
];

/// `entries`, or more on a machine of many CPUs.
pub(crate) fn room(entries: u32) -> u32 {
    let cpus = aya::util::nr_cpus().ok().and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(1);
    room_by(entries, cpus)
}

fn room_by(entries: u32, cpus: u32) -> u32 {
    entries.max(cpus.saturating_mul(OF_A_CPU))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cpu_has_its_share() {
        assert_eq!(room_by(2048, 2), 2048);
        assert_eq!(room_by(2048, 64), 16 * 1024);
    }
}
