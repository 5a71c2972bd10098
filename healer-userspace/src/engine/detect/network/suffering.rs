//! Several who suffer from one peer: then it is the peer.

use core::net::SocketAddr;
use std::collections::BTreeSet;

use super::{Context, Network, Who, client::Surety, peer::Peer};
use crate::engine::time::BootTime;

impl Network {
    /// Workloads for which this peer is down already.
    pub(super) fn suffering(&self, (who, address): &(Who, SocketAddr)) -> usize {
        let others = self.down.keys().filter(|(other, at)| at == address && other.0 != who.0);
        others.map(|(other, _)| &other.0).collect::<BTreeSet<_>>().len()
    }

    /// Other peers of whoever lives in that namespace that have answered since.
    pub(super) fn others_reached(&self, netns: u32, since: BootTime, lost: &[SocketAddr]) -> usize {
        let here = self.clients.iter().filter(|(who, _)| who.1 == netns);
        let peers = here.flat_map(|(_, client)| &client.peers);
        let is_reached = |(at, peer): &(&SocketAddr, &Peer)| {
            !lost.contains(at) && !at.ip().is_loopback() && peer.answered_since(since)
        };
        peers.filter(is_reached).count()
    }

    /// Who has no other peer may be cut off instead, and all of them by the node's own way out: somebody has to reach
    /// somebody.
    pub(super) fn blames_the_peer(
        &self,
        context: &Context<'_>,
        key: &(Who, SocketAddr),
        since: BootTime,
        surety: Surety,
    ) -> bool {
        let is_alike = || 0 < self.suffering(key) && self.isolated.is_empty();
        surety == Surety::OnlyPeer && is_alike() && self.is_anybody_reached(context, key, since)
    }

    /// Whoever is on this node is reached without its way out.
    fn is_anybody_reached(
        &self,
        context: &Context<'_>,
        (who, address): &(Who, SocketAddr),
        since: BootTime,
    ) -> bool {
        let is_here = |netns, at: &SocketAddr| context.world.topology().server(netns, at).is_some();
        let needs_no_way_out = is_here(who.1, address);
        let counts = |netns, at: &SocketAddr, peer: &Peer| {
            let is_another = at.ip() != address.ip() && !at.ip().is_loopback();
            is_another && peer.answered_since(since) && (needs_no_way_out || !is_here(netns, at))
        };
        let mut all = self.clients.iter();
        all.any(|((_, netns), client)| client.peers.iter().any(|(at, peer)| counts(*netns, at, peer)))
    }
}
