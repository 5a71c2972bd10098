//! A client whose process has ended. Whoever follows it asks the same peers: what speaks against them stays for as
//! long as evidence does, else a client that gives up and starts again would never be seen to depend on anybody.

use super::{Finding, Network, Who, client::earliest, known::Gone, peer::EVIDENCE_LASTS, words};
use crate::{engine::time::BootTime, identity::process::ProcessId};

impl Network {
    /// Its connections are gone with it.
    pub(super) fn ended(&mut self, at: BootTime, id: ProcessId, found: &mut Vec<Finding>) {
        for who in self.by_process.remove(&id).unwrap_or_default() {
            let Some(client) = self.clients.get_mut(&who) else { continue };
            client.ended = Some(at);
            client.peers.values_mut().for_each(|peer| peer.stuck.close());
            self.due = earliest(self.due, Some(at + EVIDENCE_LASTS));
            for key in self.stale.extract_if(.., |(whose, _)| *whose == who) {
                found.push(words::answers(&key, "its client has ended"));
            }
        }
    }

    /// Nobody has followed it.
    pub(super) fn has_gone(&mut self, now: BootTime, who: &Who, found: &mut Vec<Finding>) -> bool {
        let Some(ended) = self.clients.get(who).and_then(|client| client.ended) else {
            return false;
        };
        let until = ended + EVIDENCE_LASTS;
        if now < until {
            self.due = earliest(self.due, Some(until));
            return false;
        }
        self.forget(who, Gone::Ended, found);
        true
    }
}
