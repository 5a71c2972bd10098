//! This machine knows no way: counted per network namespace, and told by the calls that failed of it.

use core::{cell::OnceCell, net::SocketAddr, time::Duration};
use std::collections::{BTreeMap, BTreeSet};

use super::{
    Context, Finding, Network, Who,
    client::Client,
    links::Prefix,
    peer::Peer,
    suffering::{ON_ITS_WAY, is_on_this_node},
};
use crate::{engine::time::BootTime, identity::process::Process, signal::network::NoRoute};

/// Whoever asks again within it goes on with what it did before: NTP polls every 1024 seconds by default (RFC 5905,
/// `maxpoll` 10).
const PAUSE: Duration = Duration::from_secs(1200);

/// It is counted, and read every three seconds where nobody is in trouble; of many namespaces only some at a time.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// What a client did in a longer time before, who knows.
const READ_WITHIN_MOST: Duration = Duration::from_secs(30);

/// By namespace and family.
#[derive(Debug, Default)]
pub(super) struct Runs(BTreeMap<(u32, bool), Run>);

/// Something finds no route, without a longer pause.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// When that was first read.
    began: BootTime,
    /// It may have begun so much earlier.
    read_within: Duration,
    last: BootTime,
}

impl Run {
    fn first(at: BootTime, no_route: &NoRoute) -> Self {
        let since = no_route.since.map(|since| at.since(since));
        let read_within = since.unwrap_or_default().clamp(READ_WITHIN, READ_WITHIN_MOST);
        Self { began: at, read_within, last: at }
    }

    /// When it began at the earliest: if a way out was lost since, not before that was told.
    fn earliest(self, lost: Option<BootTime>) -> BootTime {
        let unread = self.began - self.read_within;
        lost.map_or(unread, |lost| unread.max(lost - READ_WITHIN))
    }
}

impl Runs {
    fn note(&mut self, at: BootTime, is_v6: bool, no_route: &NoRoute) -> Run {
        self.0.retain(|_, run| at.since(run.last) < PAUSE);
        let run = self.0.entry((no_route.netns, is_v6)).or_insert_with(|| Run::first(at, no_route));
        run.last = at;
        *run
    }

    /// Nobody lives there any more.
    pub(super) fn forget(&mut self, netns: u32) {
        self.0.retain(|(place, _), _| *place != netns);
    }
}

/// What the kernel has said of links and routes.
struct Told {
    link_down: Option<BootTime>,
    lost_ways: Vec<Prefix>,
}

impl Told {
    /// Who was reached since the link is down is so by another one.
    fn says_of(&self, address: &SocketAddr, peer: &Peer) -> bool {
        self.link_down.is_some_and(|down| !peer.answered_since(down)) || self.is_way_lost(address)
    }

    fn is_way_lost(&self, address: &SocketAddr) -> bool {
        self.lost_ways.iter().any(|way| way.holds(address.ip()))
    }
}

impl Network {
    pub(super) fn no_route(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        no_route: &NoRoute,
        found: &mut Vec<Finding>,
    ) {
        let here: Vec<Who> = self.clients.keys().filter(|who| who.1 == no_route.netns).cloned().collect();
        for (is_v6, count) in [(false, no_route.v4), (true, no_route.v6)] {
            if count != 0 {
                self.no_route_by(context, at, (no_route, is_v6), &here);
            }
        }
        for who in here {
            self.look(context, &who, found);
        }
    }

    /// Nobody says for whom there was none. It speaks against the peers of all who live there, unless somebody is
    /// reached by the same family: but only of clients that were asking when it began and have heard of nobody since,
    /// for somebody else may ask in vain for ever. Whoever is on this node is reached without the way out of it.
    fn no_route_by(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        (no_route, is_v6): (&NoRoute, bool),
        here: &[Who],
    ) {
        let netns = no_route.netns;
        let of_it = |address: &SocketAddr| address.is_ipv6() == is_v6 && !address.ip().is_loopback();
        let reached = self.reached_just_now(at, here, of_it);
        let lost = self.links.way_out_lost(netns, is_v6);
        let run = self.runs.note(at, is_v6, no_route);
        let (earliest, began) = (run.earliest(lost), run.began.max(lost.unwrap_or_default()));
        let link_down = self.links.down_since(netns, at).filter(|_| reached.is_empty());
        let told = Told { link_down, lost_ways: self.links.lost_ways(netns) };
        let is_here = |address: &SocketAddr| is_on_this_node(context, netns, address);
        let away = OnceCell::new();
        let is_away_reached = || *away.get_or_init(|| !reached.iter().all(is_here));
        for who in here {
            let Some(client) = self.clients.get_mut(who) else { continue };
            let missed = addresses(client, |address, peer| {
                of_it(address) && peer.is_missed(at, earliest, told.says_of(address, peer))
            });
            let heard =
                addresses(client, |address, peer| of_it(address) && peer.answered_since(began + ON_ITS_WAY));
            let is_anybody = !reached.is_empty() || !heard.is_empty();
            // If others are reached, it is meant for those whose own route is gone.
            let is_disproved =
                || missed.iter().all(is_here) || is_away_reached() || !heard.iter().all(is_here);
            let is_nobodys = || is_anybody && is_disproved();
            let may_be_its = !missed.is_empty() && !is_nobodys();
            for (address, peer) in client.peers.iter_mut().filter(|(address, _)| of_it(address)) {
                if may_be_its || peer.had_no_way(at) || told.is_way_lost(address) {
                    peer.no_route(at, told.says_of(address, peer));
                }
            }
        }
    }

    fn reached_just_now(
        &self,
        at: BootTime,
        here: &[Who],
        counts: impl Fn(&SocketAddr) -> bool,
    ) -> BTreeSet<SocketAddr> {
        const JUST_NOW: Duration = Duration::from_secs(1);
        let clients = here.iter().filter_map(|who| self.clients.get(who));
        let just_now = |address: &SocketAddr, peer: &Peer| {
            counts(address) && peer.last_answer().is_some_and(|ok| at.since(ok) < JUST_NOW)
        };
        clients.flat_map(|client| addresses(client, just_now)).collect()
    }

    /// The call names the peer, and its process the client; peers that nobody knows are none.
    pub(super) fn no_way(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        process: &Process,
        address: Option<SocketAddr>,
        found: &mut Vec<Finding>,
    ) {
        let Some(address) = address.filter(|address| !address.ip().is_loopback()) else { return };
        let mut asked = Vec::new();
        for (who, client) in self.clients.iter_mut().filter(|(who, _)| who.0 == process.workload) {
            if let Some(peer) = client.peers.get_mut(&address) {
                peer.no_way(at);
                asked.push(who.clone());
            }
        }
        for who in asked {
            self.look(context, &who, found);
        }
    }
}

fn addresses(client: &Client, counts: impl Fn(&SocketAddr, &Peer) -> bool) -> Vec<SocketAddr> {
    client.peers.iter().filter(|(address, peer)| counts(address, peer)).map(|(address, _)| *address).collect()
}
