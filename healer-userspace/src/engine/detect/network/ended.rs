//! A client whose process has ended. Whoever follows it asks the same peers: what speaks against them stays for as
//! long as evidence does, else a client that gives up and starts again would never be seen to depend on anybody.

use core::net::SocketAddr;

use super::{
    Finding, Network, Who,
    client::{Client, earliest},
    peer::EVIDENCE_LASTS,
    words,
};
use crate::{engine::time::BootTime, identity::process::ProcessId};

impl Network {
    /// Its connections are gone with it.
    pub(super) fn ended(&mut self, at: BootTime, id: ProcessId, found: &mut Vec<Finding>) {
        let is_its = |client: &Client| client.process.id() == id;
        for (who, client) in self.clients.iter_mut().filter(|(_, client)| is_its(client)) {
            client.ended = Some(at);
            client.peers.values_mut().for_each(|peer| peer.stuck.close());
            self.due = earliest(self.due, Some(at + EVIDENCE_LASTS));
            for (_, peer) in self.stale.extract_if(.., |(whose, _)| whose == who) {
                found.push(words::answers(&(who.clone(), peer), "its client has ended"));
            }
        }
    }

    /// Nobody has followed it; then nothing is said of it any more.
    pub(super) fn has_gone(&mut self, now: BootTime, who: &Who, found: &mut Vec<Finding>) -> bool {
        let Some(ended) = self.clients.get(who).and_then(|client| client.ended) else {
            return false;
        };
        let until = ended + EVIDENCE_LASTS;
        if now < until {
            self.due = earliest(self.due, Some(until));
            return false;
        }
        self.clients.remove(who);
        if self.isolated.remove(who).is_some() {
            found.push(words::connected(who, "it has ended"));
        }
        let of_it = |(whose, _): &(Who, SocketAddr)| whose == who;
        for (key, _) in self.down.extract_if(.., |key, _| of_it(key)) {
            found.push(words::answers(&key, "its client has ended"));
        }
        for key in self.degraded.extract_if(.., of_it) {
            found.push(words::steady(&key));
        }
        true
    }
}
