//! Unix sockets: how much lies in them is known, how much was read is not. What does not become less is not read.

use std::collections::{BTreeMap, BTreeSet};

use super::{LOOKED_UP, Owners, Pass, Waiting, millis};
use crate::{
    engine::time::BootTime,
    sense::poll::{sockets::LISTEN, unix_sockets::UnixSocket},
    signal::work::Backlog,
};

#[derive(Default)]
pub(super) struct ByName {
    queues: BTreeMap<u64, Queue>,
}

struct Queue {
    length: u32,
    /// It has not become less and was not empty since.
    since: BootTime,
}

impl ByName {
    /// Only what is served: whoever is connected to a bus that it does not listen to leaves no work undone. Others may
    /// have a socket of the same name: work waits only for whoever is known to have the descriptor, alone if it is a
    /// connection (a child that has inherited it may be reading).
    pub(super) fn update(&mut self, now: BootTime, sockets: &[UnixSocket], owners: &Owners, pass: &mut Pass) {
        let owner_of = |socket: &UnixSocket| owners.by_inode.get(&socket.inode).copied();
        let is_known_listener = |socket: &&UnixSocket| socket.state == LISTEN && owner_of(socket).is_some();
        let served: BTreeSet<&[u8]> =
            sockets.iter().filter(is_known_listener).map(|socket| socket.name.as_slice()).collect();
        let mut seen = BTreeSet::new();
        for socket in sockets.iter().filter(|socket| socket.inode != 0) {
            if !served.contains(socket.name.as_slice()) {
                continue;
            }
            seen.insert(socket.cookie);
            let queue = self.queue(now, socket);
            let Some(owner) = owner_of(socket) else {
                pass.has_strangers |= 0 < queue.length && LOOKED_UP.contains(&now.since(queue.since));
                continue;
            };
            let sharers = owners.sharers.get(&socket.inode);
            if socket.state == LISTEN {
                queue.is_not_accepted(pass.waiting.entry(owner).or_default(), now, socket);
                for sharer in sharers.filter(|_| 0 < socket.receive_queue).into_iter().flatten() {
                    pass.waiting.entry(*sharer).or_default().unix.shares = true;
                }
            } else if sharers.is_none() {
                queue.is_not_read(pass.waiting.entry(owner).or_default(), now);
            }
        }
        self.queues.retain(|cookie, _| seen.contains(cookie));
    }

    fn queue(&mut self, now: BootTime, socket: &UnixSocket) -> &Queue {
        let length = socket.receive_queue;
        let queue = self.queues.entry(socket.cookie).or_insert(Queue { length, since: now });
        // Output that the peer does not take is a reason not to read on.
        let is_held_up = socket.state != LISTEN && 0 < socket.send_queue;
        if length == 0 || length < queue.length || is_held_up {
            queue.since = now;
        }
        queue.length = length;
        queue
    }
}

impl Queue {
    fn is_not_accepted(&self, waiting: &mut Waiting, now: BootTime, socket: &UnixSocket) {
        let oldest_ms = millis(now.since(self.since));
        let other = waiting.unix.backlog.as_ref();
        if 0 < self.length && other.is_none_or(|other| other.oldest_ms <= oldest_ms) {
            let (limit, length) = (socket.send_queue, self.length);
            waiting.unix.backlog = Some(Backlog { waiting: length, limit, oldest_ms, ..Backlog::default() });
        }
    }

    fn is_not_read(&self, waiting: &mut Waiting, now: BootTime) {
        if 0 < self.length {
            let sum = waiting.unix.unread.get_or_insert_default();
            sum.sockets += 1;
            sum.bytes += u64::from(self.length);
            sum.oldest_ms = sum.oldest_ms.max(millis(now.since(self.since)));
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::sense::poll::sockets::ESTABLISHED;

    const OWNER: u32 = 7;

    fn socket(cookie: u64, state: u8, receive_queue: u32) -> UnixSocket {
        UnixSocket {
            cookie,
            state,
            inode: cookie as u32,
            name: b"/run/web".to_vec(),
            receive_queue,
            send_queue: 0,
        }
    }

    fn run(by_name: &mut ByName, second: u64, sockets: &[UnixSocket]) -> Pass {
        let owners =
            Owners { by_inode: BTreeMap::from([(1, OWNER), (2, OWNER), (9, OWNER)]), ..Owners::default() };
        let mut pass = Pass::default();
        by_name.update(BootTime(1) + Duration::from_secs(second), sockets, &owners, &mut pass);
        pass
    }

    #[test]
    fn what_does_not_become_less_waits() {
        let mut by_name = ByName::default();
        let all = |queue, bytes| {
            [socket(1, LISTEN, queue), socket(2, ESTABLISHED, bytes), socket(3, ESTABLISHED, bytes)]
        };
        let first = run(&mut by_name, 0, &all(1, 5));
        assert!(!first.has_strangers);
        let pass = run(&mut by_name, 5, &all(2, 7));
        let waiting = &pass.waiting[&OWNER];
        assert!(
            pass.has_strangers,
            "the third was accepted after the owners were looked up, or is a stranger's"
        );
        assert!(waiting.unread.is_none() && waiting.backlog.is_none(), "kept apart");
        let (unread, backlog) =
            (waiting.unix.unread.as_ref().unwrap(), waiting.unix.backlog.as_ref().unwrap());
        assert_eq!((unread.sockets, unread.bytes, unread.oldest_ms), (1, 7, 5000));
        assert_eq!((backlog.waiting, backlog.oldest_ms, waiting.moved), (2, 5000, false));
        let pass = run(&mut by_name, 6, &all(1, 6));
        let waiting = &pass.waiting[&OWNER];
        assert!(!waiting.moved && !waiting.accepted, "TCP's alone");
        assert_eq!(waiting.unix.unread.as_ref().unwrap().oldest_ms, 0);
        let later = run(&mut by_name, 60, &all(1, 6));
        assert!(!later.has_strangers, "whose it is was looked up meanwhile");
    }

    #[test]
    fn what_a_child_has_inherited_it_may_be_reading() {
        let owners = Owners {
            by_inode: BTreeMap::from([(1, OWNER), (2, OWNER)]),
            sharers: BTreeMap::from([(2, vec![8])]),
            ..Owners::default()
        };
        let (mut by_name, mut pass) = (ByName::default(), Pass::default());
        by_name.update(BootTime(1), &[socket(1, LISTEN, 0), socket(2, ESTABLISHED, 5)], &owners, &mut pass);
        assert!(pass.waiting[&OWNER].unix.is_empty());
    }

    #[test]
    fn a_client_that_does_not_listen_to_its_bus_leaves_no_work_undone() {
        let mut by_name = ByName::default();
        let bus = |second| UnixSocket { name: b"/run/bus".to_vec(), ..socket(9, ESTABLISHED, second as u32) };
        assert!((0..30).all(|second| run(&mut by_name, second, &[bus(second)]).waiting.is_empty()));
    }

    #[test]
    fn whoever_cannot_send_need_not_read() {
        let mut by_name = ByName::default();
        for second in 0..20 {
            let held = UnixSocket { send_queue: 4096, ..socket(2, ESTABLISHED, 5) };
            let pass = run(&mut by_name, second, &[socket(1, LISTEN, 0), held]);
            assert!(!pass.waiting[&OWNER].is_worth_saying());
        }
    }
}
