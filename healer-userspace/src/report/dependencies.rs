//! Who depends on whom, as the kernel counts connections: one edge per workload, namespace and peer.

use core::{net::SocketAddr, time::Duration};
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    engine::{cascade::Declared, time::BootTime, topology::Topology},
    signal::{
        Fact, Signal,
        network::{PeerCounts, RoundTrip},
    },
};

/// Edges kept; those that were quiet longest make room.
const EDGES_MAX: usize = 4096;
/// An edge on which nothing happened for so long is gone.
const EXPIRES: Duration = Duration::from_secs(15 * 60);

/// All edges, and who listens where.
#[derive(Debug, Default)]
pub struct Dependencies {
    edges: BTreeMap<(String, u32, SocketAddr), Dependency>,
    declared: Vec<Declared>,
    /// By namespace and peer, µs.
    trips: BTreeMap<(u32, SocketAddr), u32>,
    topology: Topology,
}

/// One workload's use of one peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Dependency {
    pub workload: String,
    /// Address and port; of what was not seen, as the policy has it.
    pub peer: String,
    /// The workload that listens there, if it is on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Inode number of the client's network namespace.
    pub netns: u32,
    /// A policy says so too.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub declared: bool,
    pub state: EdgeState,
    /// Connections made, and those that failed, since the edge is known.
    pub ok: u64,
    pub failed: u64,
    /// Connections made per second, over the last look.
    pub per_second: f64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Longest time that a connection took to be made, µs.
    pub slowest_us: u32,
    /// Round trip to it, smoothed by the kernel, over the connections that were open at the last look, µs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u32>,
    pub last_ok_boot_ns: Option<u64>,
    pub last_bad_boot_ns: Option<u64>,
    #[serde(skip)]
    told: BootTime,
}

/// What happened last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EdgeState {
    Ok,
    Failing,
    /// Nothing: a policy has it, and no connection was seen.
    Declared,
}

impl EdgeState {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Declared => "declared",
        }
    }
}

impl Dependencies {
    pub fn follow(&mut self, signal: &Signal) {
        self.topology.follow(signal);
        if let Fact::Flows(flows) = &signal.fact {
            flows.trips.iter().for_each(|trip| self.took(trip));
        }
        let Some(process) = &signal.process else {
            return;
        };
        if let Fact::Peers(counts) = &signal.fact {
            counts.iter().for_each(|counts| self.count(signal.at, &process.workload.0, counts));
            self.expire(signal.at);
        } else if let Fact::SyscallError(error) = &signal.fact
            && let Some(peer) = error.address.filter(|_| error.has_no_way() || error.has_no_port())
        {
            self.was_not_made(signal.at, &process.workload.0, peer);
        }
    }

    fn took(&mut self, trip: &RoundTrip) {
        let key = (trip.netns, trip.peer);
        if self.trips.len() < EDGES_MAX || self.trips.contains_key(&key) {
            self.trips.insert(key, trip.us);
        }
    }

    /// Without a route or a port there is no edge in the kernel that could be counted.
    fn was_not_made(&mut self, at: BootTime, workload: &str, peer: SocketAddr) {
        let edges = self.edges.iter_mut().filter(|((whose, _, to), _)| whose == workload && *to == peer);
        for (_, edge) in edges.filter(|(_, edge)| edge.last_bad_boot_ns < Some(at.0)) {
            edge.failed += 1;
            edge.last_bad_boot_ns = Some(at.0);
            edge.state = EdgeState::Failing;
        }
    }

    /// What policies say, anew.
    pub fn declare(&mut self, declared: Vec<Declared>) {
        self.declared = declared;
    }

    /// Every edge, with whoever listens at its end now: an address may change hands.
    #[must_use]
    pub fn list(&self) -> Vec<Dependency> {
        let named = |((_, netns, peer), edge): (&(String, u32, SocketAddr), &Dependency)| {
            let server = self.topology.server(*netns, peer).map(|server| server.workload.0.clone());
            let declared = self.declared.iter().any(|one| is_it(one, &edge.workload, server.as_deref()));
            let rtt_us = self.trips.get(&(*netns, *peer)).copied();
            Dependency { server, declared, rtt_us, ..edge.clone() }
        };
        let mut list: Vec<_> = self.edges.iter().map(named).collect();
        let is_seen =
            |one: &&Declared| list.iter().any(|edge| is_it(one, &edge.workload, edge.server.as_deref()));
        let unseen: Vec<_> =
            self.declared.iter().filter(|one| !is_seen(one)).map(Dependency::unseen).collect();
        list.extend(unseen);
        list
    }

    /// Edges by what happened last on them.
    #[must_use]
    pub fn counts(&self) -> [(EdgeState, usize); 2] {
        let count = |state| self.edges.values().filter(|edge| edge.state == state).count();
        [EdgeState::Ok, EdgeState::Failing].map(|state| (state, count(state)))
    }

