//! Who is known: clients come, make room and go.

use core::net::SocketAddr;
use std::collections::BTreeSet;

use super::{Finding, Network, Who, client::Client, words};
use crate::identity::process::Process;

/// Clients remembered, the least recently heard of make room.
const CLIENTS_MAX: usize = 1024;
/// Why nothing more is said of a peer that made room, or whose client did.
pub(super) const FORGOTTEN: &str = "it is forgotten";

/// Why nothing more is said of a client.
#[derive(Clone, Copy)]
pub(super) enum Gone {
    Ended,
    MadeRoom,
}

impl Gone {
    fn says(self) -> &'static str {
        match self {
            Self::Ended => "no longer cut off: it has ended",
            Self::MadeRoom => "nothing more is known of it: others took its room",
        }
    }

    fn says_of_peers(self) -> &'static str {
        match self {
            Self::Ended => "its client has ended",
            Self::MadeRoom => FORGOTTEN,
        }
    }
}

impl Network {
    pub(super) fn client(
        &mut self,
        who: &Who,
        process: &Process,
        cgroup: u64,
        found: &mut Vec<Finding>,
    ) -> &mut Client {
        if CLIENTS_MAX <= self.clients.len() && !self.clients.contains_key(who) {
            let last = |client: &Client| client.peers.values().map(|peer| peer.last_seen).max();
            // Whoever is cut off is not heard of because of it.
            let is_cut_off = |who: &Who| self.isolated.contains_key(who);
            let oldest = self.clients.iter().min_by_key(|(who, client)| (is_cut_off(who), last(client)));
            if let Some(oldest) = oldest.map(|(who, _)| who.clone()) {
                self.forget(&oldest, Gone::MadeRoom, found);
            }
        }
        // The cgroup alone is less than a process.
        if process.pid != 0 {
            self.is_now(who, process);
        }
        let client = self.clients.entry(who.clone()).or_insert_with(|| Client::new(process.clone()));
        if process.pid != 0 {
            client.ended = client.ended.filter(|_| client.process.id() == process.id());
            client.process.clone_from(process);
        }
        if cgroup != 0 {
            client.cgroup = cgroup;
        }
        client
    }

    fn is_now(&mut self, who: &Who, process: &Process) {
        let before = self.clients.get(who).map(|client| client.process.id());
        if before != Some(process.id()) {
            self.is_no_longer(who);
            self.by_process.entry(process.id()).or_default().insert(who.clone());
        }
    }

    fn is_no_longer(&mut self, who: &Who) {
        let Some(id) = self.clients.get(who).map(|client| client.process.id()) else {
            return;
        };
        let is_last = self.by_process.get_mut(&id).is_some_and(|all| {
            all.remove(who);
            all.is_empty()
        });
        if is_last {
            self.by_process.remove(&id);
        }
    }

    /// Nothing is said of it any more.
    pub(super) fn forget(&mut self, who: &Who, why: Gone, found: &mut Vec<Finding>) {
        self.is_no_longer(who);
        self.clients.remove(who);
        if self.isolated.remove(who).is_some() {
            found.push(words::isolation_over(who, why.says()));
        }
        let of_it = |(whose, _): &(Who, SocketAddr)| whose == who;
        let down: BTreeSet<_> = self.down.extract_if(.., |key, _| of_it(key)).map(|(key, _)| key).collect();
        for key in down.into_iter().chain(self.stale.extract_if(.., of_it)) {
            found.push(words::answers(&key, why.says_of_peers()));
        }
        for key in self.degraded.extract_if(.., of_it) {
            found.push(words::steady(&key, why.says_of_peers()));
        }
    }
}
