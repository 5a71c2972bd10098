//! What one end of a connection tells the other: the ends lie in two namespaces, which are seen one after the other.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::{Answers, Whose, ledger::Serving};
use crate::{engine::time::BootTime, signal::network::RoundTrip};

/// Longer than the longest pause between two looks at one namespace.
const FRESH: Duration = Duration::from_secs(12);
/// What is known is told again, and forgotten if it was not seen for long.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
const FORGOTTEN: Duration = Duration::from_secs(900);
const ENTRIES_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct Shared {
    /// By the client's own address: whom it asked for.
    wanted: BTreeMap<SocketAddr, Want>,
    /// By the client's address: its server has bytes of it that it does not read.
    unread: BTreeMap<SocketAddr, Unread>,
    /// By client namespace and what the client calls the peer.
    served: BTreeMap<(u32, SocketAddr), Served>,
    /// By the same: round trip, µs.
    trips: BTreeMap<(u32, SocketAddr), Trip>,
}

struct Trip {
    us: u32,
    at: BootTime,
    told: Option<u32>,
}

struct Want {
    netns: u32,
    peer: SocketAddr,
    at: BootTime,
}

#[derive(Clone, Copy)]
pub(super) struct Unread {
    /// The server's own address of this connection, and its namespace.
    pub(super) server: SocketAddr,
    pub(super) netns: u32,
    pub(super) since: BootTime,
    pub(super) whose: Whose,
    pub(super) at: BootTime,
}

struct Served {
    address: SocketAddr,
    netns: u32,
    whose: Whose,
    at: BootTime,
    told: Option<(BootTime, Whose)>,
}

impl Shared {
    pub(super) fn forget(&mut self, now: BootTime) {
        self.wanted.retain(|_, want| now.since(want.at) < FRESH);
        self.unread.retain(|_, unread| now.since(unread.at) < FRESH);
        self.served.retain(|_, served| now.since(served.at) < FORGOTTEN);
        self.trips.retain(|_, trip| now.since(trip.at) < FORGOTTEN);
    }

    /// A client has a connection; who answers it?
    pub(super) fn want(&mut self, now: BootTime, netns: u32, local: SocketAddr, peer: SocketAddr) {
        if self.wanted.len() < ENTRIES_MAX {
            self.wanted.insert(local, Want { netns, peer, at: now });
        }
    }

    /// The other end of it: `client` is what the server calls its peer, which no destination NAT changes.
    pub(super) fn serve(&mut self, now: BootTime, netns: u32, client: SocketAddr, address: SocketAddr) {
        let Some(want) = self.wanted.get(&client) else { return };
        let key = (want.netns, want.peer);
        if ENTRIES_MAX <= self.served.len() && !self.served.contains_key(&key) {
            return;
        }
        let served = self.served.entry(key).or_insert(Served {
            address,
            netns,
            whose: Whose::default(),
            at: now,
            told: None,
        });
        if (served.address, served.netns) != (address, netns) {
            *served = Served { address, netns, whose: Whose::default(), at: now, told: None };
        }
        served.at = now;
    }

    /// Now it is known who has the listeners of `netns`.
    pub(super) fn own(&mut self, netns: u32, serving: &Serving, whose: &impl Fn(u32, u64) -> Whose) {
        let owner = |at: SocketAddr| serving.of(at).map(|(inode, cgroup)| whose(inode, cgroup));
        for served in self.served.values_mut().filter(|served| served.netns == netns) {
            served.whose = owner(served.address).unwrap_or(served.whose);
        }
        for unread in self.unread.values_mut().filter(|unread| unread.netns == netns) {
            unread.whose = owner(unread.server).unwrap_or(unread.whose);
        }
    }

    /// Said anew after every look at the namespace.
    pub(super) fn forget_unread(&mut self, netns: u32) {
        self.unread.retain(|_, unread| unread.netns != netns);
    }

    pub(super) fn note_unread(&mut self, client: SocketAddr, unread: Unread) {
        if self.unread.len() < ENTRIES_MAX {
            self.unread.insert(client, unread);
        }
    }

    /// The server at the other end of this connection does not read it.
    pub(super) fn unread(&self, netns: u32, local: SocketAddr, peer: SocketAddr) -> Option<Unread> {
        let unread = self.unread.get(&local)?;
        let translated = self.served.get(&(netns, peer)).map(|served| served.address);
        (unread.server == peer || translated == Some(unread.server)).then_some(*unread)
    }

    /// Namespaces of clients whose server has begun not to read.
    pub(super) fn suffering(&self, now: BootTime) -> BTreeSet<u32> {
        const NEWS: Duration = Duration::from_secs(30);
        let news = self.unread.values().filter(|unread| now.since(unread.since) < NEWS);
        let silent: BTreeSet<SocketAddr> = news.map(|unread| unread.server).collect();
        let of_it = self.served.iter().filter(|(_, served)| silent.contains(&served.address));
        of_it.map(|((netns, _), _)| *netns).collect()
    }

    pub(super) fn round_trip(&mut self, now: BootTime, netns: u32, peer: SocketAddr, us: u32) {
        let key = (netns, peer);
        if self.trips.len() < ENTRIES_MAX || self.trips.contains_key(&key) {
            let told = self.trips.get(&key).and_then(|trip| trip.told);
            self.trips.insert(key, Trip { us, at: now, told });
        }
    }

    /// Those that are another than was told: nobody is woken for less.
    pub(super) fn new_trips(&mut self) -> Vec<RoundTrip> {
        const LEAST_US: u32 = 500;
        let mut news = Vec::new();
        for ((netns, peer), trip) in &mut self.trips {
            if trip.told.is_none_or(|told| LEAST_US.max(told / 2) < trip.us.abs_diff(told)) {
                trip.told = Some(trip.us);
                news.push(RoundTrip { netns: *netns, peer: *peer, us: trip.us });
            }
        }
        news
    }

    /// New, changed, or not told for long.
    pub(super) fn news(&mut self, now: BootTime) -> Vec<Answers> {
        let mut news = Vec::new();
        for ((netns, peer), served) in &mut self.served {
            let is_known = served.whose != Whose::default();
            let is_told =
                served.told.is_some_and(|(at, whose)| whose == served.whose && now.since(at) < TOLD_AGAIN);
            if is_known && !is_told && now.since(served.at) < FRESH {
                served.told = Some((now, served.whose));
                let (netns, peer, address, whose) = (*netns, *peer, served.address, served.whose);
                news.push(Answers { netns, peer, address, whose });
            }
        }
        news
    }
}
