//! What the sockets of one network namespace have told so far: since when bytes lie unread, connections wait to
//! be accepted, and requests have no answer.

mod by_name;

use core::{ops::Range, time::Duration};
use std::collections::{BTreeMap, BTreeSet};

use crate::{
    engine::time::BootTime,
    sense::poll::{
        sockets::{CLOSE_WAIT, ESTABLISHED, Info, LISTEN, Socket},
        unix_sockets::UnixSocket,
    },
    signal::work::{Backlog, Hope, Unanswered, UnixWork, Unread},
};

/// Sooner than this nobody waits: it is not worth a word.
pub(super) const WORTH_SAYING: Duration = Duration::from_secs(2);
/// Fewer may be slow by nature.
pub(super) const UNANSWERED_MIN: u32 = 3;
/// While something waits so long its owner is looked for often; who was not found until then is a stranger.
pub(super) const LOOKED_UP: Range<Duration> = WORTH_SAYING..Duration::from_secs(15);
/// Who has said so many things in a row, with pauses, and got no answer, wants none.
const TELLS: u32 = 3;

/// Who owns what in this namespace.
#[derive(Default)]
pub(super) struct Owners {
    pub(super) by_inode: BTreeMap<u32, u32>,
    pub(super) by_port: BTreeMap<u16, u32>,
    /// Who else has the descriptor: workers inherit their master's listener.
    pub(super) sharers: BTreeMap<u32, Vec<u32>>,
    /// The tracked process that a member belongs to.
    pub(super) root: BTreeMap<u32, u32>,
}

#[derive(Default)]
pub(super) struct Ledger {
    connections: BTreeMap<u64, Connection>,
    listeners: BTreeMap<u64, Queue>,
    ports: BTreeMap<u16, Answers>,
    by_name: by_name::ByName,
}

/// Work that waits for one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Bytes were read or written.
    pub(super) moved: bool,
    /// A connection was taken from a listener.
    pub(super) accepted: bool,
    /// Bytes were written on a connection that it serves.
    pub(super) answered: bool,
    /// It has asked somebody else, and waits for the answer.
    pub(super) asks: bool,
    /// A backlog of somebody else's listener waits for it as well.
    pub(super) shares: bool,
    pub(super) unread: Option<Unread>,
    pub(super) backlog: Option<Backlog>,
    pub(super) unanswered: Option<Unanswered>,
    pub(super) unix: UnixWork,
}

impl Waiting {
    pub(super) fn is_any(&self) -> bool {
        self.shares
            || self.unread.is_some()
            || self.backlog.is_some()
            || self.unanswered.is_some()
            || !self.unix.is_empty()
    }

    /// Something has begun to wait: who has which descriptor is worth a look.
    pub(super) fn has_begun(&self) -> bool {
        let unread = self.unread.iter().chain(&self.unix.unread).map(|unread| unread.oldest_ms);
        let backlog = self.backlog.iter().chain(&self.unix.backlog).map(|backlog| backlog.oldest_ms);
        let unanswered = self.unanswered.iter().filter(|some| UNANSWERED_MIN <= some.sockets);
        let unanswered = unanswered.map(|some| some.oldest_ms);
        unread.chain(backlog).chain(unanswered).any(|ms| LOOKED_UP.contains(&Duration::from_millis(ms)))
    }

    pub(super) fn is_worth_saying(&self) -> bool {
        let long = |ms: u64| WORTH_SAYING <= Duration::from_millis(ms);
        self.unread.as_ref().is_some_and(|unread| long(unread.oldest_ms))
            || self.backlog.as_ref().is_some_and(|backlog| backlog.is_full() || long(backlog.oldest_ms))
            || self.unix.unread.as_ref().is_some_and(|unread| long(unread.oldest_ms))
            || self.unix.backlog.as_ref().is_some_and(|backlog| long(backlog.oldest_ms))
            || self
                .unanswered
                .as_ref()
                .is_some_and(|some| UNANSWERED_MIN <= some.sockets && long(some.oldest_ms))
    }
}

/// What one pass says.
#[derive(Default)]
pub(super) struct Pass {
    pub(super) waiting: BTreeMap<u32, Waiting>,
    /// Some socket is in trouble and its descriptor's owner is not known.
    pub(super) has_strangers: bool,
}

