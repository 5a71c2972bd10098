//! What is known beside the words of a peer, and leaves no other reason for them.

use core::net::SocketAddr;

use super::{Context, Network, kind::Kind};
use crate::engine::time::BootTime;

impl Network {
    /// It refuses, and nobody restarts; it is silent, and the way out of its client was lost just before.
    pub(super) fn is_explained(
        &self,
        context: &Context<'_>,
        (netns, address): (u32, &SocketAddr),
        kind: Kind,
        since: BootTime,
    ) -> bool {
        match kind {
            Kind::Refuses => self.servers.refuses_for_good(context, netns, address, since),
            Kind::NoAnswer => {
                let is_another_reached_after =
                    |changed| self.is_another_reached(context, netns, &[*address], changed);
                self.links.have_cut(netns, since, address.ip(), is_another_reached_after)
            }
            Kind::Unreachable | Kind::Frozen | Kind::Dns | Kind::Stale => false,
        }
    }
}
