//! Connections that do not move although no packet is lost: what this machine will not send, what a peer does not
//! take, what a server on this node does not read. And who answers a peer's address, also behind NAT.
//!
//! One dump of the sockets of each network namespace in turn, as often as half a percent of a CPU allows; of those in
//! trouble (links or routes changed, connections failed or do not move) twice a second, as far as four percent allow.
//! Twice a second, too, as long as somebody waits for the answer of a name server.

mod addresses;
mod halted;
mod ledger;
mod links;
mod look;
mod movement;
mod owners;
mod questions;
mod shared;
mod traffic;
mod trouble;

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::{
    clock,
    engine::time::BootTime,
    sense::{
        poll::{JITTER, sockets::SockDiag},
        waits::Proc,
    },
    signal::network::{Addresses, LinkChange},
};
use halted::Halted;
use ledger::Ledger;
use links::Links;
pub use look::{Answers, Listener, Look, Stuck, Whose};
use owners::Owners;
use questions::Questions;
use shared::Shared;
use traffic::Traffic;
use trouble::Spell;
pub use trouble::Trouble;

const NAMESPACES_MAX: usize = 128;
const EVERY: Duration = Duration::from_secs(1);
/// While somebody is in trouble.
const SOON: Duration = Duration::from_millis(500);
/// Nothing moves and nothing hangs: there is nothing new to see, but never for longer than the second.
const STILL: Duration = Duration::from_secs(2);
const STILL_MAX: Duration = Duration::from_secs(8);
/// A dump that takes long is made less often: it may use half a percent of a CPU, all namespaces together.
const SPARE: u32 = 200;
const SPARE_IN_TROUBLE: u32 = 25;
/// However long it takes: older news are none.
const PAUSE_MAX: Duration = Duration::from_secs(5);
const PAUSE_IN_TROUBLE_MAX: Duration = Duration::from_secs(2);
/// New namespaces are looked for.
const DISCOVER: Duration = Duration::from_secs(5);
/// Whoever moved into another namespace is found so late.
const DISCOVER_ALL: Duration = Duration::from_secs(30);

/// Remembers the looks before.
pub struct FlowPoller {
    proc: PathBuf,
    cgroup: PathBuf,
    places: BTreeMap<u32, Place>,
    /// The namespace of each process.
    homes: BTreeMap<u32, u32>,
    discovered: Option<BootTime>,
    discovered_all: Option<BootTime>,
    /// Of which others have told, and where nobody was found to live.
    not_found: BTreeSet<u32>,
    shared: Shared,
    trouble: Trouble,
    /// Of this look.
    halted: Option<Halted>,
    /// By what they have cost, no look before: at those that are well, at those in trouble.
    rests_until: [BootTime; 2],
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
    /// `None` once the kernel has refused to tell of UDP.
    questions: Option<Questions>,
    /// At the last dump.
    traffic: Option<Traffic>,
    dumped: Option<BootTime>,
    /// Dumps since anything moved.
    unmoved: u32,
    next: BootTime,
    spell: Spell,
}

impl FlowPoller {
    /// `proc` is `/proc`, `cgroup` is `/sys/fs/cgroup`; `trouble`: where others say who wants a look soon.
    #[must_use]
    pub fn new(proc: &Path, cgroup: &Path, trouble: Trouble) -> Self {
        Self {
            proc: proc.to_owned(),
            cgroup: cgroup.to_owned(),
            places: BTreeMap::new(),
            homes: BTreeMap::new(),
            discovered: None,
            discovered_all: None,
            not_found: BTreeSet::new(),
            shared: Shared::default(),
            trouble,
            halted: None,
            rests_until: [BootTime(0); 2],
        }
    }

    /// One look, and how long the next may wait.
    pub fn look(&mut self, now: BootTime) -> (Look, Duration) {
        let [told, met] = self.trouble.take();
        self.look_for(told.iter().chain(&met));
        let pause = if self.discovered_all.is_none() { EVERY } else { DISCOVER };
        let before = clock::thread_cpu();
        let mut look = Look::default();
        if self.discovered.is_none_or(|at| pause <= now.since(at) + JITTER) {
            self.discovered = Some(now);
            look.gone = self.discover(now);
            self.rest(now, before, false);
        }
        self.shared.forget(now);
        self.halted = None;
        self.hear(now, told, &mut look);
        for is_troubled in [true, false] {
            self.visit_all(now, is_troubled, &mut look);
        }
        self.pursue_questions(now, &mut look);
        look.answers = self.shared.news(now);
        look.trips = self.shared.new_trips();
        let is_asking = |place: &Place| place.questions.as_ref().is_some_and(|one| one.is_asking(now));
        let is_any = self.places.values().any(|place| place.spell.is_on(now) || is_asking(place));
        (look, if is_any { SOON } else { EVERY })
    }

