//! Questions to name servers that nobody answers. A resolver asks by a connected socket of its own, and the kernel notes
//! on it which CPU brought a datagram (`SO_INCOMING_CPU`, net/ipv4/udp.c `__udp_queue_rcv_skb`): none, no answer.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use rustix::net::sockopt::socket_incoming_cpu;

use super::{
    FlowPoller, Look, Place, Stuck, Whose, opened,
    owners::sockets_of,
    traffic::{Datagrams, Traffic},
};
use crate::{
    engine::time::BootTime,
    sense::{
        poll::{
            JITTER,
            sockets::{SockDiag, Socket},
        },
        waits::{Proc, copy_of},
    },
    signal::network::Stall,
};

const NAMES: u16 = 53;
/// Mostly an answer takes less; and a resolver may wait for a second only (resolv.conf(5), `timeout:1`).
const WAITED: Duration = Duration::from_millis(500);
/// Nobody does: such a socket was left open, or asks nothing.
const WAITS_NO_LONGER: Duration = Duration::from_secs(30);
/// So long after the last one that waited, one more is looked for at every look.
const PURSUED: Duration = Duration::from_secs(15);
const PENDING_MAX: usize = 256;
const ASKERS_MAX: usize = 256;
/// Every process of the namespace and its descriptors are read: seldom, unless they are few.
const AGAIN: Duration = Duration::from_secs(5);
const FEW: usize = 32;
const NO_CPU: u32 = u32::MAX;

/// Process and descriptor.
type Owner = (u32, u32);

#[derive(Default)]
pub(super) struct Questions {
    /// By cookie.
    pending: BTreeMap<u64, Pending>,
    /// At the last dump.
    sent: u64,
    /// Who asked last, by cgroup: it mostly asks again.
    askers: BTreeMap<u64, u32>,
    searched: Option<BootTime>,
    looked: BootTime,
    pursued_until: BootTime,
}

struct Pending {
    socket: Socket,
    since: BootTime,
    owner: Option<Owner>,
    is_answered: bool,
}

impl FlowPoller {
    /// Most are given up before the next turn of their namespace; one dump of UDP costs a tenth of a millisecond.
    pub(super) fn pursue_questions(&mut self, now: BootTime, look: &mut Look) {
        let is_pursued = |questions: &Questions| questions.looked < now && now < questions.pursued_until;
        for (netns, place) in &mut self.places {
            if place.questions.as_ref().is_some_and(is_pursued) {
                let (_, datagrams) = Traffic::of(&self.proc, place.pid);
                look.stuck.extend(place.unanswered(now, &self.proc, *netns, datagrams));
            }
        }
    }
}

impl Place {
    pub(super) fn unanswered(
        &mut self,
        now: BootTime,
        proc: &Path,
        netns: u32,
        datagrams: Option<Datagrams>,
    ) -> Vec<Stuck> {
        let datagrams = datagrams.unwrap_or_default();
        let Some(questions) = self.questions.as_mut().filter(|one| one.has_news(datagrams)) else {
            return Vec::new();
        };
        let looked =
            opened(&mut self.diag, proc, self.pid).and_then(|diag| questions.look(now, datagrams.sent, diag));
        if looked.is_err() {
            (self.diag, self.questions) = (None, None);
            return Vec::new();
        }
        questions.unanswered(now, &Proc::new(proc), &self.pids, (netns, datagrams.received))
    }
}

impl Questions {
    /// Without datagrams that were sent since the last look there is nothing new to see.
    fn has_news(&self, datagrams: Datagrams) -> bool {
        self.sent != datagrams.sent || !self.pending.is_empty()
    }

    /// # Errors
    /// The kernel has no `udp_diag`, or refuses.
    fn look(&mut self, now: BootTime, sent: u64, diag: &mut SockDiag) -> io::Result<()> {
        (self.sent, self.looked) = (sent, now);
        let mut before = core::mem::take(&mut self.pending);
        diag.each_udp(NAMES, |socket| {
            if socket.unread() != 0 || PENDING_MAX <= self.pending.len() {
                return;
            }
            let known = before.remove(&socket.cookie);
            let new = Pending { socket, since: now, owner: None, is_answered: false };
            self.pending.insert(socket.cookie, known.unwrap_or(new));
        })?;
        if self.pending.values().any(|one| one.is_news(now)) {
            self.pursued_until = now + PURSUED;
        }
        Ok(())
    }

    /// At the last look: whoever was is looked at again soon, for it may not wait for long.
    pub(super) fn is_asking(&self, now: BootTime) -> bool {
        self.pending.values().any(|one| one.is_news(now))
    }

