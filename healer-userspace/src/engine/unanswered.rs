//! Peers that have not answered somebody yet: too little for a verdict, and enough to wait for one. That a peer is
//! silent is known some ten seconds after the client that it makes sick.

use core::{net::SocketAddr, time::Duration};
use std::collections::BTreeMap;

use super::{
    Engine,
    incident::Incident,
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
    clients: BTreeMap<WorkloadKey, BTreeMap<At, Silence>>,
}

#[derive(Clone, Copy, Debug)]
struct Silence {
    since: BootTime,
    /// Heard of it last.
    last: BootTime,
    answered: Option<BootTime>,
    /// Its kernel takes connections all the same: that one was made is no answer.
    reads_nothing: bool,
}

/// What an act has to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    pub until: BootTime,
    pub says: String,
}

impl Silence {
    fn goes_on(&self) -> bool {
        self.reads_nothing || self.answered.is_none_or(|ok| ok < self.since)
    }

    fn is_pending(&self, now: BootTime, from: BootTime) -> bool {
        self.goes_on() && from <= self.since && now.since(self.last) < LASTS
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
            flows.moved.iter().for_each(|moved| self.heard_of(moved));
            return;
        }
        let Some(process) = &signal.process else { return };
        if let Fact::Peers(counts) = &signal.fact {
            let Some(peers) = self.clients.get_mut(&process.workload) else { return };
            for one in counts {
                if let Some(silence) = peers.get_mut(&(one.netns, one.peer)) {
                    silence.answered = silence.answered.max(one.last_ok);
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
    fn heard_of(&mut self, moved: &Moved) {
        for peers in self.clients.values_mut() {
            if let Some(silence) = peers.get_mut(&(moved.netns, moved.peer)) {
                silence.answered = silence.answered.max(Some(moved.at));
            }
        }
    }

    fn silent(&mut self, at: BootTime, client: &Process, peer: At, since: BootTime, reads_nothing: bool) {
        if CLIENTS_MAX <= self.clients.len() && !self.clients.contains_key(&client.workload) {
            self.clients.retain(|_, peers| peers.values().any(|one| at.since(one.last) < LASTS));
            if CLIENTS_MAX <= self.clients.len() {
                return;
            }
        }
        let peers = self.clients.entry(client.workload.clone()).or_default();
        if PEERS_MAX <= peers.len() && !peers.contains_key(&peer) {
            let oldest = peers.iter().min_by_key(|(_, one)| one.last).map(|(peer, _)| *peer);
            oldest.map(|peer| peers.remove(&peer));
        }
        let known = peers.entry(peer).or_insert(Silence { since, last: at, answered: None, reads_nothing });
        // One connection that is dead beside others that are made is no silence of the peer's.
        if !reads_nothing && known.answered.is_some_and(|ok| since <= ok) {
            return;
        }
        let is_same = known.goes_on() && known.reads_nothing == reads_nothing;
        known.since = if is_same { known.since.min(since) } else { since };
        (known.last, known.reads_nothing) = (at, reads_nothing);
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
        let silent = peers.filter(|(peer, one)| one.is_pending(now, from) && is_meant(peer));
        silent.map(|((_, peer), one)| (*peer, one.since)).min_by_key(|(_, since)| *since)
    }
}

impl Engine {
    /// A peer of it has not answered since about the time at which it failed itself: whose fault that is will be known
    /// within seconds.
    pub(super) fn awaits(&self, now: BootTime, incident: &Incident) -> Option<Awaited> {
        let until = incident.detected_at + DECIDED_WITHIN;
        if until <= now {
            return None;
        }
        let workload = &incident.workload;
        let is_itself = |(netns, peer): &At| {
            let server = self.world.topology().server(*netns, peer);
            server.is_some_and(|server| server.workload == *workload)
        };
        let from = incident.fault_at - AROUND;
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
        let stalled = Stalled {
            client: web(),
            flow: flow(),
            why,
            since: at(1),
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
}
