//! Connections and listeners by the kernel's table of sockets, once a second. A refusal is over too soon to be
//! seen; whoever waits for an answer is not.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use healer_common::{
    event::{
        Event, EventKind, part::TaskRef, socket_state::SocketState, tcp_retransmit::TcpRetransmit,
        wire::Wire as _,
    },
    network::{PEERS_MAX, PeerCounters, PeerKey},
};

use super::{people::People, sockets::cgroup};
use crate::{
    clock,
    engine::time::BootTime,
    sense::{
        poll::sockets::{CLOSE_WAIT, ESTABLISHED, LISTEN, SYN_SENT, SockDiag, Socket},
        waits::Proc,
    },
};

const EVERY: Duration = Duration::from_secs(1);
/// It may use one percent of a CPU; older news are none.
const SPARE: u32 = 100;
const PAUSE_MAX: Duration = Duration::from_secs(4);
const NAMESPACES_MAX: usize = 256;

pub(super) struct SocketPoll {
    proc: Proc,
    /// What programs do not tell: listeners and connections made, requests and data sent again.
    tells_states: bool,
    tells_retransmits: bool,
    namespaces: BTreeMap<u32, Namespace>,
    /// By cgroup, namespace, address and port.
    peers: BTreeMap<(u64, u32, [u8; 16], u32), PeerCounters>,
    next: BootTime,
}

#[derive(Default)]
struct Namespace {
    table: Option<SockDiag>,
    members: Vec<u32>,
    /// By cookie; `None` before the first look, which counts nothing.
    seen: Option<BTreeMap<u64, Seen>>,
}

#[derive(Clone, Copy)]
struct Seen {
    socket: Socket,
    owner: TaskRef,
}

impl SocketPoll {
    /// # Errors
    /// The kernel shows no sockets.
    pub(super) fn new(proc: Proc) -> io::Result<Self> {
        SockDiag::open()?.dump()?;
        Ok(Self {
            proc,
            tells_states: false,
            tells_retransmits: false,
            namespaces: BTreeMap::new(),
            peers: BTreeMap::new(),
            next: BootTime(0),
        })
    }

    pub(super) fn tell_of(&mut self, kind: EventKind) {
        self.tells_states |= kind == EventKind::SocketState;
        self.tells_retransmits |= kind == EventKind::TcpRetransmit;
    }

    /// What is new since the last look.
    pub(super) fn look(&mut self, now: BootTime, people: &mut People) -> Vec<Event> {
        if now < self.next {
            return Vec::new();
        }
        let before = clock::thread_cpu();
        self.find_namespaces();
        let inodes: Vec<u32> = self.namespaces.keys().copied().collect();
        let events = inodes.into_iter().flat_map(|inode| self.look_into(inode, now, people)).collect();
        let cost = clock::thread_cpu().saturating_sub(before);
        self.next = now + (cost * SPARE).clamp(EVERY, PAUSE_MAX) - Duration::from_millis(50);
        events
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = (PeerKey, PeerCounters)> {
        self.peers.iter().map(|(&(cgroup_id, netns, address, port), counters)| {
            (PeerKey { cgroup_id, address, netns, port }, *counters)
        })
    }

    fn find_namespaces(&mut self) {
        let mut members: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for pid in self.proc.pids() {
            let inode = self.proc.net_namespace(pid).and_then(|(inode, _)| u32::try_from(inode).ok());
            if let Some(inode) = inode {
                members.entry(inode).or_default().push(pid);
            }
        }
        self.namespaces.retain(|inode, _| members.contains_key(inode));
        for (inode, members) in members.into_iter().take(NAMESPACES_MAX) {
            self.namespaces.entry(inode).or_default().members = members;
        }
    }

    fn look_into(&mut self, inode: u32, now: BootTime, people: &mut People) -> Vec<Event> {
        let Some(namespace) = self.namespaces.get_mut(&inode) else {
            return Vec::new();
        };
        let Ok(sockets) = namespace.ask(&self.proc) else {
            namespace.table = None;
            return Vec::new();
        };
        let is_first = namespace.seen.is_none();
        let before = namespace.seen.take().unwrap_or_default();
        let mut owners = FdOwners { proc: &self.proc, members: &namespace.members, by_inode: None };
        let mut seen = BTreeMap::new();
        for socket in of_clients_and_listeners(sockets) {
            let old = before.get(&socket.cookie);
            let owner = old.map(|old| old.owner).filter(|owner| owner.tgid != 0);
            let owner = owner.unwrap_or_else(|| owners.of(socket.inode, people));
            seen.insert(socket.cookie, Seen { socket, owner });
        }
        namespace.seen = Some(seen.clone());
        let mut events = Vec::new();
        for (cookie, one) in &seen {
            let old = before.get(cookie).map(|old| &old.socket);
            events.extend(self.changed(inode, now, one, old, is_first));
        }
        let gone = before.iter().filter(|(cookie, _)| !seen.contains_key(cookie));
        let closed = gone.filter(|(_, old)| old.socket.state == LISTEN);
        events.extend(closed.filter(|_| self.tells_states).map(|(_, old)| listens(inode, old, false)));
        events
    }

    fn changed(
        &mut self,
        netns: u32,
        now: BootTime,
        one: &Seen,
        old: Option<&Socket>,
        is_first: bool,
    ) -> Option<Event> {
        let socket = &one.socket;
        if socket.state == LISTEN {
            return (self.tells_states && old.is_none()).then(|| listens(netns, one, true));
        }
        let (tells_states, tells_retransmits) = (self.tells_states, self.tells_retransmits);
        let counters = self.counters(netns, one, now);
        let was_made = old.is_none_or(|old| old.state == SYN_SENT) && !is_first;
        if tells_states && socket.state != SYN_SENT && was_made {
            counters.ok = counters.ok.wrapping_add(1);
            counters.last_ok_ns = now.0;
        }
        let retransmits = timeouts(socket);
        if !tells_retransmits || retransmits <= old.map_or(0, timeouts) {
            return None;
        }
        let count =
            if socket.state == SYN_SENT { &mut counters.syn_retransmits } else { &mut counters.retransmits };
        *count = count.wrapping_add(1);
        counters.last_retransmit_told_ns = now.0;
        Some(resent(netns, one, retransmits))
    }

    fn counters(&mut self, netns: u32, one: &Seen, now: BootTime) -> &mut PeerCounters {
        let socket = &one.socket;
        let key = (socket.cgroup, netns, socket.remote, u32::from(socket.peer_port));
        if PEERS_MAX as usize <= self.peers.len() && !self.peers.contains_key(&key) {
            let last = |counters: &PeerCounters| counters.last_ok_ns.max(counters.last_retransmit_told_ns);
            let oldest = self.peers.iter().min_by_key(|(_, counters)| last(counters)).map(|(key, _)| *key);
            oldest.map(|oldest| self.peers.remove(&oldest));
        }
        let new = PeerCounters { last_ok_ns: 0, last_told_ns: now.0, ..PeerCounters::ZERO };
        let counters = self.peers.entry(key).or_insert(new);
        if one.owner.tgid != 0 {
            counters.owner_tgid = one.owner.tgid;
            counters.owner_start_boot_ns = one.owner.start_boot_ns;
        }
        counters
    }
}

impl Namespace {
    /// By way of any of those who live there.
    fn ask(&mut self, proc: &Proc) -> io::Result<Vec<Socket>> {
        let table = match self.table.take() {
            Some(table) => table,
            None => self.open(proc)?,
        };
        self.table.insert(table).dump_of(&[SYN_SENT, ESTABLISHED, CLOSE_WAIT, LISTEN])
    }

