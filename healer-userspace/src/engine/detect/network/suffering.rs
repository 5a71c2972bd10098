//! Several who suffer from one peer: then it is the peer.

use core::net::SocketAddr;

use super::{Network, Who, client::Surety, peer::Peer};
use crate::engine::time::BootTime;

impl Network {
    /// Workloads for which this peer is down already.
    pub(super) fn suffering(&self, (who, address): &(Who, SocketAddr)) -> usize {
        self.down.keys().filter(|(other, at)| at == address && other != who).count()
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

    /// Who has no other peer may be cut off instead; that two are, and nobody else there is, is unlikely.
    pub(super) fn blames_the_peer(&self, who: &Who, suffering: usize, surety: Surety) -> bool {
        let is_anybody_cut_off = || self.isolated.keys().any(|(_, netns)| *netns == who.1);
        surety == Surety::OnlyPeer && 0 < suffering && !is_anybody_cut_off()
    }
}
