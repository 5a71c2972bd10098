//! Who uses whom on this node: listeners, the other ends of connections, and the peers that each workload asks.

mod forward;
mod reach;
#[cfg(test)]
mod tests;

use core::{net::SocketAddr, time::Duration};
use std::collections::BTreeMap;

use self::{forward::forwards, reach::Reach};
use super::time::BootTime;
use crate::{
    identity::process::{Process, ProcessId, WorkloadKey},
    signal::{
        Fact, Signal,
        network::{Listens, Served},
    },
};

const LISTENERS_MAX: usize = 4096;
const PEERS_MAX: usize = 4096;
const CLIENTS_MAX: usize = 1024;
const USES_MAX: usize = 256;
/// A peer that was not asked for so long is none any more; an address may be somebody else's by then.
const EXPIRES: Duration = Duration::from_secs(15 * 60);
/// Of Kubernetes: each node sends what comes to one of them to any replica, on any node (`--service-node-port-range`).
const NODE_PORTS: core::ops::RangeInclusive<u16> = 30_000..=32_767;

/// An address as one network namespace knows it.
type At = (u32, SocketAddr);

/// Who answers there.
#[derive(Debug)]
struct Answers {
    known: (BootTime, Process),
    /// What it calls that itself.
    address: SocketAddr,
}

#[derive(Debug, Default)]
pub struct Topology {
    /// Of the last signal.
    now: BootTime,
    /// By cookie.
    listeners: BTreeMap<u64, (Listens, Process)>,
    /// Who listened there last, while nobody does.
    former: BTreeMap<At, (BootTime, Process)>,
    /// By what the client calls it.
    served: BTreeMap<At, Answers>,
    reach: Reach,
    uses: BTreeMap<WorkloadKey, BTreeMap<At, BootTime>>,
}

impl Topology {
    pub fn follow(&mut self, signal: &Signal) {
        self.now = self.now.max(signal.at);
        if let Fact::Flows(flows) = &signal.fact {
            flows.gone.iter().for_each(|netns| self.reach.forget(*netns));
            flows.addresses.iter().for_each(|told| self.reach.note(told));
            flows.served.iter().for_each(|served| self.serves(signal.at, served));
            for stalled in &flows.stalled {
                self.used(signal.at, &stalled.client, (stalled.flow.netns, stalled.flow.peer));
            }
            return;
        }
        let Some(process) = &signal.process else { return };
        if let Fact::Listens(listens) = &signal.fact {
            self.listens(signal.at, listens, process);
        } else if let Fact::Peers(counts) = &signal.fact {
            counts.iter().for_each(|one| self.used(signal.at, process, (one.netns, one.peer)));
        } else if let Fact::ConnectionFailed(failed) = &signal.fact {
            self.used(signal.at, process, (failed.flow.netns, failed.flow.peer));
        } else if let Fact::Retransmitted(sent) = &signal.fact {
            self.used(signal.at, process, (sent.flow.netns, sent.flow.peer));
        }
    }

    /// Whoever answers there, or did so last: in the client's own namespace, as its connections show, or the only one
    /// on the node who is reached by this very address.
    pub fn server(&self, netns: u32, peer: &SocketAddr) -> Option<&Process> {
        let mut here = self.listeners.values().filter(|(listens, _)| listens.netns == netns);
        let own = here.clone().find(|(listens, process)| listens.address == *peer && !forwards(process));
        let own = own.or_else(|| here.find(|(listens, process)| self.takes(listens, process, peer)));
        let own = own.map(|(_, process)| process);
        // Of whom the kernel has told the end there, more is known than of the other end of a connection.
        own.or_else(|| self.recent(self.former.get(&(netns, *peer))))
            .or_else(|| self.recent(self.served.get(&(netns, *peer)).map(|one| &one.known)))
            .or_else(|| self.served_elsewhere(peer))
            .or_else(|| self.only_one(peer))
            .or_else(|| self.former_elsewhere(peer))
    }