    fn open(&self, proc: &Proc) -> io::Result<SockDiag> {
        let mut paths = self.members.iter().filter_map(|pid| proc.net_namespace(*pid));
        paths.find_map(|(_, path)| SockDiag::open_in(&path).ok()).ok_or(io::ErrorKind::NotFound.into())
    }
}

/// Whose port is listened on was connected to.
fn of_clients_and_listeners(sockets: Vec<Socket>) -> impl Iterator<Item = Socket> {
    let listening: BTreeSet<u16> =
        sockets.iter().filter(|socket| socket.state == LISTEN).map(|socket| socket.local_port).collect();
    sockets
        .into_iter()
        .filter(move |socket| socket.state == LISTEN || !listening.contains(&socket.local_port))
}

/// Who has a socket among the descriptors; looked up when the first is asked for.
struct FdOwners<'a> {
    proc: &'a Proc,
    members: &'a [u32],
    by_inode: Option<BTreeMap<u32, u32>>,
}

impl FdOwners<'_> {
    fn of(&mut self, inode: u32, people: &mut People) -> TaskRef {
        let (proc, members) = (self.proc, self.members);
        let by_inode = self.by_inode.get_or_insert_with(|| {
            let of = |pid: u32| proc.sockets(pid).into_iter().map(move |inode| (inode, pid));
            // Whoever inherited one is mostly the younger.
            members.iter().rev().copied().flat_map(of).collect()
        });
        let tgid = by_inode.get(&inode).copied();
        tgid.and_then(|tgid| people.get(tgid)).map_or(TaskRef::ZERO, |person| person.task)
    }
}

fn timeouts(socket: &Socket) -> u8 {
    socket.info.map_or(0, |info| info.retransmits)
}

fn listens(netns: u32, one: &Seen, is_on: bool) -> Event {
    let (old_state, new_state) = (SocketState::CLOSE, SocketState::LISTEN);
    let (old_state, new_state) = if is_on { (old_state, new_state) } else { (new_state, old_state) };
    Event::SocketState(SocketState {
        cookie: one.socket.cookie,
        cgroup: cgroup(one.socket.cgroup),
        owner_start_boot_ns: one.owner.start_boot_ns,
        local: one.socket.local,
        owner_tgid: one.owner.tgid,
        netns,
        local_port: one.socket.local_port.into(),
        old_state,
        new_state,
        ..SocketState::ZERO
    })
}

fn resent(netns: u32, one: &Seen, retransmits: u8) -> Event {
    let socket = &one.socket;
    Event::TcpRetransmit(TcpRetransmit {
        cookie: socket.cookie,
        cgroup: cgroup(socket.cgroup),
        owner_start_boot_ns: one.owner.start_boot_ns,
        remote: socket.remote,
        local: socket.local,
        owner_tgid: one.owner.tgid,
        netns,
        remote_port: socket.peer_port.into(),
        local_port: socket.local_port.into(),
        state: socket.state.into(),
        retransmits: retransmits.into(),
        unacknowledged: socket.info.map_or(0, |info| info.bytes_acked as u32),
        flags: TcpRetransmit::SAMPLED,
        ..TcpRetransmit::ZERO
    })
}
