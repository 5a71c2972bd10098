//! What is known beside the words of a peer, and leaves no other reason for them.

use core::net::SocketAddr;

use super::{Context, Network, Who, kind::Kind};
use crate::engine::time::BootTime;

impl Network {
    /// It refuses, and nobody restarts; it is out of reach, and the way out of its client was lost just before.
    pub(super) fn is_explained(
        &self,
        context: &Context<'_>,
        (who, address): (&Who, &SocketAddr),
        kind: Kind,
        since: BootTime,
    ) -> bool {
        match kind {
            Kind::Refuses => self.servers.refuses_for_good(context, who.1, address, since),
            Kind::NoAnswer | Kind::Unreachable => {
                let is_disproved = |changed| {
                    self.were_reached_after(who, &[*address], changed)
                        || self.is_another_reached(context, who.1, &[*address], changed)
                };
                self.links.have_cut(who.1, since, address.ip(), is_disproved)
            }
            Kind::Frozen | Kind::Dns | Kind::Stale => false,
        }
    }
}
