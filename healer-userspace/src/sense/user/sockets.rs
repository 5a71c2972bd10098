//! What classic tracepoints' records about sockets lack: the owner's start and network namespace from `/proc`,
//! what only the socket itself knows from the kernel's table of sockets.

use std::collections::BTreeMap;

use healer_common::{
    event::{
        Event, Header,
        part::{CgroupRef, TaskRef},
        socket_state::SocketState,
        tcp_retransmit::TcpRetransmit,
        wire::Wire as _,
    },
    network::{PeerCounters, PeerKey},
};

use super::{Duty, User, emit, people::People};
use crate::{
    identity::lru::Lru,
    sense::{
        poll::sockets::{SockDiag, Socket},
        waits::Proc,
    },
};

const OWNERS_KEPT: usize = 4096;
const NAMESPACES_OPEN: usize = 64;

/// Where the owners of sockets live.
pub(super) struct Owners {
    proc: Proc,
    /// By thread group and start: one that is gone keeps what it had.
    namespaces: Lru<(u32, u64), u32>,
    tables: BTreeMap<u32, SockDiag>,
}

impl Owners {
    pub(super) fn new(proc: Proc) -> Self {
        Self { proc, namespaces: Lru::new(OWNERS_KEPT), tables: BTreeMap::new() }
    }

    pub(super) fn proc(&self) -> Proc {
        self.proc.clone()
    }

    /// Start and namespace; zeros where nobody knows.
    fn of(&mut self, tgid: u32, people: &mut People) -> (u64, u32) {
        let task = people.get(tgid).map_or(TaskRef::ZERO, |person| person.task);
        let key = (tgid, task.start_boot_ns);
        if let Some(known) = self.namespaces.get(&key) {
            return (task.start_boot_ns, *known);
        }
        let Some((inode, _)) = self.proc.net_namespace(tgid) else {
            return (task.start_boot_ns, 0);
        };
        let inode = u32::try_from(inode).unwrap_or(0);
        self.namespaces.insert(key, inode);
        (task.start_boot_ns, inode)
    }

    /// The living connection between these ports.
    fn connection(&mut self, (tgid, netns): (u32, u32), local: u32, remote: u32) -> Option<Socket> {
        if !self.tables.contains_key(&netns) {
            if NAMESPACES_OPEN <= self.tables.len() {
                self.tables.clear();
            }
            let (_, path) = self.proc.net_namespace(tgid)?;
            self.tables.insert(netns, SockDiag::open_in(&path).ok()?);
        }
        let Ok(sockets) = self.tables.get_mut(&netns)?.dump() else {
            self.tables.remove(&netns);
            return None;
        };
        let is_it =
            |socket: &Socket| (u32::from(socket.local_port), u32::from(socket.peer_port)) == (local, remote);
        sockets.into_iter().find(is_it)
    }
}

impl User {
    pub(super) fn socket(&mut self, header: Header, mut state: SocketState, out: &mut impl FnMut(&[u8])) {
        (state.owner_start_boot_ns, state.netns) = self.owners.of(state.owner_tgid, &mut self.people);
        emit(header, &Event::SocketState(state), out);
    }

    pub(super) fn resent(&mut self, header: Header, mut sent: TcpRetransmit, out: &mut impl FnMut(&[u8])) {
        let tgid = sent.owner_tgid;
        (sent.owner_start_boot_ns, sent.netns) = self.owners.of(tgid, &mut self.people);
        if sent.state != SocketState::SYN_SENT {
            let ports = (sent.local_port, sent.remote_port);
            let found = self.owners.connection((tgid, sent.netns), ports.0, ports.1);
            let Some(info) = found.and_then(|socket| socket.info) else {
                return;
            };
            sent.retransmits = info.retransmits.into();
            sent.unacknowledged = info.bytes_acked as u32;
            // Tail-loss probes and fast retransmits are no news.
            if sent.retransmits == 0 && 0 <= sent.error {
                return;
            }
        }
        emit(header, &Event::TcpRetransmit(sent), out);
    }

    /// What the kernel half has counted, completed, and what was counted here.
    pub(crate) fn complete_peers(&mut self, peers: &mut Vec<(PeerKey, PeerCounters)>) {
        if self.network == Duty::Complete {
            for (key, counters) in &mut *peers {
                (counters.owner_start_boot_ns, key.netns) =
                    self.owners.of(counters.owner_tgid, &mut self.people);
            }
        }
        if let Some(poll) = &self.sockets {
            peers.extend(poll.peers());
        }
    }

    pub(super) fn is_completing_sockets(&self) -> bool {
        self.network == Duty::Complete
    }
}

/// As records have it.
pub(super) fn cgroup(id: u64) -> CgroupRef {
    if id == 0 { CgroupRef::ZERO } else { CgroupRef { id, hierarchy: CgroupRef::V2, pad: 0 } }
}
