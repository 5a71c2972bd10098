//! Who connects to whom: read often while somebody is in trouble, else now and then for the map.

use core::time::Duration;
use std::{collections::BTreeMap, path::Path};

use super::Agent;
use crate::{
    engine::time::BootTime,
    identity::process::{Process, ProcessId, WorkloadKey},
    sense::poll::{flows::Trouble, peers::PeerLedger, routes::RouteWatch},
    signal::{
        Fact, Signal,
        network::{Change, LinkChange, NoRoute, PeerCounts},
    },
};

const CALM: Duration = Duration::from_secs(10);
const CALM_ROUTES: Duration = Duration::from_millis(2900);
const TROUBLED: Duration = Duration::from_millis(900);
/// Of several who ask, one reads.
const MOMENT: Duration = Duration::from_millis(20);
/// A client that asks once a second has asked three times.
const REWIRED_LASTS: Duration = Duration::from_secs(3);
const REWIRED_MAX: usize = 16;
/// So long after the last failure the next may come.
const TROUBLE_LASTS: Duration = Duration::from_secs(60);

pub(super) struct Peers {
    ledger: PeerLedger,
    routes: RouteWatch,
    routes_at: Option<BootTime>,
    read_at: Option<BootTime>,
    troubled_at: Option<BootTime>,
    /// Namespaces that have just lost a link or a route, and until when they are asked after it.
    rewired: BTreeMap<u32, BootTime>,
    /// Whose sockets want a look soon.
    trouble: Trouble,
}

impl Peers {
    pub(super) fn new(trouble: Trouble) -> Self {
        let routes = RouteWatch::new(Path::new("/proc"));
        Self {
            ledger: PeerLedger::default(),
            routes,
            routes_at: None,
            read_at: None,
            troubled_at: None,
            rewired: BTreeMap::new(),
            trouble,
        }
    }
}

impl Agent {
    /// What no tracepoint tells: once a second while somebody is in trouble, for it costs some 50 µs a namespace.
    pub(super) fn look_at_routes(&mut self, now: BootTime) {
        let is_due = self.peers.routes_at.is_none_or(|at| CALM_ROUTES <= now.since(at));
        if !is_due && !self.is_troubled(now) {
            return;
        }
        self.peers.routes_at = Some(now);
        let found = self.peers.routes.look(now);
        if found.is_empty() {
            return;
        }
        self.peers.troubled_at = Some(now);
        self.tell_no_routes(now, found);
    }

    fn tell_no_routes(&mut self, now: BootTime, found: Vec<NoRoute>) {
        self.look_at_peers(now, true);
        for no_route in found {
            self.peers.trouble.tell(no_route.netns);
            self.observe(&Signal { at: now, process: None, fact: Fact::NoRoute(no_route) });
        }
    }

    /// Whoever lives where something went is asked at once whether it misses that, and again for a while.
    pub(super) fn note_rewired(&mut self, now: BootTime, links: &[LinkChange]) {
        let is_lost = |told: &&LinkChange| match &told.change {
            Change::Link { up, gone, .. } => !up && !gone,
            Change::Route { usable, .. } => !usable,
        };
        for told in links.iter().filter(is_lost) {
            if self.peers.rewired.len() < REWIRED_MAX {
                self.peers.rewired.insert(told.netns, now + REWIRED_LASTS);
            }
        }
    }

    /// Costs some 50 µs for each of them.
    pub(super) fn look_at_rewired(&mut self, now: BootTime) {
        self.peers.rewired.retain(|_, until| now < *until);
        let Peers { rewired, routes, .. } = &mut self.peers;
        let found: Vec<NoRoute> = rewired.keys().filter_map(|netns| routes.look_at(now, *netns)).collect();
        if !found.is_empty() {
            self.trouble(now);
            self.tell_no_routes(now, found);
        }
    }

    /// A failure asks for the good news as well: what is down, and what is not.
    pub(super) fn note_trouble(&mut self, now: BootTime, signal: &Signal) {
        if let Fact::ConnectionFailed(failed) = &signal.fact {
            self.peers.trouble.tell(failed.flow.netns);
        } else if let Fact::Retransmitted(sent) = &signal.fact {
            self.peers.trouble.tell(sent.flow.netns);
        } else if !matches!(&signal.fact, Fact::SyscallError(error) if error.has_no_way()) {
            return;
        }
        self.trouble(now);
    }

    pub(super) fn trouble(&mut self, now: BootTime) {
        self.peers.troubled_at = Some(now);
    }

    fn is_troubled(&self, now: BootTime) -> bool {
        self.peers.troubled_at.is_some_and(|at| now.since(at) < TROUBLE_LASTS)
    }

    /// At most once a second, or at once when something is to be decided.
    pub(super) fn look_at_peers(&mut self, now: BootTime, is_decisive: bool) {
        let pause = match (self.is_troubled(now), is_decisive) {
            (true, true) => Duration::ZERO,
            (true, false) => TROUBLED,
            (false, _) => CALM,
        };
        if self.peers.read_at.is_none_or(|at| pause <= now.since(at)) {
            self.read_peers(now);
        }
    }

    /// Somebody is to be judged by what nobody was in trouble for.
    pub(super) fn look_at_peers_now(&mut self, now: BootTime) {
        if self.peers.read_at.is_none_or(|at| MOMENT <= now.since(at)) {
            self.read_peers(now);
        }
    }

    fn read_peers(&mut self, now: BootTime) {
        self.peers.read_at = Some(now);
        let news = self.peers.ledger.news(&self.sense.peers());
        let mut clients: BTreeMap<(WorkloadKey, ProcessId), (Process, Vec<PeerCounts>)> = BTreeMap::new();
        for (owner, counts) in news {
            let process = self.identity.owner(owner, now);
            self.peers.trouble.meet(counts.netns);
            if process.pid != 0 {
                self.peers.routes.learn(counts.netns, process.pid);
            }
            let key = (process.workload.clone(), process.id());
            clients.entry(key).or_insert_with(|| (process, Vec::new())).1.push(counts);
        }
        for (process, counts) in clients.into_values() {
            self.observe(&Signal { at: now, process: Some(process), fact: Fact::Peers(counts) });
        }
    }
}