    /// Who has waited for a while; `received`: datagrams that came into the namespace so far.
    fn unanswered(
        &mut self,
        now: BootTime,
        proc: &Proc,
        pids: &[u32],
        (netns, received): (u32, u64),
    ) -> Vec<Stuck> {
        self.find(now, proc, pids);
        let mut unanswered = Vec::new();
        for (cookie, pending) in self.pending.iter_mut().filter(|(_, one)| one.is_late(now)) {
            let Some((pid, fd)) = pending.owner else { continue };
            match copy_of(pid, fd).map(|socket| socket_incoming_cpu(&socket)) {
                Some(Ok(NO_CPU)) => unanswered.push(Stuck {
                    netns,
                    local: pending.socket.local(),
                    peer: pending.socket.peer(),
                    cookie: *cookie,
                    whose: Whose { pid: Some(pid), cgroup: pending.socket.cgroup },
                    why: Stall::NoReply,
                    since: pending.since,
                    retransmits: 0,
                    acked: received,
                    server: None,
                    halted: false,
                }),
                Some(Ok(_)) => pending.is_answered = true,
                // It is closed by now, or another one's.
                Some(Err(_)) | None => {}
            }
        }
        unanswered
    }

    fn find(&mut self, now: BootTime, proc: &Proc, pids: &[u32]) {
        let late = |one: &&mut Pending| one.is_late(now) && one.owner.is_none();
        for pending in self.pending.values_mut().filter(late) {
            let asker = self.askers.get(&pending.socket.cgroup).copied();
            let is_it = |(inode, _): &(u32, u32)| *inode == pending.socket.inode;
            pending.owner = asker.and_then(|pid| Some((pid, sockets_of(proc, pid).find(is_it)?.1)));
        }
        let missing: BTreeSet<u32> =
            self.pending.values_mut().filter(late).map(|one| one.socket.inode).collect();
        let is_soon = FEW < pids.len() && self.searched.is_some_and(|at| now.since(at) < AGAIN);
        if missing.is_empty() || is_soon {
            return;
        }
        self.searched = Some(now);
        let mut found: BTreeMap<u32, Owner> = BTreeMap::new();
        for pid in pids.iter().copied() {
            for (inode, fd) in sockets_of(proc, pid).filter(|(inode, _)| missing.contains(inode)) {
                found.entry(inode).or_insert((pid, fd));
            }
        }
        if ASKERS_MAX <= self.askers.len() {
            self.askers.clear();
        }
        for pending in self.pending.values_mut().filter(late) {
            pending.owner = found.get(&pending.socket.inode).copied();
            if let Some((pid, _)) = pending.owner {
                self.askers.insert(pending.socket.cgroup, pid);
            }
        }
    }
}

impl Pending {
    fn is_news(&self, now: BootTime) -> bool {
        now.since(self.since) < WAITS_NO_LONGER && !self.is_answered
    }

    fn is_late(&self, now: BootTime) -> bool {
        WAITED <= now.since(self.since) + JITTER && self.is_news(now)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, path::Path};

    use super::*;

    /// Port 53 of an address of this machine that nobody else uses.
    const HERE: &str = "127.53.53.1:53";

    #[test]
    fn a_question_without_an_answer_is_told_with_who_asked() {
        let server = UdpSocket::bind(HERE).unwrap();
        let (silent, answered) = (asks(), asks());
        let from = answered.local_addr().unwrap();
        server.send_to(b"here", from).unwrap();
        let own = std::process::id();
        let (mut questions, proc) = (Questions::default(), Proc::new(Path::new("/proc")));
        let mut diag = SockDiag::open().unwrap();
        let later = |second: u64| BootTime(second * 1_000_000_000);
        assert!(!questions.is_asking(later(1)));
        questions.look(later(1), 1, &mut diag).unwrap();
        assert!(questions.is_asking(later(1)) && !questions.is_asking(later(60)), "it was left open");
        assert_eq!(questions.unanswered(later(1), &proc, &[own], (7, 0)), []);
        answered.recv(&mut [0; 8]).unwrap();
        questions.look(later(2), 1, &mut diag).unwrap();
        let told = questions.unanswered(later(2), &proc, &[own], (7, 0));
        let mine: Vec<_> = told.iter().filter(|one| one.peer == server.local_addr().unwrap()).collect();
        let [one] = &mine[..] else { panic!("{told:?}") };
        assert_eq!((one.local, one.whose.pid), (silent.local_addr().unwrap(), Some(own)));
        drop(silent);
        questions.look(later(3), 1, &mut diag).unwrap();
        assert!(
            !questions.unanswered(later(3), &proc, &[own], (7, 0)).iter().any(|two| two.cookie == one.cookie)
        );
    }

    fn asks() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(HERE).unwrap();
        socket.send(b"who?").unwrap();
        socket
    }
}
