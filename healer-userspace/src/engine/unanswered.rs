//! Peers that have not answered somebody yet: too little for a verdict, and enough to wait for one. That a peer is
//! silent is known some ten seconds after the client that it makes sick.

use core::{net::SocketAddr, time::Duration};
use std::collections::BTreeMap;

use super::{
    Engine,
    incident::{Incident, Plan},
    time::{BootTime, Human},
};
use crate::{
    identity::process::{Process, WorkloadKey},
    signal::{
        Fact, Signal,
        network::{ConnectionFailed, FailureCause, Moved, Retransmitted, Stall},
    },
    text,
};

const CLIENTS_MAX: usize = 1024;
const PEERS_MAX: usize = 64;
/// Nothing was heard of it for so long: it is over. The kernel asks again after 1, 2, 4 and 8 seconds (RFC 6298).
const LASTS: Duration = Duration::from_secs(15);
/// What was over before is of use no longer.
const REMEMBERED: Duration = Duration::from_secs(60);
/// What has gone on for longer before somebody failed is not why it failed just then.
const AROUND: Duration = Duration::from_secs(30);
/// By then it is known whether a peer is silent or frozen.
const DECIDED_WITHIN: Duration = Duration::from_secs(12);
/// Who gives up sooner says nothing of its peer.
const HASTY_US: u64 = 100_000;

/// An address as one network namespace knows it.
type At = (u32, SocketAddr);

#[derive(Debug, Default)]
pub(super) struct Unanswered {
    clients: BTreeMap<WorkloadKey, BTreeMap<At, Known>>,
}

/// Of one peer.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    answered: Option<BootTime>,
    silent: Option<Silence>,
    /// Its kernel takes connections all the same: that one was made is no answer.
    reads_nothing: Option<Silence>,
}

#[derive(Clone, Copy, Debug)]
struct Silence {
    since: BootTime,
    /// Told of last.
    last: BootTime,
}

/// What an act has to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    pub until: BootTime,
    pub says: String,
}

impl Silence {
    fn is_answered(&self, answered: Option<BootTime>) -> bool {
        answered.is_some_and(|ok| self.since <= ok)
    }

    fn lasts(&self, now: BootTime) -> bool {
        now.since(self.last) < LASTS
    }
}

impl Known {
    fn answers(&mut self, at: Option<BootTime>) {
        self.answered = self.answered.max(at);
    }

    fn is_silent(&mut self, at: BootTime, since: BootTime, reads_nothing: bool) {
        let answered = self.answered.filter(|_| !reads_nothing);
        let silence = if reads_nothing { &mut self.reads_nothing } else { &mut self.silent };
        // One connection that is dead beside others that are made is no silence of the peer's.
        if answered.is_some_and(|ok| since <= ok) {
            return;
        }
        let before = silence.filter(|before| before.lasts(at) && !before.is_answered(answered));
        *silence = Some(Silence { since: before.map_or(since, |before| before.since.min(since)), last: at });
    }

    /// Since when, if that began at `from` or later.
    fn pending(&self, now: BootTime, from: BootTime) -> Option<BootTime> {
        let silent = self.silent.filter(|one| !one.is_answered(self.answered));
        let both = silent.into_iter().chain(self.reads_nothing);
        both.filter(|one| from <= one.since && one.lasts(now)).map(|one| one.since).min()
    }

    fn last(&self) -> Option<BootTime> {
        let told = self.silent.into_iter().chain(self.reads_nothing).map(|one| one.last);
        told.max()
    }
}

impl Unanswered {
    pub(super) fn note(&mut self, signal: &Signal) {
        if let Fact::Flows(flows) = &signal.fact {
            for stalled in &flows.stalled {
                let peer = (stalled.flow.netns, stalled.flow.peer);
                let reads_nothing = reads_nothing(stalled.why);
                self.silent(signal.at, &stalled.client, peer, stalled.since, reads_nothing);
            }
            self.forget(signal.at);
            self.heard_of(&flows.moved);
            return;
        }
        let Some(process) = &signal.process else { return };
        if let Fact::Peers(counts) = &signal.fact {
            let Some(peers) = self.clients.get_mut(&process.workload) else { return };
            for one in counts {
                if let Some(known) = peers.get_mut(&(one.netns, one.peer)) {
                    known.answers(one.last_ok);
                }
            }
        } else if let Fact::ConnectionFailed(failed) = &signal.fact
            && is_no_answer(failed)
        {
            let peer = (failed.flow.netns, failed.flow.peer);
            self.silent(signal.at, process, peer, signal.at, false);
        } else if let Fact::Retransmitted(sent) = &signal.fact
            && is_more_than_a_gap(sent)
        {
            self.silent(signal.at, process, (sent.flow.netns, sent.flow.peer), signal.at, false);
        }
    }

