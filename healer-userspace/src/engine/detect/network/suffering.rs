//! Several who suffer from one peer: then it is the peer.

use core::net::SocketAddr;

use super::{Network, Who, client::Surety};

impl Network {
    /// Workloads for which this peer is down already.
    pub(super) fn suffering(&self, (who, address): &(Who, SocketAddr)) -> usize {
        self.down.keys().filter(|(other, at)| at == address && other != who).count()
    }

    /// Who has no other peer may be cut off instead; that two are, and nobody else there is, is unlikely.
    pub(super) fn blames_the_peer(&self, who: &Who, suffering: usize, surety: Surety) -> bool {
        let is_anybody_cut_off = || self.isolated.keys().any(|(_, netns)| *netns == who.1);
        surety == Surety::OnlyPeer && 0 < suffering && !is_anybody_cut_off()
    }
}
