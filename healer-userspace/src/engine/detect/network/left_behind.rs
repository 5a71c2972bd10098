//! A peer that is well again, and connections to it that are not.

use core::net::SocketAddr;

use super::{
    Context, Finding, Network, Who,
    client::{Verdict, earliest},
    known::FORGOTTEN,
    words,
};

impl Network {
    /// The peer is well, and connections from before are not.
    pub(super) fn left_behind(
        &mut self,
        context: &Context<'_>,
        who: &Who,
        verdict: &Verdict,
        found: &mut Vec<Finding>,
    ) {
        let Some(client) = self.clients.get(who) else {
            return;
        };
        let has_made_room = |(whose, at): &(Who, SocketAddr)| whose == who && !client.peers.contains_key(at);
        for key in self.stale.extract_if(.., has_made_room) {
            found.push(words::answers(&key, FORGOTTEN));
        }
        for (address, peer) in &client.peers {
            let key = (who.clone(), *address);
            let is_said = self.stale.contains(&key);
            let is_down = verdict.down.contains_key(address) || self.down.contains_key(&key);
            let stale = peer.stuck.stale(context.now, peer.last_ok, peer.is_lossy());
            if !stale.is_empty() && !is_said && !is_down {
                let server = context.world.topology().server(who.1, address);
                found.push(words::stale(context, &key, client, &stale, server));
                self.stale.insert(key);
            } else if stale.is_empty() && is_said {
                self.stale.remove(&key);
                found.push(words::answers(&key, "no connection from before waits for it any more"));
            }
            self.due = earliest(self.due, peer.stuck.due());
        }
    }
}
