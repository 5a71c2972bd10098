//! Who is cut off, and who depends on something that is dead.
//!
//! A peer is down when enough speaks against it and no answer came in between; a client is isolated when all its
//! peers are out of reach. Whoever says no was reached.

mod client;
mod cut_off;
mod dependencies;
mod ended;
mod explained;
mod kind;
mod known;
mod left_behind;
mod links;
mod moved;
mod no_route;
mod peer;
mod piece_words;
mod questions;
mod servers;
mod stuck;
mod suffering;
#[cfg(test)]
mod tests;
mod words;

use core::{cell::OnceCell, net::SocketAddr, time::Duration};
use std::collections::{BTreeMap, BTreeSet};

use super::{Context, Detector, DetectorEntry, Finding};
use crate::{
    engine::{class::Class, time::BootTime},
    identity::process::{ProcessId, WorkloadKey},
    signal::{Fact, Signal, network::FlowSnapshot},
};
use client::{Client, earliest};
use cut_off::CutOff;
use known::FORGOTTEN;
use links::Links;
use no_route::Runs;
use peer::Down;
use servers::Servers;
use suffering::Answers;

pub(super) const ENTRY: DetectorEntry = DetectorEntry {
    name: "network",
    classes: &[Class::NetworkIsolation, Class::DependencyFailure, Class::DegradedPath],
    build: || Box::new(Network::default()),
};

/// A peer that answers again must go on for so long.
const STAYS_WELL: Duration = Duration::from_secs(5);
/// The kernel counts what finds no route at once; what it tells of links and routes is read a moment later.
const CAUSE_COMES_WITHIN: Duration = Duration::from_secs(2);
/// A failure that nobody has tried again for so long is nobody's failure.
const UNTRIED: Duration = Duration::from_secs(600);
/// Gaps within a minute that make a path degraded, and for how long it stays so.
const DEGRADED_FROM: usize = 4;

/// One workload in one network namespace.
type Who = (WorkloadKey, u32);

#[derive(Default)]
struct Network {
    clients: BTreeMap<Who, Client>,
    /// Of those that have not ended.
    by_process: BTreeMap<ProcessId, BTreeSet<Who>>,
    links: Links,
    runs: Runs,
    servers: Servers,
    isolated: BTreeMap<Who, CutOff>,
    down: BTreeMap<(Who, SocketAddr), Down>,
    degraded: BTreeSet<(Who, SocketAddr)>,
    stale: BTreeSet<(Who, SocketAddr)>,
    due: Option<BootTime>,
    /// For all who are judged at once.
    answers: OnceCell<Answers>,
}

impl Detector for Network {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        self.answers = OnceCell::new();
        self.servers.note(signal);
        if let Fact::NoRoute(no_route) = &signal.fact {
            self.no_route(context, signal.at, no_route, found);
        }
        if let Fact::Flows(flows) = &signal.fact {
            self.flows(context, signal.at, flows, found);
        }
        let Some(process) = &signal.process else {
            return;
        };
        match &signal.fact {
            Fact::ConnectionFailed(failed) => {
                let who = (process.workload.clone(), failed.flow.netns);
                let client = self.client(&who, process, failed.flow.cgroup, found);
                client.peer(failed.flow.peer).failed(signal.at, failed);
                self.look(context, &who, found);
            }
            Fact::Retransmitted(sent) => {
                let who = (process.workload.clone(), sent.flow.netns);
                let client = self.client(&who, process, sent.flow.cgroup, found);
                client.peer(sent.flow.peer).retransmitted(signal.at, sent);
                self.look(context, &who, found);
            }
            Fact::Peers(counts) => {
                let mut touched = BTreeSet::new();
                for counts in counts {
                    let who = (process.workload.clone(), counts.netns);
                    let client = self.client(&who, process, counts.cgroup, found);
                    client.peer(counts.peer).counted(counts);
                    touched.insert(who);
                }
                for who in touched {
                    self.look(context, &who, found);
                }
            }
            Fact::SyscallError(error) if error.has_no_way() => {
                self.no_way(context, signal.at, process, error.address, found);
            }
            Fact::Exited(_) => self.ended(signal.at, process.id(), found),
            Fact::Execed
            | Fact::SignalSent(_)
            | Fact::OomKilled(_)
            | Fact::Registered(_)
            | Fact::Deregistered
            | Fact::StopAsked { .. }
            | Fact::MeantToEnd
            | Fact::Answered { .. }
            | Fact::Waits(_)
            | Fact::Work(_)
            | Fact::Probed(_)
            | Fact::Listens(_)
            | Fact::NoRoute(_)
            | Fact::SyscallError(_)
            | Fact::Levels(_)
            | Fact::Memory(_)
            | Fact::ReclaimStalled(_)
            | Fact::TaskHung(_)
            | Fact::Flows(_)
            | Fact::Lost { .. } => {}
        }
    }

    fn advance(&mut self, context: &Context<'_>, found: &mut Vec<Finding>) {
        if self.due.is_none_or(|due| context.now < due) {
            return;
        }
        self.due = None;
        self.answers = OnceCell::new();
        let all: Vec<Who> = self.clients.keys().cloned().collect();
        for who in all {
            self.look(context, &who, found);
        }
    }

    fn deadline(&self) -> Option<BootTime> {
        self.due
    }
}