    /// Whoever it was that heard of it: the peer lives.
    fn heard_of(&mut self, moved: &[Moved]) {
        let mut newest: BTreeMap<At, BootTime> = BTreeMap::new();
        for one in moved {
            let at = newest.entry((one.netns, one.peer)).or_insert(one.at);
            *at = one.at.max(*at);
        }
        if newest.is_empty() {
            return;
        }
        for (peer, known) in self.clients.values_mut().flatten() {
            if let Some(at) = newest.get(peer) {
                known.answers(Some(*at));
            }
        }
    }

    fn forget(&mut self, now: BootTime) {
        for peers in self.clients.values_mut() {
            peers.retain(|_, known| known.last().is_some_and(|last| now.since(last) < REMEMBERED));
        }
        self.clients.retain(|_, peers| !peers.is_empty());
    }

    fn silent(&mut self, at: BootTime, client: &Process, peer: At, since: BootTime, reads_nothing: bool) {
        if CLIENTS_MAX <= self.clients.len() && !self.clients.contains_key(&client.workload) {
            let lasts = |known: &Known| known.last().is_some_and(|last| at.since(last) < LASTS);
            self.clients.retain(|_, peers| peers.values().any(lasts));
            if CLIENTS_MAX <= self.clients.len() {
                return;
            }
        }
        let peers = self.clients.entry(client.workload.clone()).or_default();
        if PEERS_MAX <= peers.len() && !peers.contains_key(&peer) {
            let oldest = peers.iter().min_by_key(|(_, one)| one.last()).map(|(peer, _)| *peer);
            oldest.map(|peer| peers.remove(&peer));
        }
        peers.entry(peer).or_default().is_silent(at, since, reads_nothing);
    }

    /// The peer that has been silent for longest of those that are so since `from` or later.
    fn longest(
        &self,
        now: BootTime,
        workload: &WorkloadKey,
        from: BootTime,
        is_meant: impl Fn(&At) -> bool,
    ) -> Option<(SocketAddr, BootTime)> {
        let peers = self.clients.get(workload)?.iter();
        let silent = peers.filter(|(peer, _)| is_meant(peer));
        let silent = silent.filter_map(|((_, peer), known)| Some((*peer, known.pending(now, from)?)));
        silent.min_by_key(|(_, since)| *since)
    }
}

impl Engine {
    /// A peer of it has not answered since about the time at which it failed itself: whose fault that is will be known
    /// within seconds.
    pub(super) fn awaits(&self, now: BootTime, incident: &Incident, plan: &Plan) -> Option<Awaited> {
        let diagnosis = incident.active.get(&plan.class)?;
        // What an earlier life of the agent saw is seen anew.
        let is_of_old = plan.sick_since < self.born;
        let known_since = if is_of_old { diagnosis.detected_at } else { plan.sick_since };
        let until = known_since + DECIDED_WITHIN;
        if until <= now {
            return None;
        }
        let workload = &incident.workload;
        let is_itself = |(netns, peer): &At| {
            let server = self.world.topology().server(*netns, peer);
            server.is_some_and(|server| server.workload == *workload)
        };
        let from = diagnosis.fault_at - AROUND;
        let (peer, since) = self.unanswered.longest(now, workload, from, |peer| !is_itself(peer))?;
        let says = format!(
            "{} has had no answer from {peer} for {}",
            text::printable(&workload.0),
            Human(now.since(since))
        );
        Some(Awaited { until, says })
    }
}

fn reads_nothing(why: Stall) -> bool {
    match why {
        Stall::WindowClosed | Stall::Unread | Stall::NoReply => true,
        Stall::Held | Stall::Unanswered => false,
    }
}

/// A connection that breaks is often made again at once.
fn is_no_answer(failed: &ConnectionFailed) -> bool {
    match failed.cause {
        FailureCause::Refused | FailureCause::Unreachable | FailureCause::TimedOut => true,
        FailureCause::GaveUp => failed.age_us.is_some_and(|age| HASTY_US <= age),
        FailureCause::Reset => false,
    }
}

