//! Several who suffer from one peer: then it is the peer.

use core::{cell::OnceCell, net::SocketAddr, time::Duration};
use std::collections::{BTreeMap, BTreeSet};

use super::{
    Context, Network, Who,
    client::Surety,
    cut_off::CutOff,
    links::{Cause, Way},
    peer::{Down, Peer},
    words::Scope,
};
use crate::engine::time::BootTime;

/// What was sent before something went takes so long at most to arrive, and to be counted.
pub(super) const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// By network namespace and address.
pub(super) type Answers = BTreeMap<(u32, SocketAddr), Answer>;

#[derive(Default)]
pub(super) struct Answer {
    last: BootTime,
    is_on_this_node: OnceCell<bool>,
}

impl Answer {
    fn is_here(&self, context: &Context<'_>, (netns, at): &(u32, SocketAddr)) -> bool {
        *self.is_on_this_node.get_or_init(|| is_on_this_node(context, *netns, at))
    }
}

impl Network {
    /// Workloads for which this peer is down already.
    pub(super) fn suffering(&self, (who, address): &(Who, SocketAddr)) -> usize {
        let others = self.down.keys().filter(|(other, at)| at == address && other.0 != who.0);
        others.map(|(other, _)| &other.0).collect::<BTreeSet<_>>().len()
    }

    /// Has another peer of whoever lives in that namespace answered since? One on this node counts only if all that
    /// are lost are on it too.
    pub(super) fn is_another_reached(
        &self,
        context: &Context<'_>,
        netns: u32,
        lost: &[SocketAddr],
        since: BootTime,
    ) -> bool {
        let is_here = |at: &SocketAddr| is_on_this_node(context, netns, at);
        // Dear: all listeners of the node are gone through for each address.
        let need_no_way_out = OnceCell::new();
        let counts = |at: &SocketAddr, peer: &Peer| {
            let is_another = !lost.contains(at) && !at.ip().is_loopback();
            let has_answered = is_another && peer.answered_since(since);
            has_answered && (*need_no_way_out.get_or_init(|| lost.iter().all(is_here)) || !is_here(at))
        };
        let mut clients = self.clients.iter().filter(|(who, _)| who.1 == netns);
        clients.any(|(_, client)| client.peers.iter().any(|(at, peer)| counts(at, peer)))
    }

    /// They did without it, for longer than what was on its way then takes.
    pub(super) fn were_reached_after(&self, who: &Who, lost: &[SocketAddr], changed: BootTime) -> bool {
        let peers = self.clients.get(who).into_iter().flat_map(|client| &client.peers);
        let mut of_lost = peers.filter(|(at, _)| lost.contains(at));
        of_lost.any(|(_, peer)| peer.answered_since(changed + ON_ITS_WAY))
    }

    /// Why this one peer is out of reach. To one that was reached no link is missing.
    pub(super) fn cause_of(
        &self,
        context: &Context<'_>,
        (who, address): &(Who, SocketAddr),
        down: &Down,
    ) -> Option<Cause> {
        if down.kind.was_reached() || address.ip().is_loopback() {
            return None;
        }
        let lost = [*address];
        let is_disproved = |way, changed| {
            self.were_reached_after(who, &lost, changed)
                || way == Way::Link && self.is_another_reached(context, who.1, &lost, down.since)
        };
        self.links.cause(who.1, down.since, &lost, is_disproved)
    }

    /// Who has no other peer may be cut off instead, and all of them by the node's own way out: somebody has to reach
    /// somebody.
    pub(super) fn blames_the_peer(
        &self,
        context: &Context<'_>,
        key: &(Who, SocketAddr),
        since: BootTime,
        surety: Surety,
    ) -> bool {
        let is_alike = || 0 < self.suffering(key) && self.isolated.is_empty();
        surety == Surety::OnlyPeer && is_alike() && self.is_anybody_reached(context, key, since)
    }

    fn is_anybody_reached(
        &self,
        context: &Context<'_>,
        (who, address): &(Who, SocketAddr),
        since: BootTime,
    ) -> bool {
        let needs_no_way_out = is_on_this_node(context, who.1, address);
        let counts = |place: &(u32, SocketAddr), answer: &Answer| {
            let is_another = place.1.ip() != address.ip() && since < answer.last;
            is_another && (needs_no_way_out || !answer.is_here(context, place))
        };
        let all = self.answers.get_or_init(|| self.last_answers());
        all.iter().any(|(key, answer)| counts(key, answer))
    }

    /// Since it was said, somebody on this node reaches others outside of it, and nobody in another namespace those who
    /// are lost: it is they who are gone, and not the way to them.
    pub(super) fn are_the_lost_gone(&self, context: &Context<'_>, who: &Who, said: &CutOff) -> bool {
        let lost = &said.isolated.peers;
        let since = said.isolated.since;
        let is_without_way = |at: &SocketAddr| self.links.is_without_way_out(who.1, at.is_ipv6(), since);
        // Whoever reaches what is outside of a node that is cut off takes that back first.
        if said.scope == Scope::Node || lost.iter().any(is_without_way) {
            return false;
        }
        let is_lost = |(netns, at): &(u32, SocketAddr), answer: &Answer| {
            *netns != who.1 && said.isolated.last_lost < answer.last && lost.contains(at)
        };
        let is_outside = |place: &(u32, SocketAddr), answer: &Answer| {
            let is_another = said.since < answer.last && lost.iter().all(|one| one.ip() != place.1.ip());
            is_another && !answer.is_here(context, place)
        };
        let all = self.answers.get_or_init(|| self.last_answers());
        !all.iter().any(|(place, answer)| is_lost(place, answer))
            && all.iter().any(|(place, answer)| is_outside(place, answer))
    }

    fn last_answers(&self) -> Answers {
        let mut all = Answers::new();
        for ((_, netns), client) in &self.clients {
            for (at, peer) in client.peers.iter().filter(|(at, _)| !at.ip().is_loopback()) {
                if let Some(last) = peer.last_answer() {
                    let known = all.entry((*netns, *at)).or_default();
                    known.last = known.last.max(last);
                }
            }
        }
        all
    }
}

/// Who is, is reached without the node's way out.
pub(super) fn is_on_this_node(context: &Context<'_>, netns: u32, at: &SocketAddr) -> bool {
    at.ip().is_loopback() || context.world.topology().server(netns, at).is_some()
}