struct Connection {
    consumed: u64,
    sent: u32,
    /// Nothing was read since, though something is there.
    unread_since: BootTime,
    asked_at: Option<BootTime>,
    /// Its peer goes on sending without waiting for an answer.
    one_way: bool,
    received: u64,
    /// Bytes that its process has written, acknowledged or not: what is sent again is none.
    written: u64,
    /// It wrote in the look before.
    writes: bool,
    /// What it has written has no answer since.
    asks: Option<BootTime>,
    /// How often it has written since the last answer, with pauses.
    said: u32,
}

struct Queue {
    length: u32,
    since: BootTime,
}

#[derive(Default)]
struct Answers {
    count: u64,
    slowest: Duration,
    last: BootTime,
}

impl Ledger {
    pub(super) fn update(&mut self, now: BootTime, sockets: &[Socket], owners: &Owners) -> Pass {
        let mut pass = Pass::default();
        let mut seen = BTreeSet::new();
        for socket in sockets {
            let exact = owners.by_inode.get(&socket.inode).filter(|_| socket.inode != 0);
            let serving = owners.by_port.get(&socket.local_port);
            let Some(owner) = exact.or(serving).copied() else {
                continue;
            };
            seen.insert(socket.cookie);
            let waiting = pass.waiting.entry(owner).or_default();
            if socket.state == LISTEN {
                self.listener(now, socket, waiting);
                let sharers = owners.sharers.get(&socket.inode).filter(|_| 0 < socket.receive_queue);
                for sharer in sharers.into_iter().flatten() {
                    pass.waiting.entry(*sharer).or_default().shares = true;
                }
            } else if socket.inode != 0 {
                // Without an inode it is not accepted yet: the listener's queue counts it.
                let troubled = self.connection(now, socket, serving.is_some(), waiting);
                waiting.asks |=
                    serving.is_none() && !owners.asks_itself(owner, socket) && self.asks(now, socket);
                pass.has_strangers |= troubled && exact.is_none();
            }
        }
        self.connections.retain(|cookie, _| seen.contains(cookie));
        self.listeners.retain(|cookie, _| seen.contains(cookie));
        self.ports.retain(|port, _| owners.by_port.contains_key(port));
        self.add_answers(now, &mut pass);
        pass
    }

    /// Adds what waits at unix sockets.
    pub(super) fn update_unix(
        &mut self,
        now: BootTime,
        sockets: &[UnixSocket],
        owners: &Owners,
        pass: &mut Pass,
    ) {
        self.by_name.update(now, sockets, owners, pass);
    }

    fn listener(&mut self, now: BootTime, socket: &Socket, waiting: &mut Waiting) {
        let length = socket.receive_queue;
        let queue = self.listeners.entry(socket.cookie).or_insert(Queue { length, since: now });
        if length == 0 || length < queue.length {
            queue.since = now;
        }
        queue.length = length;
        let oldest_ms = millis(now.since(queue.since));
        if 0 < length && waiting.backlog.as_ref().is_none_or(|other| other.oldest_ms <= oldest_ms) {
            let limit = socket.send_queue;
            let port = socket.local_port;
            waiting.backlog = Some(Backlog { port, waiting: length, limit, oldest_ms, ..Backlog::default() });
        }
    }

