//! One client: is it cut off, or is something that it depends on dead?

use core::{
    cmp::Reverse,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use std::collections::{BTreeMap, BTreeSet};

use super::{
    kind::Kind,
    peer::{Down, LOSSY_FROM, Peer, State},
};
use crate::{engine::time::BootTime, identity::process::Process};

/// Peers of one client that are remembered, the least recently used make room.
const PEERS_MAX: usize = 256;
/// A peer that nobody talked to for so long has no say.
const ACTIVE: Duration = Duration::from_secs(60);
/// Above so many peers some may answer all the same (a cache, a stale entry).
const FEW: usize = 5;
const MOST_PERCENT: usize = 80;
/// So long the others have to show whether they answer; longer if they are asked seldom.
const OTHERS_GET: Duration = Duration::from_secs(5);
const OTHERS_GET_MOST: Duration = Duration::from_secs(30);
/// After an isolation ended, each peer needs its first success.
const CALM: Duration = Duration::from_secs(5);
/// Who tries so many addresses that never answered looks for something, and depends on none of them.
const SEARCHES_FROM: usize = 16;

#[derive(Debug)]
pub(super) struct Client {
    /// Whoever connected last.
    pub(super) process: Process,
    /// Of its sockets; 0 unknown.
    pub(super) cgroup: u64,
    pub(super) peers: BTreeMap<SocketAddr, Peer>,
    pub(super) calm_until: BootTime,
    /// That process, and nobody has connected since.
    pub(super) ended: Option<BootTime>,
}

/// What a look at all peers of a client shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Peers that count, if all of them are out of reach.
    pub(super) isolated: Option<Isolated>,
    /// Of those that are down: is it sure that the client itself is not the reason?
    pub(super) down: BTreeMap<SocketAddr, (Down, Surety)>,
    /// Peers that answered since the first one failed.
    pub(super) well: usize,
    /// To be looked at again.
    pub(super) due: Option<BootTime>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Isolated {
    pub(super) since: BootTime,
    /// Since when the last of them is out of reach.
    pub(super) last_lost: BootTime,
    pub(super) down: usize,
    pub(super) of: usize,
    pub(super) is_local: bool,
    pub(super) has_no_route: bool,
    pub(super) is_doubtful: bool,
    pub(super) needs_no_cause: bool,
    pub(super) peers: Vec<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surety {
    /// Others answer, or it says no itself.
    Sure,
    /// Nobody else is asked: the client may be the one that is cut off.
    OnlyPeer,
    /// The others have not shown yet.
    Waits(BootTime),
}

impl Client {
    pub(super) fn new(process: Process) -> Self {
        Self { process, cgroup: 0, peers: BTreeMap::new(), calm_until: BootTime(0), ended: None }
    }

    pub(super) fn peer(&mut self, address: SocketAddr) -> &mut Peer {
        if self.peers.len() >= PEERS_MAX
            && !self.peers.contains_key(&address)
            && let Some(oldest) = self.peers.iter().min_by_key(|(_, peer)| peer.last_seen).map(|(at, _)| *at)
        {
            self.peers.remove(&oldest);
        }
        self.peers.entry(address).or_default()
    }

    /// Who is at the other end, by the connections themselves.
    pub(super) fn server_of(&self, address: &SocketAddr) -> Option<&Process> {
        self.peers.get(address)?.stuck.frozen()?.server.as_ref()
    }

    /// What is old is forgotten, and who is seen to lose packets on the way to some peers is given more time with all.
    pub(super) fn refresh(&mut self, now: BootTime) {
        let has_ended = self.ended.is_some();
        self.peers.values_mut().for_each(|peer| peer.forget(now, has_ended));
        let is_remote = |(address, peer): &(&SocketAddr, &Peer)| {
            !address.ip().is_loopback() && peer.last_answer().is_some()
        };
        let mut gaps: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (address, peer) in self.peers.iter().filter(is_remote) {
            *gaps.entry(address.ip()).or_default() += peer.fresh_gaps(now);
        }
        // One that is slow to answer beside many that are not loses nothing on the way.
        let least = if gaps.len() <= 2 { 1 } else { 2 };
        gaps.retain(|_, gaps| 0 < *gaps);
        for (address, peer) in &mut self.peers {
            let others = || gaps.iter().filter(|(ip, _)| **ip != address.ip()).map(|(_, gaps)| *gaps);
            let is_lossy = least <= others().count() && LOSSY_FROM <= others().sum();
            peer.is_beside_losses = !address.ip().is_loopback() && is_lossy;
        }
    }

    /// `is_explained`: what speaks against a peer since then in that way is, by what is known of servers and links.
    pub(super) fn judge(
        &self,
        now: BootTime,
        is_explained: impl Fn(&SocketAddr, Kind, BootTime) -> bool,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        let mut down: BTreeMap<SocketAddr, Down> = BTreeMap::new();
        let searches = self.searches();
        for (address, peer) in &self.peers {
            let by_others = |kind| peer.since().is_some_and(|since| is_explained(address, kind, since));
            match peer.state(now, by_others) {
                State::Well => {}
                State::Suspect(at) => verdict.due = earliest(verdict.due, at),
                State::Down(_)
                    if peer.last_ok.is_none() && (searches || self.has_other_family(address, peer)) => {}
                State::Down(found) => {
                    down.insert(*address, found);
                }
            }
        }
        let Some(first_bad) = down.values().map(|down| down.since).min() else {
            return verdict;
        };
        let voters = self.voters(now);
        let is_well = |address: &&SocketAddr| {
            let ok = self.peers.get(*address).and_then(Peer::last_answer);
            !down.contains_key(*address) && ok.is_some_and(|ok| first_bad < ok)
        };
        verdict.well = voters.iter().filter(is_well).count();
        let beside = self.silent_beside(now, &down, first_bad);
        let silent = down.iter().map(|(address, found)| (*address, *found)).chain(beside);
        let unheard = silent.filter(|(address, found)| !self.is_heard(now, address, found.since));
        verdict.isolated = isolated(&voters, &unheard.collect());
        let fades = down.keys().filter_map(|address| self.peers.get(address)?.fades_at(now)).min();
        verdict.due = earliest(verdict.due, fades);
        for (address, found) in down {
            let surety = self.surety(now, &address, &found, verdict.well, &voters);
            if let Surety::Waits(until) = surety {
                verdict.due = earliest(verdict.due, Some(until));
            }
            verdict.down.insert(address, (found, surety));
        }
        verdict
    }

    /// Who is silent, and would not be said to be for it alone.
    fn silent_beside(
        &self,
        now: BootTime,
        down: &BTreeMap<SocketAddr, Down>,
        since: BootTime,
    ) -> Vec<(SocketAddr, Down)> {
        if down.values().all(|down| down.kind.was_reached()) {
            return Vec::new();
        }
        let is_other =
            |address: &SocketAddr, peer: &Peer| !down.contains_key(address) && peer.last_answer().is_some();
        let others = self.peers.iter().filter(|(address, peer)| is_other(address, peer));
        others.filter_map(|(address, peer)| Some((*address, peer.silent_beside(now, since)?))).collect()
    }

    /// Peers whose state says something about the client's own network.
    fn voters(&self, now: BootTime) -> BTreeSet<SocketAddr> {
        self.peers.iter().filter(|one| is_voter(now, *one)).map(|(address, _)| *address).collect()
    }

    pub(super) fn has_voters(&self, now: BootTime, counts: impl Fn(&SocketAddr) -> bool) -> bool {
        self.peers.iter().any(|one| is_voter(now, one) && counts(one.0))
    }

    fn is_heard(&self, now: BootTime, address: &SocketAddr, since: BootTime) -> bool {
        self.peers.get(address).is_some_and(|peer| peer.is_heard(now, since))
    }

    fn searches(&self) -> bool {
        let never_ok = self.peers.values().filter(|peer| peer.last_ok.is_none());
        SEARCHES_FROM <= never_ok.count()
    }

    /// `localhost` as `::1` first, an AAAA record without IPv6: the same port answers by the other family.
    fn has_other_family(&self, address: &SocketAddr, peer: &Peer) -> bool {
        let answers = |(other, found): (&SocketAddr, &Peer)| {
            other.port() == address.port()
                && other.is_ipv4() != address.is_ipv4()
                && found.last_ok.is_some_and(|ok| peer.since().is_none_or(|since| since < ok))
        };
        self.peers.iter().any(answers)
    }

    fn surety(
        &self,
        now: BootTime,
        address: &SocketAddr,
        down: &Down,
        well: usize,
        voters: &BTreeSet<SocketAddr>,
    ) -> Surety {
        if down.kind.was_reached() || address.ip().is_loopback() || 0 < well {
            return Surety::Sure;
        }
        let others: Vec<_> = voters.iter().filter(|other| other.ip() != address.ip()).collect();
        if others.is_empty() {
            return Surety::OnlyPeer;
        }
        let usual = others.iter().filter_map(|other| self.peers.get(*other)?.usual_gap()).min();
        let others_get = usual.unwrap_or_default().clamp(OTHERS_GET, OTHERS_GET_MOST);
        let last = self.peers.get(address).and_then(|peer| peer.since()).unwrap_or(now);
        let until = last + SILENCE_AND + others_get;
        if now < until { Surety::Waits(until) } else { Surety::OnlyPeer }
    }

    /// When it has asked nobody of those that count for so long, if it asks nobody.
    pub(super) fn untried_for(&self, so_long: Duration, counts: impl Fn(&SocketAddr) -> bool) -> BootTime {
        const MOMENT: Duration = Duration::from_millis(1);
        let last = newest(self.peers.iter().map(|(address, peer)| (*address, peer.last_seen)), counts);
        last.map_or(BootTime(0), |last| last + so_long + MOMENT)
    }

    pub(super) fn is_calm(&self, now: BootTime) -> bool {
        self.calm_until <= now
    }

    pub(super) fn calm_down(&mut self, now: BootTime) {
        self.calm_until = now + CALM;
        self.peers.values_mut().for_each(Peer::forgive);
    }

    /// When the first peer that counts answered after `since` and has gone on to.
    pub(super) fn well_after(
        &self,
        since: BootTime,
        counts: impl Fn(&SocketAddr) -> bool,
    ) -> Option<BootTime> {
        let peers = self.peers.iter().filter(|(address, _)| !address.ip().is_loopback());
        let newer = |peer: &Peer| {
            let ok = peer.unopposed_answer().filter(|ok| since < *ok)?;
            Some(peer.well_since.or(peer.moves_since).filter(|at| since < *at).unwrap_or(ok))
        };
        peers.filter_map(|(address, peer)| newer(peer).filter(|_| counts(address))).min()
    }

    /// When one that counts did so last, if after `since`.
    pub(super) fn well_last(
        &self,
        since: BootTime,
        counts: impl Fn(&SocketAddr) -> bool,
    ) -> Option<BootTime> {
        let peers = self.peers.iter().filter(|(address, _)| !address.ip().is_loopback());
        let answers = peers.filter_map(|(address, peer)| Some((*address, peer.unopposed_answer()?)));
        newest(answers.filter(|(_, ok)| since < *ok), counts)
    }
}

/// Of those that count. To tell whether one does is dear.
fn newest(
    all: impl Iterator<Item = (SocketAddr, BootTime)>,
    counts: impl Fn(&SocketAddr) -> bool,
) -> Option<BootTime> {
    let mut all: Vec<_> = all.collect();
    all.sort_unstable_by_key(|(_, at)| Reverse(*at));
    all.into_iter().find(|(address, _)| counts(address)).map(|(_, at)| at)
}

fn is_voter(now: BootTime, (address, peer): (&SocketAddr, &Peer)) -> bool {
    !address.ip().is_loopback() && peer.is_dependency() && now.since(peer.last_seen) < ACTIVE
}

/// As long as a peer needs to be found silent.
const SILENCE_AND: Duration = Duration::from_secs(4);

/// Two addresses at least: two ports of one host that is gone are one dependency. Whoever refuses was reached.
fn isolated(voters: &BTreeSet<SocketAddr>, down: &BTreeMap<SocketAddr, Down>) -> Option<Isolated> {
    let lost: BTreeMap<_, _> =
        down.iter().filter(|(at, down)| voters.contains(at) && !down.kind.was_reached()).collect();
    let addresses: BTreeSet<_> = lost.keys().map(|address| address.ip()).collect();
    let is_local = !lost.is_empty() && lost.values().all(|down| down.is_local);
    let all = lost.len() == voters.len();
    let most = FEW < voters.len() && voters.len() * MOST_PERCENT <= lost.len() * 100;
    if addresses.len() < 2 || !(all || most) {
        return None;
    }
    let since = lost.values().map(|down| down.since).min()?;
    let last_lost = lost.values().map(|down| down.since).max()?;
    let peers = lost.keys().map(|address| **address).collect();
    let has_no_route = lost.values().all(|down| down.is_local && down.kind == Kind::Unreachable);
    let is_doubtful = lost.values().any(|down| down.is_doubtful);
    let needs_no_cause = lost.values().all(|down| down.needs_no_cause);
    let (down, of) = (lost.len(), voters.len());
    Some(Isolated { since, last_lost, down, of, is_local, has_no_route, is_doubtful, needs_no_cause, peers })
}

pub(super) fn earliest(one: Option<BootTime>, other: Option<BootTime>) -> Option<BootTime> {
    one.into_iter().chain(other).min()
}