/// A lost packet or two are none.
fn is_more_than_a_gap(sent: &Retransmitted) -> bool {
    sent.connecting || 2 <= sent.retransmits || sent.local_error.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::network::{Flow, FlowSnapshot, PeerCounts, Stalled};

    const PEER: &str = "10.0.0.9:80";

    fn web() -> Process {
        Process { workload: WorkloadKey("web".to_owned()), ..Process::default() }
    }

    fn flow() -> Flow {
        let peer = PEER.parse().unwrap();
        Flow { peer, local: "10.0.0.1:4000".parse().unwrap(), netns: 7, cgroup: 5, cookie: 1 }
    }

    fn at(second: u64) -> BootTime {
        BootTime(second * 1_000_000_000)
    }

    fn asked_again(second: u64) -> Signal {
        let sent = Retransmitted {
            flow: flow(),
            connecting: true,
            retransmits: 1,
            unacknowledged: 0,
            local_error: None,
            streak: 0,
            sampled: false,
        };
        Signal { at: at(second), process: Some(web()), fact: Fact::Retransmitted(sent) }
    }

    fn made(second: u64) -> Signal {
        let counts = vec![PeerCounts::made(PEER, 7, at(second))];
        Signal { at: at(second), process: Some(web()), fact: Fact::Peers(counts) }
    }

    fn stalled(second: u64, why: Stall) -> Signal {
        stalled_since(1, second, why)
    }

    fn stalled_since(since: u64, second: u64, why: Stall) -> Signal {
        let stalled = Stalled {
            client: web(),
            flow: flow(),
            why,
            since: at(since),
            retransmits: 6,
            acked: 0,
            server: None,
            halted: false,
        };
        let fact = Fact::Flows(FlowSnapshot { stalled: vec![stalled], ..FlowSnapshot::default() });
        Signal { at: at(second), process: None, fact }
    }

    /// Since when, at second 20.
    fn pending(told: &[Signal]) -> Option<BootTime> {
        let mut unanswered = Unanswered::default();
        told.iter().for_each(|signal| unanswered.note(signal));
        unanswered.longest(at(20), &web().workload, at(1), |_| true).map(|(_, since)| since)
    }

    #[test]
    fn a_silence_lasts_until_a_connection_is_made() {
        assert_eq!(pending(&[asked_again(9), asked_again(11)]), Some(at(9)));
        assert_eq!(pending(&[asked_again(9), asked_again(11), made(12)]), None);
        assert_eq!(pending(&[asked_again(9), made(10), asked_again(11)]), Some(at(11)));
        assert_eq!(pending(&[asked_again(4)]), None, "nobody asks any more");
    }

    #[test]
    fn who_reads_nothing_takes_connections_all_the_same() {
        assert_eq!(pending(&[stalled(10, Stall::Unread), made(12)]), Some(at(1)));
        assert_eq!(pending(&[stalled(10, Stall::Unanswered)]), Some(at(1)));
        let beside_others = [stalled(10, Stall::Unanswered), made(12), stalled(14, Stall::Unanswered)];
        assert_eq!(pending(&beside_others), None, "one that is dead beside others");
    }

    /// Since when, from half a minute before second 3600 on.
    fn pending_an_hour_later(told: &[Signal]) -> Option<BootTime> {
        let mut unanswered = Unanswered::default();
        told.iter().for_each(|signal| unanswered.note(signal));
        unanswered.longest(at(3605), &web().workload, at(3570), |_| true).map(|(_, since)| since)
    }

    #[test]
    fn two_silences_an_hour_apart_are_two() {
        let stalls = |why| [stalled_since(1, 3, why), stalled_since(3598, 3600, why)];
        assert_eq!(pending_an_hour_later(&stalls(Stall::Unread)), Some(at(3598)));
        assert_eq!(pending_an_hour_later(&stalls(Stall::Unanswered)), Some(at(3598)));
        let one = [stalled_since(1, 3590, Stall::Unread), stalled_since(3598, 3600, Stall::Unread)];
        assert_eq!(pending_an_hour_later(&one), None, "it has gone on for long");
    }

    #[test]
    fn who_is_asked_no_more_is_forgotten() {
        let mut unanswered = Unanswered::default();
        unanswered.note(&asked_again(9));
        let look =
            |second| Signal { at: at(second), process: None, fact: Fact::Flows(FlowSnapshot::default()) };
        unanswered.note(&look(60));
        assert_eq!(unanswered.clients.len(), 1);
        unanswered.note(&look(70));
        assert!(unanswered.clients.is_empty());
    }

    #[test]
    fn whoever_hears_of_it_the_peer_lives() {
        let moved = vec![Moved { netns: 7, cgroup: 9, peer: PEER.parse().unwrap(), at: at(12) }];
        let fact = Fact::Flows(FlowSnapshot { moved, ..FlowSnapshot::default() });
        let heard = Signal { at: at(13), process: None, fact };
        assert_eq!(pending(&[asked_again(9), asked_again(11), heard]), None);
    }

    #[test]
    fn a_silence_of_the_other_kind_does_not_begin_it_anew() {
        let told = [stalled(10, Stall::Unread), asked_again(11), stalled(12, Stall::Unread), asked_again(13)];
        assert_eq!(pending(&told), Some(at(1)));
        assert_eq!(
            pending(&[asked_again(9), stalled(10, Stall::Unread), asked_again(11), made(12)]),
            Some(at(1))
        );
        assert_eq!(pending(&[asked_again(9), asked_again(11), made(12)]), None);
    }
}