    /// True if it has waited long.
    fn connection(&mut self, now: BootTime, socket: &Socket, serves: bool, waiting: &mut Waiting) -> bool {
        let Some(info) = socket.info else {
            return false;
        };
        // The peer's FIN counts as a byte to be read, and as one received (tcp_fin): a client that gives up has not asked
        // again.
        let fin = u32::from(socket.state == CLOSE_WAIT);
        let unread = socket.receive_queue.saturating_sub(fin);
        let consumed = info.bytes_received.saturating_sub(u64::from(unread) + u64::from(fin));
        let received_at = now - Duration::from_millis(u64::from(info.last_data_received_ms));
        let sent = info.data_segments_out;
        let Some(known) = self.connections.get_mut(&socket.cookie) else {
            let asked_at = (0 < consumed && sent == 0 && unread == 0).then_some(received_at);
            if 0 < sent && 0 < consumed && serves {
                self.ports.entry(socket.local_port).or_default().answered(now, Duration::ZERO);
            }
            let first = Connection {
                consumed,
                sent,
                unread_since: now,
                asked_at,
                one_way: false,
                received: info.bytes_received,
                written: info.bytes_acked + u64::from(socket.send_queue),
                writes: false,
                asks: spoke_last(&info).then_some(now),
                said: u32::from(spoke_last(&info)),
            };
            self.connections.insert(socket.cookie, first);
            waiting.accepted |= serves;
            waiting.moved |= 0 < consumed || 0 < sent;
            waiting.answered |= serves && 0 < sent;
            return false;
        };
        let has_read = consumed != known.consumed;
        let has_sent = sent != known.sent;
        waiting.moved |= has_read || has_sent;
        waiting.answered |= serves && has_sent;
        if has_sent {
            known.one_way = false;
            if let Some(asked) = known.asked_at.take().or(has_read.then_some(received_at))
                && serves
            {
                self.ports.entry(socket.local_port).or_default().answered(now, now.since(asked));
            }
        }
        let read_after_sending = info.last_data_received_ms < info.last_data_sent_ms;
        if has_read && (!has_sent || read_after_sending) {
            known.one_way |= known.asked_at.is_some();
            known.asked_at = Some(received_at);
        }
        known.speaks(now, socket.send_queue, &info);
        // Output that the peer does not take is a reason not to read on.
        let is_held_up = 0 < socket.send_queue;
        if has_read || has_sent || unread == 0 || is_held_up {
            known.unread_since = now;
        }
        (known.consumed, known.sent) = (consumed, sent);
        // The last words of a server that is gone, in a pool that nobody uses: no work waits.
        let is_farewell = socket.state == CLOSE_WAIT && !serves;
        if 0 < unread && !is_farewell {
            let age = now.since(known.unread_since);
            let sum = waiting.unread.get_or_insert_default();
            sum.sockets += 1;
            sum.bytes += u64::from(unread);
            sum.oldest_ms = sum.oldest_ms.max(millis(age));
            return WORTH_SAYING <= age;
        }
        let asked = known.asked_at.filter(|_| serves && !known.one_way && !is_held_up);
        let Some(asked) = asked else {
            return false;
        };
        let sum = waiting.unanswered.get_or_insert_default();
        sum.port = socket.local_port;
        sum.sockets += 1;
        sum.oldest_ms = sum.oldest_ms.max(millis(now.since(asked)));
        WORTH_SAYING <= now.since(asked)
    }

    /// Its own question is on the way, and not for too long.
    fn asks(&self, now: BootTime, socket: &Socket) -> bool {
        let known = self.connections.get(&socket.cookie).filter(|known| known.said < TELLS);
        let asked = known.and_then(|known| known.asks);
        socket.state == ESTABLISHED && asked.is_some_and(|asked| now.since(asked) <= Hope::LASTS)
    }

    /// What is normal on the port.
    fn add_answers(&self, now: BootTime, pass: &mut Pass) {
        for unanswered in pass.waiting.values_mut().filter_map(|waiting| waiting.unanswered.as_mut()) {
            if let Some(answers) = self.ports.get(&unanswered.port) {
                unanswered.answered = answers.count;
                unanswered.slowest_ms = millis(answers.slowest);
                unanswered.last_answer_ms = Some(millis(now.since(answers.last)));
            }
        }
        for backlog in pass.waiting.values_mut().filter_map(|waiting| waiting.backlog.as_mut()) {
            if let Some(answers) = self.ports.get(&backlog.port) {
                backlog.answered = answers.count;
                backlog.slowest_ms = millis(answers.slowest);
                backlog.last_answer_ms = Some(millis(now.since(answers.last)));
            }
        }
    }
}

impl Owners {
    /// Whoever asks itself waits for nobody else.
    fn asks_itself(&self, owner: u32, socket: &Socket) -> bool {
        let serving = self.by_port.get(&socket.peer_port).filter(|_| socket.local == socket.remote);
        serving.is_some_and(|serving| self.root.get(serving) == self.root.get(&owner))
    }
}

impl Connection {
    /// As a client: who has asked waits, whoever goes on without an answer does not.
    fn speaks(&mut self, now: BootTime, send_queue: u32, info: &Info) {
        let written = info.bytes_acked + u64::from(send_queue);
        if info.bytes_received != self.received {
            (self.asks, self.said, self.writes) = (None, 0, false);
        }
        let writes = written != self.written && spoke_last(info);
        if writes {
            self.said += u32::from(!self.writes);
            self.asks = self.asks.or(Some(now));
        }
        (self.received, self.written, self.writes) = (info.bytes_received, written, writes);
    }
}

fn spoke_last(info: &Info) -> bool {
    let is_answered = info.bytes_received != 0 && info.last_data_received_ms <= info.last_data_sent_ms;
    0 < info.data_segments_out && !is_answered
}

impl Answers {
    fn answered(&mut self, now: BootTime, after: Duration) {
        self.count += 1;
        self.slowest = self.slowest.max(after);
        self.last = now;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
