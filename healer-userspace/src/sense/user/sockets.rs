//! What classic tracepoints' records about sockets lack: the owner's start and network namespace from `/proc`,
//! what only the socket itself knows from the kernel's table of sockets.

use core::time::Duration;
use std::{collections::BTreeMap, io, path::Path};

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
    clock,
    engine::time::BootTime,
    identity::lru::Lru,
    sense::{
        poll::sockets::{Info, SockDiag, Socket},
        waits::Proc,
    },
};

const OWNERS_KEPT: usize = 4096;
const NAMESPACES_OPEN: usize = 64;
/// The kernel's table may take a tenth of the reader's time.
const SPARE: u32 = 9;
/// What a table said is no news for longer; an open one keeps its namespace alive.
const FRESH: Duration = Duration::from_secs(1);
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Where the owners of sockets live.
pub(super) struct Owners {
    proc: Proc,
    /// By thread group and start: one that is gone keeps what it had.
    namespaces: Lru<(u32, u64), u32>,
    tables: BTreeMap<u32, Table>,
    asked: BTreeMap<u32, Asked>,
    /// When any of the tables may be read again.
    next: BootTime,
}

/// About connections of a namespace.
struct Asked {
    /// Who lives there.
    tgid: u32,
    /// Since its table was last read, which was tried at that time.
    waits: bool,
    tried: BootTime,
}

/// The kernel's table of one namespace, as it was just now.
struct Table {
    diag: SockDiag,
    /// Those that wait for an answer, by local and remote port.
    waiting: BTreeMap<(u32, u32), Info>,
    read_at: BootTime,
}

impl Table {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { diag: SockDiag::open_in(path)?, waiting: BTreeMap::new(), read_at: BootTime(0) })
    }

    fn look(&mut self) -> io::Result<()> {
        let waits = |socket: Socket| {
            let ports = (u32::from(socket.local_port), u32::from(socket.peer_port));
            Some((ports, socket.info.filter(|info| info.retransmits != 0 || socket.send_queue != 0)?))
        };
        self.waiting = self.diag.dump()?.into_iter().filter_map(waits).collect();
        self.read_at = clock::boot();
        Ok(())
    }
}

impl Owners {
    pub(super) fn new(proc: Proc) -> Self {
        Self {
            proc,
            namespaces: Lru::new(OWNERS_KEPT),
            tables: BTreeMap::new(),
            asked: BTreeMap::new(),
            next: BootTime(0),
        }
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

    /// Of the living connection between these ports, as it was at the last look: records wait in their ring meanwhile,
    /// and a socket that is asked again in vain sends another.
    fn connection(&mut self, (tgid, netns): (u32, u32), ports: (u32, u32)) -> Option<Info> {
        let now = clock::boot();
        let tried = self.asked.get(&netns).map_or(BootTime(0), |asked| asked.tried);
        self.asked.insert(netns, Asked { tgid, waits: true, tried });
        if self.next <= now {
            self.read_the_longest_unread(now);
        }
        let table = self.tables.get(&netns).filter(|table| now.since(table.read_at) <= FRESH)?;
        table.waiting.get(&ports).copied()
    }

    fn read_the_longest_unread(&mut self, now: BootTime) {
        self.tables.retain(|_, table| now.since(table.read_at) < KEPT_FOR);
        self.asked.retain(|_, asked| asked.waits || now.since(asked.tried) < KEPT_FOR);
        let waiting = self.asked.iter_mut().filter(|(_, asked)| asked.waits);
        let Some((netns, asked)) = waiting.min_by_key(|(_, asked)| asked.tried) else { return };
        (asked.waits, asked.tried) = (false, now);
        let (netns, tgid) = (*netns, asked.tgid);
        if self.look(tgid, netns).is_none() {
            self.tables.remove(&netns);
        }
        let after = clock::boot();
        self.next = after + after.since(now) * SPARE;
    }

    fn look(&mut self, tgid: u32, netns: u32) -> Option<()> {
        if !self.tables.contains_key(&netns) {
            let (_, path) = self.proc.net_namespace(tgid)?;
            let table = Table::open(&path).ok()?;
            if NAMESPACES_OPEN <= self.tables.len() {
                let oldest =
                    self.tables.iter().min_by_key(|(_, table)| table.read_at).map(|(netns, _)| *netns);
                oldest.map(|oldest| self.tables.remove(&oldest));
            }
            self.tables.insert(netns, table);
        }
        self.tables.get_mut(&netns)?.look().ok()
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
            let Some(info) = self.owners.connection((tgid, sent.netns), ports) else {
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
            // Where programs tell of one and the table of sockets of the other, both count the same peers.
            let place = |key: &PeerKey| (key.cgroup_id, key.netns, key.address, key.port);
            let known: BTreeMap<_, usize> =
                peers.iter().zip(0..).map(|((key, _), at)| (place(key), at)).collect();
            for (key, counted) in poll.peers() {
                match known.get(&place(&key)).and_then(|at| peers.get_mut(*at)) {
                    Some((_, counters)) => add(counters, &counted),
                    None => peers.push((key, counted)),
                }
            }
        }
    }

    /// Programs on tracepoints keep the makers of connections.
    pub(crate) fn is_completing_sockets(&self) -> bool {
        self.network == Duty::Complete
    }
}

/// What the table of sockets counts.
fn add(to: &mut PeerCounters, counted: &PeerCounters) {
    if to.owner_tgid == 0 {
        (to.owner_tgid, to.owner_start_boot_ns) = (counted.owner_tgid, counted.owner_start_boot_ns);
    }
    to.ok = to.ok.wrapping_add(counted.ok);
    to.syn_retransmits = to.syn_retransmits.wrapping_add(counted.syn_retransmits);
    to.retransmits = to.retransmits.wrapping_add(counted.retransmits);
    to.last_ok_ns = to.last_ok_ns.max(counted.last_ok_ns);
    to.last_retransmit_told_ns = to.last_retransmit_told_ns.max(counted.last_retransmit_told_ns);
}

/// As records have it.
pub(super) fn cgroup(id: u64) -> CgroupRef {
    if id == 0 { CgroupRef::ZERO } else { CgroupRef { id, hierarchy: CgroupRef::V2, pad: 0 } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_and_the_table_of_sockets_count_of_one_peer_is_one() {
        let mut by_program = PeerCounters { refused: 2, last_ok_ns: 5, ..PeerCounters::ZERO };
        let polled = PeerCounters { ok: 3, last_ok_ns: 9, owner_tgid: 7, ..PeerCounters::ZERO };
        add(&mut by_program, &polled);
        let expected = PeerCounters { refused: 2, ..polled };
        assert_eq!(by_program, expected);
        add(&mut by_program, &PeerCounters { owner_tgid: 8, ..PeerCounters::ZERO });
        assert_eq!(by_program, expected, "whom a program has named stays");
    }
}
