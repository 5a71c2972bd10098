//! This machine knows no way: counted per network namespace, and told by the calls that failed of it.

use core::{net::SocketAddr, time::Duration};
use std::collections::BTreeMap;

use super::{Context, Finding, Network, Who, client::Client, peer::Peer, suffering::ON_ITS_WAY};
use crate::{engine::time::BootTime, identity::process::Process, signal::network::NoRoute};

/// Whoever asks again within it goes on with what it did before: NTP polls every 1024 seconds by default (RFC 5905,
/// `maxpoll` 10).
const PAUSE: Duration = Duration::from_secs(1200);

/// Since when something in a namespace finds no route by a family, without a longer pause, and when it did last.
#[derive(Debug, Default)]
pub(super) struct Runs(BTreeMap<(u32, bool), (BootTime, BootTime)>);

impl Runs {
    fn note(&mut self, at: BootTime, place: (u32, bool)) -> BootTime {
        self.0.retain(|_, (_, last)| at.since(*last) < PAUSE);
        let (began, last) = self.0.entry(place).or_insert((at, at));
        *last = at;
        *began
    }

    /// Nobody lives there any more.
    pub(super) fn forget(&mut self, netns: u32) {
        self.0.retain(|(place, _), _| *place != netns);
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
                self.no_route_by(at, (no_route.netns, is_v6), &here);
            }
        }
        for who in here {
            self.look(context, &who, found);
        }
    }

    /// Nobody says for whom there was none. It speaks against the peers of all who live there, unless somebody is
    /// reached by the same family: but only of clients that were asking when it began and have heard of nobody since,
    /// for somebody else may ask in vain for ever.
    fn no_route_by(&mut self, at: BootTime, (netns, is_v6): (u32, bool), here: &[Who]) {
        const JUST_NOW: Duration = Duration::from_secs(1);
        let of_it = |address: &SocketAddr| address.is_ipv6() == is_v6 && !address.ip().is_loopback();
        let reached = |client: &Client| {
            let mut peers = client.peers.iter().filter(|(address, _)| of_it(address));
            peers.any(|(_, peer)| peer.last_answer().is_some_and(|ok| at.since(ok) < JUST_NOW))
        };
        // If others are reached, it is meant for those whose own route is gone.
        let is_partial = here.iter().filter_map(|who| self.clients.get(who)).any(reached);
        let lost = self.links.way_out_lost(netns, is_v6);
        let began = self.runs.note(at, (netns, is_v6)).max(lost.unwrap_or_default());
        let link_down = self.links.down_since(netns, at).filter(|_| !is_partial);
        let lost_ways = self.links.lost_ways(netns);
        let is_way_lost = |address: &SocketAddr| lost_ways.iter().any(|way| way.holds(address.ip()));
        // Who was reached meanwhile is so by another link.
        let is_told = |address: &SocketAddr, peer: &Peer| {
            link_down.is_some_and(|down| !peer.answered_since(down)) || is_way_lost(address)
        };
        for who in here {
            let Some(client) = self.clients.get_mut(who) else { continue };
            let asks = |(address, peer): (&SocketAddr, &Peer)| {
                of_it(address) && peer.is_missed(at, began, is_told(address, peer))
            };
            let heard = |(address, peer): (&SocketAddr, &Peer)| {
                of_it(address) && peer.answered_since(began + ON_ITS_WAY)
            };
            let may_be_its = !is_partial && client.peers.iter().any(asks) && !client.peers.iter().any(heard);
            for (address, peer) in client.peers.iter_mut().filter(|(address, _)| of_it(address)) {
                if may_be_its || peer.had_no_way(at) || is_way_lost(address) {
                    peer.no_route(at, is_told(address, peer));
                }
            }
        }
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
