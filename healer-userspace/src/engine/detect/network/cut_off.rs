//! Who is cut off, how far that reaches, and when it is over.

use core::time::Duration;

use super::{
    CAUSE_COMES_WITHIN, Context, Finding, Network, STAYS_WELL, UNTRIED, Who,
    client::{Client, Isolated, Verdict, earliest},
    links::{Cause, Way},
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
}

impl CutOff {
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
            let said = self.isolated.get(who).map(|said| &said.isolated);
            if !said.is_some_and(|said| !said.is_doubtful || isolated.is_doubtful) {
                self.cut_off(context, who, isolated, found);
            }
            let untried = self.clients.get(who).map(|client| client.untried_for(UNTRIED));
            self.due = earliest(self.due, untried.filter(|at| now < *at));
            return;
        }
        let Some(since) = self.isolated.get(who).map(|said| said.since) else {
            return;
        };
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        let is_untried = client.peers.values().all(|peer| UNTRIED < now.since(peer.last_seen));
        match client.well_after(since) {
            Some(ok) if ok + STAYS_CONNECTED <= now => {
                client.calm_down(now);
                self.isolated.remove(who);
                found.push(words::connected(who, "its peers answer again"));
                self.due = earliest(self.due, Some(now + STAYS_WELL));
            }
            Some(ok) => self.due = earliest(self.due, Some(ok + STAYS_CONNECTED)),
            None if is_untried => {
                self.isolated.remove(who);
                found.push(words::connected(who, "it has not tried any peer for ten minutes"));
            }
            None => self.due = earliest(self.due, Some(client.untried_for(UNTRIED))),
        }
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
        let said = CutOff {
            since: self.isolated.get(who).map_or(now, |said| said.since),
            isolated: isolated.clone(),
            scope: self.scope(who, isolated, now),
            cause,
            evidence: words::of_the_lost(client, isolated),
        };
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

    /// The node is cut off once everybody on it is who has peers elsewhere, as surely as it is said.
    fn scope(&self, who: &Who, isolated: &Isolated, now: BootTime) -> Scope {
        let others = || {
            let all = self.clients.iter();
            all.filter(move |(other, client)| *other != who && votes(client, now))
        };
        let in_it = |(other, client): (&Who, &Client)| {
            other.1 == who.1 && client.well_after(isolated.since).is_some()
        };
        if others().any(in_it) {
            return Scope::Workload;
        }
        let is_as_sure = |said: &CutOff| said.is_as_sure_as(isolated);
        let all = others().all(|(other, _)| self.isolated.get(other).is_some_and(is_as_sure));
        let elsewhere = others().any(|(other, _)| other.1 != who.1);
        if all && elsewhere { Scope::Node } else { Scope::Netns }
    }

    /// Of whom it was said that the whole node is cut off, that is said anew once `who` reaches somebody, or once
    /// nobody is cut off in another namespace as surely: all others are held by it.
    pub(super) fn narrow(&mut self, context: &Context<'_>, who: &Who, found: &mut Vec<Finding>) {
        let is_of_node = |(_, said): &(&Who, &CutOff)| said.scope == Scope::Node;
        if !self.isolated.iter().any(|one| is_of_node(&one)) {
            return;
        }
        let client = self.clients.get(who).filter(|_| !self.isolated.contains_key(who));
        let connected = client.filter(|client| votes(client, context.now));
        let narrower = |other: &Who, said: &CutOff| {
            let is_reached = connected.is_some_and(|client| client.well_after(said.since).is_some());
            let is_with_it =
                |(one, found): (&Who, &CutOff)| one.1 != other.1 && found.is_as_sure_as(&said.isolated);
            let is_alone = || !self.isolated.iter().any(is_with_it);
            match is_reached {
                true if who.1 == other.1 => Some(Scope::Workload),
                true => Some(Scope::Netns),
                false => is_alone().then_some(Scope::Netns),
            }
        };
        let of_node = self.isolated.iter().filter(is_of_node);
        let all: Vec<(Who, Scope)> =
            of_node.filter_map(|(other, said)| Some((other.clone(), narrower(other, said)?))).collect();
        for (other, scope) in all {
            let Some(said) = self.isolated.get_mut(&other) else { continue };
            said.scope = scope;
            if let Some(client) = self.clients.get(&other) {
                found.push(words::isolation(context, &other, client, said));
            }
        }
    }
}

/// Who is, and has peers elsewhere.
fn votes(client: &Client, now: BootTime) -> bool {
    client.ended.is_none() && client.has_voters(now)
}
