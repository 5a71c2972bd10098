//! Who is cut off, how far that reaches, and when it is over.

use core::{net::SocketAddr, time::Duration};

use super::{
    CAUSE_COMES_WITHIN, Context, Finding, Network, STAYS_WELL, UNTRIED, Who,
    client::{Client, Isolated, Verdict, earliest},
    links::{Cause, Way},
    suffering::is_on_this_node,
    words::{self, Scope},
};
use crate::engine::{diagnosis::Evidence, time::BootTime};

/// Who was cut off must be reached for so long.
const STAYS_CONNECTED: Duration = Duration::from_secs(2);

/// What was said of one client: others may show later that it reaches less far, when it has long ceased to ask.
pub(super) struct CutOff {
    pub(super) since: BootTime,
    pub(super) isolated: Isolated,
    pub(super) scope: Scope,
    pub(super) cause: Option<Cause>,
    pub(super) evidence: Vec<Evidence>,
    /// All that are lost are on this node.
    pub(super) is_within: bool,
    /// Since when somebody answers who shows that it is over.
    connected: Option<BootTime>,
}

impl CutOff {
    /// Whoever is on this node is reached without the way out of it.
    fn is_reached_by(&self, context: &Context<'_>, netns: u32, at: &SocketAddr) -> bool {
        self.is_within || !is_on_this_node(context, netns, at)
    }

    /// Of those who were lost, whoever answers again shows that it is over, wherever it is.
    fn is_ended_by(&self, context: &Context<'_>, netns: u32, at: &SocketAddr) -> bool {
        self.isolated.peers.contains(at) || self.is_reached_by(context, netns, at)
    }

    fn is_as_sure_as(&self, other: &Isolated) -> bool {
        other.is_doubtful || !self.isolated.is_doubtful
    }
}

impl Network {
    pub(super) fn isolation(
        &mut self,
        context: &Context<'_>,
        who: &Who,
        verdict: &Verdict,
        found: &mut Vec<Finding>,
    ) {
        let now = context.now;
        if let Some(isolated) = &verdict.isolated {
            if let Some(said) = self.isolated.get_mut(who) {
                said.connected = None;
            }
            let said = self.isolated.get(who).map(|said| &said.isolated);
            if !said.is_some_and(|said| !said.is_doubtful || isolated.is_doubtful) {
                self.cut_off(context, who, isolated, found);
            }
            let untried = self.untried_at(context, who).filter(|at| now < *at);
            self.due = earliest(self.due, untried);
            return;
        }
        self.is_it_over(context, who, verdict, found);
    }

    fn is_it_over(&mut self, context: &Context<'_>, who: &Who, verdict: &Verdict, found: &mut Vec<Finding>) {
        let now = context.now;
        match self.connected_since(context, who, verdict) {
            Some((ok, why)) if ok + STAYS_CONNECTED <= now => {
                if let Some(client) = self.clients.get_mut(who) {
                    client.calm_down(now);
                }
                self.is_over(who, why, found);
                self.due = earliest(self.due, Some(now + STAYS_WELL));
            }
            Some((ok, _)) => self.due = earliest(self.due, Some(ok + STAYS_CONNECTED)),
            None => self.is_it_untried(context, who, found),
        }
    }

    /// And why that shows that it is over. Whoever answers on this node counts too once it is known that the way out of it
    /// is there.
    fn connected_since(
        &mut self,
        context: &Context<'_>,
        who: &Who,
        verdict: &Verdict,
    ) -> Option<(BootTime, &'static str)> {
        let (said, client) = self.isolated.get(who).zip(self.clients.get(who))?;
        let is_kept_here = || {
            said.isolated.peers.iter().any(|at| verdict.down.get(at).is_some_and(|(down, _)| down.is_local))
        };
        let are_gone = || !is_kept_here() && self.are_the_lost_gone(context, who, said);
        let its_own = client.well_after(said.since, |at| said.is_ended_by(context, who.1, at));
        let (ok, why) = match its_own {
            Some(ok) => (Some(ok), "its peers answer again"),
            None => (
                client.well_after(said.since, |_| true).filter(|_| are_gone()),
                "others on this node reach what is outside, and nobody reaches those who are lost",
            ),
        };
        let said = self.isolated.get_mut(who)?;
        said.connected = ok.map(|ok| said.connected.map_or(ok, |before| before.min(ok)));
        Some((said.connected?, why))
    }

    fn is_it_untried(&mut self, context: &Context<'_>, who: &Who, found: &mut Vec<Finding>) {
        let now = context.now;
        let Some(at) = self.untried_at(context, who) else { return };
        if now < at {
            self.due = earliest(self.due, Some(at));
            return;
        }
        let is_any_tried =
            self.clients.get(who).is_some_and(|client| now < client.untried_for(UNTRIED, |_| true));
        let why = match is_any_tried {
            true => "it has not tried any peer outside this node for ten minutes",
            false => "it has not tried any peer for ten minutes",
        };
        self.is_over(who, why, found);
    }

    /// When it has asked nobody for so long who is reached by what is lost, if it asks nobody.
    fn untried_at(&self, context: &Context<'_>, who: &Who) -> Option<BootTime> {
        let (said, client) = self.isolated.get(who).zip(self.clients.get(who))?;
        let counts = |at: &SocketAddr| !at.ip().is_loopback() && said.is_reached_by(context, who.1, at);
        Some(client.untried_for(UNTRIED, counts))
    }

