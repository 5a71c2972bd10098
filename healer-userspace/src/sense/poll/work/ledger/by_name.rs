//! Unix sockets: how much lies in them is known, how much was read is not. What does not become less is not read.

use std::collections::{BTreeMap, BTreeSet};

use super::{Owners, Pass, WORTH_SAYING, Waiting, millis};
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
    /// It has become less since the look before.
    was_read: bool,
}

impl ByName {
    /// Only what is served: whoever is connected to a bus that it does not listen to leaves no work undone. Others may
    /// have a socket of the same name: bytes wait only for whoever is known to have the descriptor.
    pub(super) fn update(&mut self, now: BootTime, sockets: &[UnixSocket], owners: &Owners, pass: &mut Pass) {
        let owner_of = |socket: &UnixSocket| owners.by_inode.get(&socket.inode).copied();
        let listeners = sockets.iter().filter(|socket| socket.state == LISTEN);
        let served: BTreeMap<&[u8], u32> = listeners
            .filter_map(|socket| owner_of(socket).map(|owner| (socket.name.as_slice(), owner)))
            .collect();
        let mut seen = BTreeSet::new();
        for socket in sockets.iter().filter(|socket| socket.inode != 0) {
            let Some(serving) = served.get(socket.name.as_slice()) else {
                continue;
            };
            seen.insert(socket.cookie);
            let is_new = !self.queues.contains_key(&socket.cookie);
            pass.waiting.entry(*serving).or_default().accepted |= is_new && socket.state != LISTEN;
            let queue = self.queue(now, socket);
            match owner_of(socket) {
                Some(owner) => queue.waits_for(pass.waiting.entry(owner).or_default(), now, socket),
                None => pass.has_strangers |= 0 < queue.length && WORTH_SAYING <= now.since(queue.since),
            }
            if socket.state == LISTEN && 0 < socket.receive_queue {
                for sharer in owners.sharers.get(&socket.inode).into_iter().flatten() {
                    pass.waiting.entry(*sharer).or_default().shares = true;
                }
            }
        }
        self.queues.retain(|cookie, _| seen.contains(cookie));
    }

    fn queue(&mut self, now: BootTime, socket: &UnixSocket) -> &Queue {
        let length = socket.receive_queue;
        let queue = self.queues.entry(socket.cookie).or_insert(Queue { length, since: now, was_read: false });
        queue.was_read = length < queue.length;
        // Output that the peer does not take is a reason not to read on.
        let is_held_up = socket.state != LISTEN && 0 < socket.send_queue;
        if length == 0 || queue.was_read || is_held_up {
            queue.since = now;
        }
        queue.length = length;
        queue
    }
}

impl Queue {
    fn waits_for(&self, waiting: &mut Waiting, now: BootTime, socket: &UnixSocket) {
        let oldest_ms = millis(now.since(self.since));
        if socket.state == LISTEN {
            waiting.accepted |= self.was_read;
            if 0 < self.length && waiting.backlog.as_ref().is_none_or(|other| other.oldest_ms <= oldest_ms) {
                let (limit, length) = (socket.send_queue, self.length);
                waiting.backlog = Some(Backlog { waiting: length, limit, oldest_ms, ..Backlog::default() });
            }
            return;
        }
        waiting.moved |= self.was_read;
        if 0 < self.length {
            waiting.uncounted = true;
            let sum = waiting.unread.get_or_insert_default();
            sum.sockets += 1;
            sum.bytes += u64::from(self.length);
            sum.oldest_ms = sum.oldest_ms.max(oldest_ms);
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
        assert!(first.waiting[&OWNER].accepted && !first.has_strangers);
        let pass = run(&mut by_name, 5, &all(2, 7));
        let waiting = &pass.waiting[&OWNER];
        assert!(
            pass.has_strangers,
            "the third was accepted after the owners were looked up, or is a stranger's"
        );
        assert!(waiting.uncounted);
        let (unread, backlog) = (waiting.unread.as_ref().unwrap(), waiting.backlog.as_ref().unwrap());
        assert_eq!((unread.sockets, unread.bytes, unread.oldest_ms), (1, 7, 5000));
        assert_eq!((backlog.waiting, backlog.oldest_ms, waiting.moved), (2, 5000, false));
        let pass = run(&mut by_name, 6, &all(1, 6));
        let waiting = &pass.waiting[&OWNER];
        assert!(waiting.moved && waiting.accepted);
        assert_eq!(waiting.unread.as_ref().unwrap().oldest_ms, 0);
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
