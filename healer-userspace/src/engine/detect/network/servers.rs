//! Servers of this node: whose refusals no restart explains. One that has ended may be back within a moment, by whoever
//! restarts it: nothing is concluded from that.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use super::Context;
use crate::{
    engine::time::BootTime,
    signal::{Fact, Signal, network::Listens},
};

const KEPT_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Servers {
    /// By cookie, since when each listener is known to be there.
    listeners: BTreeMap<u64, BootTime>,
}

impl Servers {
    pub(super) fn note(&mut self, signal: &Signal) {
        if let Fact::Listens(listens) = &signal.fact {
            self.listens(signal.at, listens);
        }
    }

    /// Listeners are told again by looks: the first time counts.
    fn listens(&mut self, at: BootTime, listens: &Listens) {
        if !listens.on {
            self.listeners.remove(&listens.cookie);
        } else if self.listeners.len() < KEPT_MAX {
            self.listeners.entry(listens.cookie).or_insert(at);
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