impl Network {
    fn flows(&mut self, context: &Context<'_>, at: BootTime, flows: &FlowSnapshot, found: &mut Vec<Finding>) {
        for netns in &flows.gone {
            self.links.forget(*netns);
            self.runs.forget(*netns);
        }
        flows.addresses.iter().for_each(|told| self.links.note_addresses(told));
        flows.links.iter().for_each(|told| self.links.note(at, told));
        let has_news = |who: &&Who| flows.links.iter().any(|told| told.netns == who.1);
        let mut touched: BTreeSet<Who> = self.clients.keys().filter(has_news).cloned().collect();
        for stalled in &flows.stalled {
            let who = (stalled.client.workload.clone(), stalled.flow.netns);
            let client = self.client(&who, &stalled.client, stalled.flow.cgroup, found);
            client.peer(stalled.flow.peer).stalled(at, stalled);
            touched.insert(who);
        }
        touched.extend(self.moved(&flows.moved));
        for who in touched {
            self.look(context, &who, found);
        }
    }

    fn look(&mut self, context: &Context<'_>, who: &Who, found: &mut Vec<Finding>) {
        if !self.has_gone(context.now, who, found) {
            self.judge(context, who, found);
        }
        self.narrow(context, who, found);
    }

    /// Judges one client anew, and says what has changed.
    fn judge(&mut self, context: &Context<'_>, who: &Who, found: &mut Vec<Finding>) {
        let now = context.now;
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        client.refresh(now);
        let Some(client) = self.clients.get(who) else {
            return;
        };
        let is_explained = |at: &SocketAddr, kind, since| self.is_explained(context, (who, at), kind, since);
        let verdict = client.judge(now, is_explained);
        self.due = earliest(self.due, verdict.due);
        self.isolation(context, who, &verdict, found);
        if verdict.isolated.is_none() && !self.isolated.contains_key(who) {
            self.dependencies(context, who, &verdict, found);
        }
        self.well_again(now, who, found);
        self.paths(context, who, found);
        self.left_behind(context, who, &verdict, found);
    }

    fn well_again(&mut self, now: BootTime, who: &Who, found: &mut Vec<Finding>) {
        let said: Vec<_> = self.down.keys().filter(|(whose, _)| whose == who).map(|(_, at)| *at).collect();
        for address in said {
            let peer = self.clients.get(who).and_then(|client| client.peers.get(&address));
            if let Some(due) = peer.and_then(|peer| peer.stuck.fails_until()) {
                self.due = earliest(self.due, Some(due));
                continue;
            }
            let why = match peer {
                None => FORGOTTEN,
                Some(peer) if UNTRIED < now.since(peer.last_seen) => "nobody has tried it for ten minutes",
                Some(peer) => match peer.well_since {
                    Some(ok) if ok + STAYS_WELL <= now => "it answers again",
                    Some(ok) => {
                        self.due = earliest(self.due, Some(ok + STAYS_WELL));
                        continue;
                    }
                    None => {
                        self.due = earliest(self.due, peer.lapses_at());
                        continue;
                    }
                },
            };
            let key = (who.clone(), address);
            self.down.remove(&key);
            found.push(words::answers(&key, why));
        }
    }

    /// Lossy, but it works.
    fn paths(&mut self, context: &Context<'_>, who: &Who, found: &mut Vec<Finding>) {
        let Some(client) = self.clients.get(who) else {
            return;
        };
        let has_made_room = |(whose, at): &(Who, SocketAddr)| whose == who && !client.peers.contains_key(at);
        for key in self.degraded.extract_if(.., has_made_room) {
            found.push(words::steady(&key, FORGOTTEN));
        }
        for (address, peer) in &client.peers {
            let key = (who.clone(), *address);
            let is_said = self.degraded.contains(&key);
            if DEGRADED_FROM <= peer.gaps() && !is_said {
                found.push(words::degraded(context, &key, client, peer));
                self.degraded.insert(key);
            } else if peer.gaps() == 0 && is_said {
                self.degraded.remove(&key);
                found.push(words::steady(&key, "no gap within a minute"));
            } else if is_said {
                self.due = earliest(self.due, Some(context.now + Duration::from_secs(30)));
            }
        }
    }
}