    fn is_over(&mut self, who: &Who, why: &str, found: &mut Vec<Finding>) {
        self.isolated.remove(who);
        found.push(words::connected(who, why));
    }

    fn cut_off(&mut self, context: &Context<'_>, who: &Who, isolated: &Isolated, found: &mut Vec<Finding>) {
        let now = context.now;
        let is_disproved = |way, changed: BootTime| {
            let since = changed.clamp(isolated.since, isolated.last_lost);
            self.were_reached_after(who, &isolated.peers, changed)
                || way == Way::Link && self.is_another_reached(context, who.1, &isolated.peers, since)
        };
        let cause = self.links.cause(who.1, isolated.since, &isolated.peers, is_disproved);
        let told_by = isolated.since + CAUSE_COMES_WITHIN;
        if cause.is_none() && !isolated.needs_no_cause && now < told_by {
            self.due = earliest(self.due, Some(told_by));
            return;
        }
        let Some(client) = self.clients.get(who) else {
            return;
        };
        let mut said = CutOff {
            since: self.isolated.get(who).map_or(now, |said| said.since),
            isolated: isolated.clone(),
            scope: Scope::Netns,
            cause,
            evidence: words::of_the_lost(client, isolated),
            is_within: isolated.peers.iter().all(|at| is_on_this_node(context, who.1, at)),
            connected: None,
        };
        said.scope = self.scope(context, who, &said);
        let says = words::isolation(context, who, client, &said);
        self.isolated.insert(who.clone(), said);
        self.take_back(who, found);
        found.push(says);
    }

    /// What was said of single peers is part of the isolation.
    fn take_back(&mut self, who: &Who, found: &mut Vec<Finding>) {
        for (key, _) in self.down.extract_if(.., |(whose, _), _| whose == who) {
            found.push(words::answers(&key, "none of its peers answers: it is cut off itself"));
        }
    }

    /// The node is cut off once everybody on it is who has peers elsewhere, and one in another namespace as surely as
    /// it is said.
    fn scope(&self, context: &Context<'_>, who: &Who, said: &CutOff) -> Scope {
        let others = || self.clients.iter().filter(move |(other, _)| *other != who);
        let votes = |other: &Who, client: &Client| {
            let counts = |at: &SocketAddr| said.is_reached_by(context, other.1, at);
            client.ended.is_none() && client.has_voters(context.now, counts)
        };
        let is_well = |(other, client): (&Who, &Client)| {
            let counts = |at: &SocketAddr| said.is_reached_by(context, other.1, at);
            other.1 == who.1
                && client.well_after(said.isolated.since, counts).is_some()
                && votes(other, client)
        };
        if others().any(is_well) {
            return Scope::Workload;
        }
        let is_lost =
            |other: &Who| self.isolated.get(other).is_some_and(|one| one.is_as_sure_as(&said.isolated));
        let is_with_it =
            |(other, client): (&Who, &Client)| other.1 != who.1 && is_lost(other) && votes(other, client);
        let all = others().all(|(other, client)| self.isolated.contains_key(other) || !votes(other, client));
        if all && others().any(is_with_it) { Scope::Node } else { Scope::Netns }
    }

    /// Of whom it was said that the whole node is cut off, that is said anew once `who` reaches somebody, or once
    /// nobody is cut off in another namespace as surely: all others are held by it.
    pub(super) fn narrow(&mut self, context: &Context<'_>, who: &Who, found: &mut Vec<Finding>) {
        let of_node = || self.isolated.iter().filter(|(_, said)| said.scope == Scope::Node);
        let Some(since) = of_node().map(|(_, said)| said.since).min() else {
            return;
        };
        let is_elsewhere = |at: &SocketAddr| !is_on_this_node(context, who.1, at);
        let anybody = self.reached_last(context, who, since, |_| true);
        let elsewhere = anybody.and_then(|_| self.reached_last(context, who, since, is_elsewhere));
        let narrower = |other: &Who, said: &CutOff| {
            let last = if said.is_within { anybody } else { elsewhere };
            match Some(said.since) < last {
                true if who.1 == other.1 => Some(Scope::Workload),
                true => Some(Scope::Netns),
                false => self.is_alone(other, said).then_some(Scope::Netns),
            }
        };
        let all: Vec<(Who, Scope)> =
            of_node().filter_map(|(other, said)| Some((other.clone(), narrower(other, said)?))).collect();
        for (other, scope) in all {
            let Some(said) = self.isolated.get_mut(&other) else { continue };
            said.scope = scope;
            if let Some(client) = self.clients.get(&other) {
                found.push(words::narrower(context, &other, client, said));
            }
        }
    }

    /// When somebody who counts answered one last who is not cut off.
    fn reached_last(
        &self,
        context: &Context<'_>,
        who: &Who,
        since: BootTime,
        counts: impl Fn(&SocketAddr) -> bool + Copy,
    ) -> Option<BootTime> {
        let client = self.clients.get(who).filter(|client| client.ended.is_none())?;
        if self.isolated.contains_key(who) {
            return None;
        }
        client.well_last(since, counts).filter(|_| client.has_voters(context.now, counts))
    }

    fn is_alone(&self, who: &Who, said: &CutOff) -> bool {
        let is_with_it =
            |(other, one): (&Who, &CutOff)| other.1 != who.1 && one.is_as_sure_as(&said.isolated);
        !self.isolated.iter().any(is_with_it)
    }
}