    fn count(&mut self, at: BootTime, workload: &str, counts: &PeerCounts) {
        let key = (workload.to_owned(), counts.netns, counts.peer);
        if self.edges.len() >= EDGES_MAX && !self.edges.contains_key(&key) {
            self.make_room();
        }
        let server = self.topology.server(counts.netns, &counts.peer).map(|one| one.workload.0.clone());
        let edge = self.edges.entry(key).or_insert_with(|| Dependency::new(at, workload, counts));
        if edge.server.is_some() && server.is_some() && edge.server != server {
            // The address is another workload's by now: what the old one did says nothing of it.
            *edge = Dependency::new(at, workload, counts);
        }
        edge.server = server.or_else(|| edge.server.take());
        let failed = [counts.refused, counts.unreachable, counts.timed_out, counts.reset, counts.abandoned];
        edge.ok += u64::from(counts.ok);
        edge.failed += failed.into_iter().map(u64::from).sum::<u64>();
        edge.retransmits += u64::from(counts.retransmits) + u64::from(counts.syn_retransmits);
        edge.slowest_us = counts.slowest_us;
        let seconds = at.since(edge.told).as_secs_f64();
        if 0.0 < seconds {
            edge.per_second = (f64::from(counts.ok) / seconds * 100.0).round() / 100.0;
        }
        edge.told = at;
        edge.last_ok_boot_ns = counts.last_ok.map(|at| at.0);
        edge.last_bad_boot_ns = counts.last_bad.map(|at| at.0);
        // Asked for again, and no answer yet: nothing has failed so far.
        let is_unanswered = counts.ok == 0 && 0 < counts.syn_retransmits;
        let is_failing = counts.last_ok < counts.last_bad || is_unanswered;
        edge.state = if is_failing { EdgeState::Failing } else { EdgeState::Ok };
    }

    fn expire(&mut self, now: BootTime) {
        let before = self.edges.len();
        self.edges.retain(|_, edge| now.since(edge.told) < EXPIRES);
        if self.edges.len() < before {
            let used: BTreeSet<_> = self.edges.keys().map(|(_, netns, peer)| (*netns, *peer)).collect();
            self.trips.retain(|key, _| used.contains(key));
        }
    }

    fn make_room(&mut self) {
        let quiet = self.edges.iter().min_by_key(|(_, edge)| edge.told).map(|(key, _)| key.clone());
        if let Some(key) = quiet {
            self.edges.remove(&key);
        }
    }
}

fn is_it(declared: &Declared, workload: &str, server: Option<&str>) -> bool {
    let meant = declared.server.as_ref().map(|key| key.0.as_str());
    declared.workload.0 == workload && server.is_some() && meant == server
}

impl Dependency {
    fn unseen(declared: &Declared) -> Self {
        Self {
            workload: declared.workload.0.clone(),
            peer: declared.on.to_string(),
            server: declared.server.as_ref().map(|server| server.0.clone()),
            declared: true,
            state: EdgeState::Declared,
            ..Self::empty()
        }
    }

    fn new(at: BootTime, workload: &str, counts: &PeerCounts) -> Self {
        Self {
            workload: workload.to_owned(),
            peer: counts.peer.to_string(),
            netns: counts.netns,
            told: at,
            ..Self::empty()
        }
    }

