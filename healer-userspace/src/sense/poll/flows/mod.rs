//! Connections that do not move although no packet is lost: what this machine will not send, what a peer does not
//! take, what a server on this node does not read. And who answers a peer's address, also behind NAT.
//!
//! One dump of the sockets of each network namespace in turn, as often as half a percent of a CPU allows.

mod ledger;
mod links;
mod owners;
mod shared;
mod traffic;

use core::time::Duration;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    clock,
    engine::time::BootTime,
    sense::{
        poll::{JITTER, sockets::SockDiag, work::life},
        waits::Proc,
    },
    signal::{
        network::{LinkChange, Stall},
        work::Life,
    },
};
use ledger::Ledger;
use links::Links;
use owners::Owners;
use shared::Shared;
use traffic::Traffic;

const NAMESPACES_MAX: usize = 128;
const EVERY: Duration = Duration::from_secs(1);
/// Nothing moves and nothing hangs: there is nothing new to see, but never for longer than the second.
const STILL: Duration = Duration::from_secs(2);
const STILL_MAX: Duration = Duration::from_secs(8);
/// A dump that takes long is made less often: it may use half a percent of a CPU, all namespaces together.
const SPARE: u32 = 200;
/// However long it takes: older news are none.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// New namespaces are looked for.
const DISCOVER: Duration = Duration::from_secs(5);
/// Whoever moved into another namespace is found so late.
const DISCOVER_ALL: Duration = Duration::from_secs(30);

/// Whose socket: by its descriptor, and by the cgroup that it was made in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    pub pid: Option<u32>,
    pub cgroup: u64,
}

/// A client's connection that does not move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    pub netns: u32,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub cookie: u64,
    pub whose: Whose,
    pub why: Stall,
    pub since: BootTime,
    pub retransmits: u32,
    pub acked: u64,
    /// Of [`Stall::Unread`]: who does not read.
    pub server: Option<Whose>,
    /// The server may not run: it is stopped, or frozen.
    pub halted: bool,
}

/// Who answers what a client calls `peer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    pub netns: u32,
    pub peer: SocketAddr,
    /// What the server itself calls it.
    pub address: SocketAddr,
    pub whose: Whose,
}

/// A listener that is older than healer, or whose end was missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub netns: u32,
    pub address: SocketAddr,
    pub cookie: u64,
    pub whose: Whose,
    pub on: bool,
}

/// What one look shows, of the namespaces whose turn it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    pub stuck: Vec<Stuck>,
    pub answers: Vec<Answers>,
    pub listeners: Vec<Listener>,
    pub links: Vec<LinkChange>,
}

impl Look {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Remembers the looks before.
pub struct FlowPoller {
    proc: PathBuf,
    cgroup: PathBuf,
    places: BTreeMap<u32, Place>,
    /// The namespace of each process.
    homes: BTreeMap<u32, u32>,
    discovered: Option<BootTime>,
    discovered_all: Option<BootTime>,
    shared: Shared,
}

/// One network namespace.
struct Place {
    /// Somebody who lives there, and everybody.
    pid: u32,
    pids: Vec<u32>,
    /// Opened anew after every failure, because the rest of an answer may still be on its way.
    diag: Option<SockDiag>,
    links: Option<Links>,
    ledger: Ledger,
    owners: Owners,
    /// At the last dump.
    traffic: Option<Traffic>,
    dumped: Option<BootTime>,
    /// Dumps since anything moved.
    unmoved: u32,
    next: BootTime,
}

impl FlowPoller {
    /// `proc` is `/proc`, `cgroup` is `/sys/fs/cgroup`.
    #[must_use]
    pub fn new(proc: &Path, cgroup: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            cgroup: cgroup.to_owned(),
            places: BTreeMap::new(),
            homes: BTreeMap::new(),
            discovered: None,
            discovered_all: None,
            shared: Shared::default(),
        }
    }

    /// One look, and how long the next may wait.
    pub fn look(&mut self, now: BootTime) -> (Look, Duration) {
        let before = clock::thread_cpu();
        if self.discovered.is_none_or(|at| DISCOVER <= now.since(at)) {
            self.discovered = Some(now);
            self.discover(now);
        }
        let mut look = Look::default();
        self.shared.forget(now);
        let due: Vec<u32> = self
            .places
            .iter()
            .filter(|(_, place)| place.next <= now + JITTER)
            .map(|(netns, _)| *netns)
            .collect();
        for netns in due {
            self.visit(now, netns, &mut look);
        }
        look.answers = self.shared.news(now);
        let cost = clock::thread_cpu().saturating_sub(before);
        // Whole seconds: others have the same beat.
        let pause = Duration::from_secs((cost * SPARE).as_secs_f64().ceil() as u64);
        (look, pause.clamp(EVERY, PAUSE_MAX))
    }