    /// Whoever lives there was in another namespace when it was seen, or not there yet. Asked once.
    fn look_for<'a>(&mut self, told: impl Iterator<Item = &'a u32>) {
        for netns in told.filter(|netns| !self.places.contains_key(*netns)) {
            if self.not_found.insert(*netns) {
                self.discovered_all = None;
            }
        }
    }

    /// Whose links or routes have changed, whose server does not read, and of whom others have heard.
    fn hear(&mut self, now: BootTime, mut told: BTreeSet<u32>, look: &mut Look) {
        told.extend(self.shared.suffering(now));
        for (netns, place) in &mut self.places {
            let links = place.link_news(&self.proc, *netns);
            let ips = place.links.as_mut().and_then(|links| links.addresses.news());
            look.addresses.extend(ips.map(|ips| Addresses { netns: *netns, ips }));
            if told.contains(netns) {
                place.trouble(now);
            }
            if !links.is_empty() {
                place.trouble(now);
                place.spell.begin_anew(now);
            }
            look.links.extend(links);
        }
    }

    fn visit_all(&mut self, now: BootTime, is_troubled: bool, look: &mut Look) {
        if now + JITTER < self.rests_until[usize::from(is_troubled)] {
            return;
        }
        let before = clock::thread_cpu();
        let is_due = |place: &Place| place.next <= now + JITTER && place.spell.is_on(now) == is_troubled;
        let due: Vec<u32> =
            self.places.iter().filter(|(_, place)| is_due(place)).map(|(netns, _)| *netns).collect();
        for netns in due {
            self.visit(now, netns, look);
        }
        self.rest(now, before, is_troubled);
    }

    fn rest(&mut self, now: BootTime, before: Duration, is_troubled: bool) {
        let cost = clock::thread_cpu().saturating_sub(before);
        let until = &mut self.rests_until[usize::from(is_troubled)];
        *until = (*until).max(now + pause(cost, is_troubled, Duration::ZERO));
    }

    /// Namespaces that are gone since.
    fn discover(&mut self, now: BootTime) -> Vec<u32> {
        let proc = Proc::new(&self.proc);
        let mut homes = std::mem::take(&mut self.homes);
        if self.discovered_all.is_none_or(|at| DISCOVER_ALL <= now.since(at)) {
            let is_due = self.discovered_all.is_some();
            self.discovered_all = Some(now);
            homes.clear();
            if is_due {
                self.not_found.clear();
            }
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
        let gone = self.places.extract_if(.., |netns, _| !found.contains_key(netns));
        let gone = gone.map(|(netns, _)| netns).collect();
        for (netns, pids) in found {
            let Some(pid) = pids.first().copied() else { continue };
            if self.places.len() < NAMESPACES_MAX || self.places.contains_key(&netns) {
                let place = self.places.entry(netns).or_insert_with(|| Place::new(pid));
                (place.pid, place.pids) = (pid, pids);
            }
        }
        gone
    }

    fn visit(&mut self, now: BootTime, netns: u32, look: &mut Look) {
        let Some(place) = self.places.get_mut(&netns) else { return };
        let (traffic, datagrams) = Traffic::of(&self.proc, place.pid);
        look.stuck.extend(place.unanswered(now, &self.proc, netns, datagrams));
        if !traffic.has_sockets() {
            place.next = now + if place.spell.is_on(now) { SOON } else { EVERY };
            look.listeners.extend(place.ledger.all_closed(netns));
            return;
        }
        let has_moved = place.traffic.as_ref() != Some(&traffic);
        // Both ends of a connection are joined by the second dump.
        let is_calm = place.ledger.is_calm() && !place.spell.is_on(now);
        let is_still = !has_moved && 1 <= place.unmoved && is_calm;
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
        let halted = self.halted.get_or_insert_with(|| Halted::new(&self.proc, &self.cgroup));
        look.stuck.extend(pass.stuck(netns, &whose, |server| halted.is(server)));
        look.moved.extend(place.ledger.movement.news(netns));
        if place.ledger.has_news_of_the_slow(now) {
            place.trouble(now);
        }
        let cost = clock::thread_cpu().saturating_sub(before);
        place.next = now + pause(cost, place.spell.is_on(now), SOON);
    }
}

/// So that looks of this cost stay within their share of a CPU.
fn pause(cost: Duration, is_troubled: bool, least: Duration) -> Duration {
    let (spare, most) =
        if is_troubled { (SPARE_IN_TROUBLE, PAUSE_IN_TROUBLE_MAX) } else { (SPARE, PAUSE_MAX) };
    (cost * spare).clamp(least, most)
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
            questions: Some(Questions::default()),
            traffic: None,
            dumped: None,
            unmoved: 0,
            next: BootTime(0),
            spell: Spell::default(),
        }
    }

    /// Its turn comes at once, and again soon.
    fn trouble(&mut self, now: BootTime) {
        self.ledger.movement.want(now);
        if self.spell.note(now) {
            self.next = self.next.min(now);
        }
    }

    fn dump(&mut self, now: BootTime, proc: &Path, netns: u32, shared: &mut Shared) -> std::io::Result<()> {
        self.ledger.begin();
        let diag = opened(&mut self.diag, proc, self.pid)?;
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

fn opened<'a>(diag: &'a mut Option<SockDiag>, proc: &Path, pid: u32) -> std::io::Result<&'a mut SockDiag> {
    let open = match diag.take() {
        Some(open) => open,
        None => SockDiag::open_in(&proc.join(format!("{pid}/ns/net")))?,
    };
    Ok(diag.insert(open))
}

#[cfg(test)]
mod tests;