    fn empty() -> Self {
        Self {
            workload: String::new(),
            peer: String::new(),
            server: None,
            netns: 0,
            declared: false,
            state: EdgeState::Ok,
            ok: 0,
            failed: 0,
            per_second: 0.0,
            retransmits: 0,
            slowest_us: 0,
            rtt_us: None,
            last_ok_boot_ns: None,
            last_bad_boot_ns: None,
            told: BootTime(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::policy::depends::DependsOn,
        identity::process::{Process, WorkloadKey},
        signal::network::{FlowSnapshot, Listens, Served},
    };

    fn tell(to: &mut Dependencies, second: u64, workload: &str, fact: Fact) {
        let process = Process { workload: WorkloadKey(workload.to_owned()), ..Process::default() };
        to.follow(&Signal { at: BootTime(second * 1_000_000_000), process: Some(process), fact });
    }

    fn counts(peer: &str, ok: u32, refused: u32, second: u64) -> Fact {
        let at = Some(BootTime(second * 1_000_000_000));
        let last_ok = at.filter(|_| ok != 0);
        let last_bad = at.filter(|_| refused != 0);
        Fact::Peers(vec![PeerCounts {
            cgroup: 1,
            ok,
            refused,
            slowest_us: 5,
            last_ok,
            last_bad,
            ..PeerCounts::none(peer, 1)
        }])
    }

    fn listens(address: &str, netns: u32, cookie: u64, on: bool) -> Fact {
        Fact::Listens(Listens { address: address.parse().unwrap(), netns, cgroup: 1, cookie, on })
    }

    #[test]
    fn edges_have_rates_states_and_an_end() {
        let mut map = Dependencies::default();
        tell(&mut map, 10, "api", counts("10.0.0.5:5432", 4, 0, 10));
        tell(&mut map, 12, "api", counts("10.0.0.5:5432", 6, 0, 12));
        let [edge] = &map.list()[..] else { panic!() };
        assert_eq!((edge.ok, edge.per_second, edge.state), (10, 3.0, EdgeState::Ok));
        tell(&mut map, 14, "api", counts("10.0.0.5:5432", 0, 2, 14));
        assert_eq!(map.counts(), [(EdgeState::Ok, 0), (EdgeState::Failing, 1)]);
        tell(&mut map, 14 + 901, "web", counts("10.0.0.6:80", 1, 0, 915));
        assert_eq!(map.list().len(), 1);
    }

    #[test]
    fn an_edge_without_a_route_fails() {
        use crate::signal::syscall_error::SyscallError;
        let mut map = Dependencies::default();
        tell(&mut map, 10, "api", counts("10.0.0.5:80", 4, 0, 10));
        let address = Some("10.0.0.5:80".parse().unwrap());
        let error = SyscallError { errno: libc::EHOSTUNREACH, address, ..SyscallError::default() };
        tell(&mut map, 11, "web", Fact::SyscallError(Box::new(error.clone())));
        assert_eq!(map.list()[0].state, EdgeState::Ok);
        tell(&mut map, 11, "api", Fact::SyscallError(Box::new(error)));
        assert_eq!((map.list()[0].state, map.list()[0].failed), (EdgeState::Failing, 1));
        let error = SyscallError { errno: libc::EADDRNOTAVAIL, address, ..SyscallError::default() };
        tell(&mut map, 12, "api", Fact::SyscallError(Box::new(error)));
        assert_eq!(map.list()[0].failed, 2, "no port was left for it");
    }

    #[test]
    fn whoever_listens_at_the_end_now_is_the_server() {
        let mut map = Dependencies::default();
        tell(&mut map, 1, "api", counts("10.0.0.5:80", 1, 0, 1));
        tell(&mut map, 1, "api", counts("127.0.0.1:90", 1, 0, 1));
        tell(&mut map, 1, "db", listens("10.0.0.5:80", 2, 1, true));
        tell(&mut map, 1, "sidecar", listens("0.0.0.0:90", 1, 2, true));
        let servers = |map: &Dependencies| -> Vec<Option<String>> {
            map.list().into_iter().map(|edge| edge.server).collect()
        };
        assert_eq!(servers(&map), [Some("db".to_owned()), Some("sidecar".to_owned())]);
        tell(&mut map, 2, "db", listens("10.0.0.5:80", 2, 1, false));
        tell(&mut map, 2, "other", listens("10.0.0.5:80", 3, 3, true));
        assert_eq!(servers(&map)[0].as_deref(), Some("other"));
    }

    #[test]
    fn what_a_policy_says_is_shown_beside_what_is_seen() {
        let mut map = Dependencies::default();
        let declared = |service: &str, port, server: Option<&str>| Declared {
            workload: WorkloadKey("api".to_owned()),
            on: DependsOn { service: service.to_owned(), port },
            server: server.map(|key| WorkloadKey(key.to_owned())),
        };
        map.declare(vec![
            declared("db", Some(80), Some("unit/db.service")),
            declared("shop/cart", None, None),
        ]);
        let shown = |map: &Dependencies| -> Vec<(String, &'static str, bool)> {
            map.list().into_iter().map(|edge| (edge.peer, edge.state.name(), edge.declared)).collect()
        };
        assert_eq!(shown(&map), [("db:80".into(), "declared", true), ("shop/cart".into(), "declared", true)]);
        tell(&mut map, 1, "api", counts("10.0.0.5:80", 1, 0, 1));
        tell(&mut map, 1, "unit/db.service", listens("10.0.0.5:80", 2, 1, true));
        assert_eq!(shown(&map), [("10.0.0.5:80".into(), "ok", true), ("shop/cart".into(), "declared", true)]);
    }

    #[test]
    fn an_edge_has_the_round_trip_of_its_own_namespace() {
        let mut map = Dependencies::default();
        tell(&mut map, 1, "api", counts("10.0.0.5:80", 1, 0, 1));
        let trip = |netns, us| RoundTrip { netns, peer: "10.0.0.5:80".parse().unwrap(), us };
        let fact =
            Fact::Flows(FlowSnapshot { trips: vec![trip(1, 900), trip(2, 7)], ..FlowSnapshot::default() });
        map.follow(&Signal { at: BootTime(1), process: None, fact });
        assert_eq!(map.list()[0].rtt_us, Some(900));
        tell(&mut map, 1 + 901, "web", counts("10.0.0.6:80", 1, 0, 902));
        assert!(map.list()[0].rtt_us.is_none() && map.trips.is_empty(), "it went with its edge");
    }

    #[test]
    fn behind_nat_the_other_end_of_the_connection_says_who_serves() {
        let mut map = Dependencies::default();
        tell(&mut map, 1, "api", counts("10.96.0.1:80", 1, 0, 1));
        let server = Process { workload: WorkloadKey("db".to_owned()), ..Process::default() };
        let (peer, address) = ("10.96.0.1:80".parse().unwrap(), "10.0.0.7:8080".parse().unwrap());
        let served = vec![Served { netns: 1, peer, address, server }];
        let fact = Fact::Flows(FlowSnapshot { served, ..FlowSnapshot::default() });
        map.follow(&Signal { at: BootTime(1), process: None, fact });
        assert_eq!(map.list()[0].server.as_deref(), Some("db"));
    }
}
