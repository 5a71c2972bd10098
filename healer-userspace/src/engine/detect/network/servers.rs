//! Servers of this node: whose refusals no restart explains. One that has ended may be back within a moment, by whoever
//! restarts it: nothing is concluded from that.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::Context;
use crate::{
    engine::time::BootTime,
    identity::process::ProcessId,
    signal::{Fact, Signal, network::Listens},
};

const KEPT_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Servers {
    /// By cookie, since when each listener is known to be there.
    listeners: BTreeMap<u64, BootTime>,
    /// Whoever ends has closed its own, whether that is told or not.
    owners: BTreeMap<ProcessId, BTreeSet<u64>>,
}

impl Servers {
    pub(super) fn note(&mut self, signal: &Signal) {
        let Some(process) = &signal.process else { return };
        if let Fact::Listens(listens) = &signal.fact {
            self.listens(signal.at, listens, process.id());
        } else if matches!(signal.fact, Fact::Exited(_))
            && let Some(cookies) = self.owners.remove(&process.id())
        {
            self.listeners.retain(|cookie, _| !cookies.contains(cookie));
        }
    }

    /// Listeners are told again by looks: the first time counts.
    fn listens(&mut self, at: BootTime, listens: &Listens, owner: ProcessId) {
        if !listens.on {
            self.listeners.remove(&listens.cookie);
            if let Some(cookies) = self.owners.get_mut(&owner)
                && cookies.remove(&listens.cookie)
                && cookies.is_empty()
            {
                self.owners.remove(&owner);
            }
        } else if self.listeners.len() < KEPT_MAX {
            self.listeners.entry(listens.cookie).or_insert(at);
            self.owners.entry(owner).or_default().insert(listens.cookie);
        }
    }

    /// Whoever restarts closes its listener. The one that was there before the first refusal is there still, so somebody
    /// on the way says no.
    pub(super) fn refuses_for_good(
        &self,
        context: &Context<'_>,
        netns: u32,
        address: &SocketAddr,
        since: BootTime,
    ) -> bool {
        let topology = context.world.topology();
        let Some(server) = topology.server(netns, address).filter(|_| context.memory.lost_since(since) == 0)
        else {
            return false;
        };
        let is_older = |cookie: u64| self.listeners.get(&cookie).is_some_and(|at| *at < since);
        topology
            .listeners_at(netns, address)
            .any(|(cookie, process)| process.workload == server.workload && is_older(cookie))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::process::Process, signal::Exit};

    fn told(servers: &mut Servers, cookie: u64, on: bool) {
        let address = "10.0.0.1:80".parse().unwrap();
        let listens = Listens { address, netns: 9, cgroup: 6, cookie, on };
        note(servers, Fact::Listens(listens));
    }

    fn note(servers: &mut Servers, fact: Fact) {
        let process = Process { pid: 7, ..Process::default() };
        servers.note(&Signal { at: BootTime(1), process: Some(process), fact });
    }

    #[test]
    fn who_has_closed_all_its_listeners_is_not_kept_until_it_ends() {
        let mut servers = Servers::default();
        told(&mut servers, 1, true);
        told(&mut servers, 2, true);
        told(&mut servers, 1, false);
        assert_eq!((servers.owners.len(), servers.listeners.len()), (1, 1), "it has another one");
        told(&mut servers, 2, false);
        assert_eq!((servers.owners.len(), servers.listeners.len()), (0, 0));
        told(&mut servers, 3, true);
        note(&mut servers, Fact::Exited(Exit::default()));
        assert_eq!((servers.owners.len(), servers.listeners.len()), (0, 0), "with its end, told or not");
    }
}
