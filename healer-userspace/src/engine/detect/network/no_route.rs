//! This machine knows no way: counted per network namespace, and told by the calls that failed of it.

use core::{net::SocketAddr, time::Duration};

use super::{Context, Finding, Network, Who, client::Client};
use crate::{engine::time::BootTime, identity::process::Process, signal::network::NoRoute};

impl Network {
    /// It speaks against the peers of all who live there, unless one of them was reached by the same family.
    pub(super) fn no_route(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        no_route: &NoRoute,
        found: &mut Vec<Finding>,
    ) {
        const JUST_NOW: Duration = Duration::from_secs(1);
        let is_meant = |address: &SocketAddr| {
            let count = if address.is_ipv4() { no_route.v4 } else { no_route.v6 };
            count != 0 && !address.ip().is_loopback()
        };
        let here: Vec<Who> = self.clients.keys().filter(|who| who.1 == no_route.netns).cloned().collect();
        for family in [false, true] {
            let of_it = |address: &SocketAddr| address.is_ipv6() == family && is_meant(address);
            let reached = |client: &Client| {
                let mut peers = client.peers.iter().filter(|(address, _)| of_it(address));
                peers.any(|(_, peer)| peer.last_answer().is_some_and(|ok| at.since(ok) < JUST_NOW))
            };
            // If others are reached, it is meant for those whose own route is gone.
            let is_partial = here.iter().filter_map(|who| self.clients.get(who)).any(reached);
            let (links, netns) = (&self.links, no_route.netns);
            let link_down = links.down_since(netns, at).filter(|_| !is_partial);
            for who in &here {
                let Some(client) = self.clients.get_mut(who) else { continue };
                for (address, peer) in client.peers.iter_mut().filter(|(address, _)| of_it(address)) {
                    let is_cut = links.cuts_off(netns, address.ip());
                    // Who was reached meanwhile is so by another link.
                    let is_told = is_cut || link_down.is_some_and(|down| !peer.answered_since(down));
                    if !is_partial || is_cut || peer.had_no_way(at) {
                        peer.no_route(at, is_told);
                    }
                }
            }
        }
        for who in here {
            self.look(context, &who, found);
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