    fn discover(&mut self, now: BootTime) {
        let proc = Proc::new(&self.proc);
        let mut homes = std::mem::take(&mut self.homes);
        if self.discovered_all.is_none_or(|at| DISCOVER_ALL <= now.since(at)) {
            self.discovered_all = Some(now);
            homes.clear();
        }
        let mut found: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for pid in proc.pids() {
            let home = homes.get(&pid).copied();
            let home = home.or_else(|| proc.net_namespace(pid).map(|(netns, _)| netns as u32));
            if let Some(netns) = home {
                self.homes.insert(pid, netns);
                found.entry(netns).or_default().push(pid);
            }
        }
        self.places.retain(|netns, _| found.contains_key(netns));
        for (netns, pids) in found {
            let Some(pid) = pids.first().copied() else { continue };
            if self.places.len() < NAMESPACES_MAX || self.places.contains_key(&netns) {
                let place = self.places.entry(netns).or_insert_with(|| Place::new(pid));
                (place.pid, place.pids) = (pid, pids);
            }
        }
    }

    fn visit(&mut self, now: BootTime, netns: u32, look: &mut Look) {
        let Some(place) = self.places.get_mut(&netns) else { return };
        look.links.extend(place.link_news(&self.proc, netns));
        let traffic = Traffic::of(&self.proc, place.pid);
        if !traffic.has_sockets() {
            place.next = now + EVERY;
            look.listeners.extend(place.ledger.all_closed(netns));
            return;
        }
        let has_moved = place.traffic.as_ref() != Some(&traffic);
        // Both ends of a connection are joined by the second dump.
        let is_still = !has_moved && 1 <= place.unmoved && place.ledger.is_calm();
        if is_still && place.dumped.is_some_and(|at| now.since(at) < STILL_MAX) {
            place.next = now + STILL;
            return;
        }
        place.unmoved = if has_moved { 0 } else { place.unmoved.saturating_add(1) };
        (place.traffic, place.dumped) = (Some(traffic), Some(now));
        let before = clock::thread_cpu();
        if place.dump(now, &self.proc, netns, &mut self.shared).is_err() {
            place.diag = None;
        }
        let proc = Proc::new(&self.proc);
        let (pass, wanted) = place.ledger.judge(now, netns, &mut self.shared);
        place.owners.find(now, &proc, &place.pids, &wanted);
        let whose = |inode: u32, cgroup: u64| Whose { pid: place.owners.of(inode), cgroup };
        self.shared.own(netns, &pass.serving, &whose);
        look.listeners.extend(pass.listeners(netns, &whose));
        let halted = |server: Whose| {
            let life = server.pid.map(|pid| life(&self.proc, &self.cgroup, pid));
            matches!(life, Some(Life::Stopped | Life::Frozen))
        };
        look.stuck.extend(pass.stuck(netns, &whose, &halted));
        let cost = clock::thread_cpu().saturating_sub(before);
        place.next = now + (cost * SPARE).clamp(EVERY / 2, PAUSE_MAX);
    }
}

impl Place {
    fn new(pid: u32) -> Self {
        Self {
            pid,
            pids: Vec::new(),
            diag: None,
            links: None,
            ledger: Ledger::default(),
            owners: Owners::default(),
            traffic: None,
            dumped: None,
            unmoved: 0,
            next: BootTime(0),
        }
    }

    fn dump(&mut self, now: BootTime, proc: &Path, netns: u32, shared: &mut Shared) -> std::io::Result<()> {
        let diag = match self.diag.take() {
            Some(diag) => diag,
            None => SockDiag::open_in(&proc.join(format!("{}/ns/net", self.pid)))?,
        };
        let diag = self.diag.insert(diag);
        self.ledger.begin();
        let ledger = &mut self.ledger;
        diag.each(|socket| ledger.see(now, netns, &socket, shared))
    }

    fn link_news(&mut self, proc: &Path, netns: u32) -> Vec<LinkChange> {
        if self.links.is_none() {
            self.links = Links::open_in(&proc.join(format!("{}/ns/net", self.pid))).ok();
        }
        self.links.as_mut().map(|links| links.news(netns)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
