//! What is said to the running programs, and what they count.

use std::os::fd::AsFd as _;

use aya::{
    Ebpf,
    maps::{Array as BpfArray, HashMap as BpfHashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
};
use healer_common::{
    event::wire::Wire,
    network::{PEERS_MAX, PeerCounters, PeerKey, TOLD_MAX_UNTYPED},
    tuning::Counter,
};
use serde::Serialize;

use super::{ring::Rings, room::room, tracked::Tracked};

/// Records that did not fit into their ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    pub urgent: u64,
    pub bulk: u64,
}

impl Lost {
    /// What was lost after `before` was counted.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            urgent: self.urgent.saturating_sub(before.urgent),
            bulk: self.bulk.saturating_sub(before.bulk),
        }
    }
}

/// Why the programs could not be told.
#[derive(Debug, thiserror::Error)]
pub enum MapTrouble {
    #[error("no kernel programs are loaded")]
    NothingLoaded,
    #[error("the object has no map {0}")]
    NoMap(&'static str),
    #[error("map {name}: {source}")]
    Refused { name: &'static str, source: MapError },
}

pub(crate) struct Maps {
    tracked: Tracked,
    watched: BpfHashMap<MapData, u64, u32>,
    counters: PerCpuArray<MapData, u64>,
    peers: BpfHashMap<MapData, Words<4>, Words<11>>,
    connecting: BpfArray<MapData, Words<5>>,
    /// By the socket's address.
    told: BpfHashMap<MapData, u64, Words<4>>,
}

/// The bytes of a key or value, as aya takes them.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Words<const N: usize>([u64; N]);

// SAFETY: integers, without padding.
unsafe impl<const N: usize> aya::Pod for Words<N> {}

impl<const N: usize> Words<N> {
    /// Of a value of that many words; zeros in place of words that it has not.
    pub(crate) fn of<T: Wire>(value: &T) -> Self {
        let mut bytes = [0; 128];
        value.put(&mut bytes.as_mut_slice());
        let words = bytes.as_chunks::<8>().0;
        Self(core::array::from_fn(|at| words.get(at).map_or(0, |word| u64::from_ne_bytes(*word))))
    }

    pub(crate) fn read<T: Wire>(self) -> Option<T> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_ne_bytes()).collect();
        T::take(&mut bytes.as_slice())
    }
}

/// The counters, for another thread.
pub(crate) fn counters_of(ebpf: &Ebpf) -> Option<PerCpuArray<MapData, u64>> {
    let Some(Map::PerCpuArray(data)) = ebpf.map("COUNTERS") else {
        return None;
    };
    let fd = data.fd().as_fd().try_clone_to_owned().ok()?;
    Map::PerCpuArray(MapData::from_fd(fd).ok()?).try_into().ok()
}

/// Takes our maps out of `ebpf`, which keeps the programs.
pub(crate) fn take(ebpf: &mut Ebpf) -> Result<(Maps, Rings), MapTrouble> {
    let maps = Maps {
        tracked: Tracked::of(ebpf)?,
        watched: typed(ebpf, "WATCHED_EXES")?,
        counters: typed(ebpf, "COUNTERS")?,
        peers: typed(ebpf, "PEERS")?,
        connecting: typed(ebpf, "CONNECTING")?,
        told: typed(ebpf, "TOLD")?,
    };
    let urgent: RingBuf<MapData> = typed(ebpf, "URGENT")?;
    let bulk: RingBuf<MapData> = typed(ebpf, "BULK")?;
    Ok((maps, Rings::new(urgent, bulk)))
}

pub(crate) fn typed<T: TryFrom<aya::maps::Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, MapTrouble> {
    let map = ebpf.take_map(name).ok_or(MapTrouble::NoMap(name))?;
    map.try_into().map_err(|source| MapTrouble::Refused { name, source })
}

impl Maps {
    pub(crate) fn lost(&self) -> Lost {
        Lost { urgent: self.sum(Counter::LostUrgent), bulk: self.sum(Counter::LostBulk) }
    }

    pub(crate) fn quiet_exits(&self) -> u64 {
        self.sum(Counter::QuietExits)
    }

    fn sum(&self, counter: Counter) -> u64 {
        let slots = self.counters.get(&(counter as u32), 0);
        slots.map_or(0, |slots| slots.iter().sum())
    }

    /// All that is counted; an entry that is crowded out meanwhile may be missing.
    pub(crate) fn peers(&self) -> Vec<(PeerKey, PeerCounters)> {
        let entries = self.peers.iter().take(room(PEERS_MAX) as usize).filter_map(Result::ok);
        entries.filter_map(|(key, counters)| Some((key.read()?, counters.read()?))).collect()
    }

    /// After edges of connections were not seen: another connection may be where they were.
    pub(crate) fn forget_makers(&mut self) {
        for slot in 0..self.connecting.len() {
            self.connecting.set(slot, Words([0; 5]), 0).ok();
        }
        // Keys come anew while entries go.
        let most = room(TOLD_MAX_UNTYPED) as usize;
        let sockets: Vec<u64> = self.told.keys().take(most).filter_map(Result::ok).collect();
        for socket in sockets {
            self.told.remove(&socket).ok();
        }
    }

    pub(crate) fn track(&mut self, tgid: u32) -> Result<(), MapTrouble> {
        self.tracked.insert(tgid)
    }

    pub(crate) fn untrack(&mut self, tgid: u32) -> Result<(), MapTrouble> {
        self.tracked.remove(tgid)
    }

    pub(crate) fn watch_exe(&mut self, ino: u64) -> Result<(), MapTrouble> {
        refused("WATCHED_EXES", self.watched.insert(ino, 1, 0))
    }

    pub(crate) fn unwatch_exe(&mut self, ino: u64) -> Result<(), MapTrouble> {
        refused("WATCHED_EXES", unless_absent(self.watched.remove(&ino)))
    }
}

pub(crate) fn refused(name: &'static str, outcome: Result<(), MapError>) -> Result<(), MapTrouble> {
    outcome.map_err(|source| MapTrouble::Refused { name, source })
}

pub(crate) fn unless_absent(outcome: Result<(), MapError>) -> Result<(), MapError> {
    match outcome {
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(MapError::KeyNotFound) => Ok(()),
        other => other,
    }
}