    /// Those who get what is sent there, by cookie.
    pub fn listeners_at<'a>(
        &'a self,
        netns: u32,
        peer: &'a SocketAddr,
    ) -> impl Iterator<Item = (u64, &'a Process)> {
        let is_reached = move |listens: &Listens| !peer.ip().is_loopback() || listens.netns == netns;
        let all = self.listeners.values();
        let there =
            all.filter(move |(listens, process)| is_reached(listens) && self.takes(listens, process, peer));
        there.map(|(listens, process)| (listens.cookie, process))
    }

    /// Does it, or did it last? `None`: of this workload no listener is known.
    pub fn listens_on(&self, workload: &WorkloadKey, port: u16) -> Option<bool> {
        let living = self.listeners.values().map(|(listens, process)| (listens.address.port(), process));
        let former = self.former.iter().map(|((_, at), (_, process))| (at.port(), process));
        let of_it = living.chain(former).filter(|(_, process)| process.workload == *workload);
        let ports: Vec<u16> = of_it.map(|(port, _)| port).collect();
        (!ports.is_empty()).then(|| ports.contains(&port))
    }

    /// It listens, or did so last where it did.
    pub fn has_served(&self, id: ProcessId) -> bool {
        self.server_by(id).is_some()
    }

    /// The same, and who it is.
    pub fn server_by(&self, id: ProcessId) -> Option<&Process> {
        let former = self.former.values().map(|(_, process)| process);
        let mut all = self.listeners.values().map(|(_, process)| process).chain(former);
        all.find(|process| process.id() == id)
    }

    /// Is it known whose this listener is?
    pub fn has_listener(&self, cookie: u64) -> bool {
        self.listeners.get(&cookie).is_some_and(|(_, process)| process.pid != 0)
    }

    fn recent<'a>(&self, known: Option<&'a (BootTime, Process)>) -> Option<&'a Process> {
        known.filter(|(seen, _)| self.is_recent(*seen)).map(|(_, process)| process)
    }

    fn former_elsewhere(&self, peer: &SocketAddr) -> Option<&Process> {
        let is_it = |(_, at): &At| at == peer && !peer.ip().is_loopback();
        let recent = self.former.iter().filter(|(at, (gone, _))| is_it(at) && self.is_recent(*gone));
        recent.max_by_key(|(_, (gone, _))| *gone).map(|(_, (_, process))| process)
    }

    fn is_recent(&self, seen: BootTime) -> bool {
        self.now.since(seen) < EXPIRES
    }

    fn takes(&self, listens: &Listens, process: &Process, peer: &SocketAddr) -> bool {
        self.reach.takes(listens, peer) && !forwards(process)
    }

    /// As the connections of others show, if they agree. What is sent to the address of a service, which nobody on this
    /// node has, may go to another server each time.
    fn served_elsewhere(&self, peer: &SocketAddr) -> Option<&Process> {
        let is_it = |(_, at): &At| at == peer && !peer.ip().is_loopback();
        let same = self.served.iter().filter(|(at, one)| is_it(at) && self.is_recent(one.known.0));
        let mut found = same.map(|(_, one)| one);
        let first = found.next()?;
        let is_on_this_node = self.reach.has(peer.ip());
        let agrees = |one: &Answers| {
            let is_the_one_asked =
                one.address.ip() == peer.ip() || is_on_this_node && !NODE_PORTS.contains(&peer.port());
            is_the_one_asked && one.known.1.workload == first.known.1.workload
        };
        (agrees(first) && found.all(agrees)).then_some(&first.known.1)
    }

    fn only_one(&self, peer: &SocketAddr) -> Option<&Process> {
        if peer.ip().is_loopback() {
            return None;
        }
        let at = self.listeners.values().filter(|(listens, process)| self.takes(listens, process, peer));
        let mut found = at.map(|(_, process)| process);
        let first = found.next()?;
        found.all(|other| other.workload == first.workload).then_some(first)
    }

    /// Workloads of this node that `workload` uses, with the address.
    pub fn servers_of<'a>(
        &'a self,
        workload: &WorkloadKey,
    ) -> impl Iterator<Item = (SocketAddr, &'a Process)> {
        let uses = self.uses.get(workload).into_iter().flatten();
        // A connection may be old; who does not listen any more, and was not asked since, is of no use.
        let is_used = |((_, _), seen): &(&At, &BootTime), server: &Process| {
            self.is_recent(**seen) || self.listeners.values().any(|(_, living)| living.id() == server.id())
        };
        uses.filter_map(move |one| {
            let ((netns, peer), _) = one;
            let server = self.server(*netns, peer).filter(|server| is_used(&one, server))?;
            Some((*peer, server))
        })
    }

    fn listens(&mut self, at: BootTime, listens: &Listens, process: &Process) {
        let place = (listens.netns, listens.address);
        if listens.on {
            let is_less = |(_, known): &(Listens, Process)| process.pid == 0 && known.pid != 0;
            if self.listeners.get(&listens.cookie).is_some_and(is_less) {
                return;
            }
            self.former.remove(&place);
            self.takes_over(listens, process);
            if self.listeners.len() < LISTENERS_MAX {
                self.listeners.insert(listens.cookie, (listens.clone(), process.clone()));
            }
        } else if let Some((gone, process)) = self.listeners.remove(&listens.cookie) {
            self.former.retain(|_, (since, _)| at.since(*since) < EXPIRES);
            for address in self.reach.addresses_of(&gone) {
                if self.former.len() < PEERS_MAX && !forwards(&process) {
                    self.former.insert((gone.netns, address), (at, process.clone()));
                }
            }
        }
    }

    fn serves(&mut self, at: BootTime, served: &Served) {
        self.served.retain(|_, one| at.since(one.known.0) < EXPIRES);
        let key = (served.netns, served.peer);
        // By its cgroup alone it is less known than by its descriptor.
        let is_less = |one: &Answers| served.server.pid == 0 && one.known.1.pid != 0;
        if forwards(&served.server) || self.served.get(&key).is_some_and(is_less) {
            return;
        }
        if self.served.len() < PEERS_MAX || self.served.contains_key(&key) {
            let known = (at, served.server.clone());
            self.served.insert(key, Answers { known, address: served.address });
        }
    }

    /// Whoever listens anew at an address is not who answered there before.
    fn takes_over(&mut self, listens: &Listens, process: &Process) {
        let is_another = |one: &Answers| one.known.1.workload != process.workload;
        let reach = &self.reach;
        let is_there = |one: &Answers| reach.takes(listens, &one.address) && !one.address.ip().is_loopback();
        // By its cgroup alone it is less known than by its descriptor.
        if process.pid != 0 {
            self.served.retain(|_, one| !(is_there(one) && is_another(one)));
        }
    }

    fn used(&mut self, at: BootTime, client: &Process, peer: At) {
        if !self.uses.contains_key(&client.workload) && CLIENTS_MAX <= self.uses.len() {
            self.uses.retain(|_, peers| peers.values().any(|seen| at.since(*seen) < EXPIRES));
            if CLIENTS_MAX <= self.uses.len() {
                return;
            }
        }
        let peers = self.uses.entry(client.workload.clone()).or_default();
        if USES_MAX <= peers.len() && !peers.contains_key(&peer) {
            let oldest = peers.iter().min_by_key(|(_, seen)| **seen).map(|(peer, _)| *peer);
            oldest.map(|peer| peers.remove(&peer));
        }
        peers.insert(peer, at);
    }
}
