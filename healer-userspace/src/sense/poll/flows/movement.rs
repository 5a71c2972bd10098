//! Connections that are made and move: what a client hears of its peers without asking for new ones. Of use only where
//! somebody is in trouble, or was lately.

use core::time::Duration;
use std::{collections::BTreeMap, net::SocketAddr};

use crate::{
    engine::time::BootTime,
    sense::poll::sockets::{Info, Socket},
    signal::network::Moved,
};

/// After the last sign of trouble: who is thought to be cut off may ask nobody anew.
const WANTED: Duration = Duration::from_secs(600);
const RECENT: Duration = Duration::from_secs(10);
/// The kernel tells such times in ticks.
const TICK: Duration = Duration::from_millis(10);
const PEERS_MAX: usize = 4096;
const SOCKETS_MAX: usize = 16_384;

/// By cgroup and peer: when something came last.
type Newest = BTreeMap<(u64, SocketAddr), BootTime>;

#[derive(Default)]
pub(super) struct Movement {
    wanted_until: BootTime,
    /// Of this pass, and of the one before.
    newest: Newest,
    told: Newest,
    /// By cookie, what the peer had acknowledged: in this pass, and in the one before.
    acked: BTreeMap<u64, u64>,
    acked_before: BTreeMap<u64, u64>,
}

impl Movement {
    pub(super) fn want(&mut self, now: BootTime) {
        self.wanted_until = now + WANTED;
    }

    pub(super) fn see(&mut self, now: BootTime, socket: &Socket) {
        if self.wanted_until <= now {
            return;
        }
        let Some(ms) = socket.info.and_then(|info| self.heard_for(socket.cookie, &info)) else { return };
        let at = now - Duration::from_millis(u64::from(ms)) - TICK;
        let key = (socket.cgroup, socket.peer());
        if RECENT < now.since(at) || PEERS_MAX <= self.newest.len() && !self.newest.contains_key(&key) {
            return;
        }
        let newest = self.newest.entry(key).or_insert(at);
        *newest = at.max(*newest);
    }

    /// For how many ms, of what says that both ways are open. A segment of the peer's that comes again and again has an
    /// acknowledgement as well (net/ipv4/tcp_input.c `tcp_ack`): only one that takes something is an answer.
    fn heard_for(&mut self, cookie: u64, info: &Info) -> Option<u32> {
        let before = self.acked_before.get(&cookie);
        let is_taken = before.is_some_and(|before| *before < info.bytes_acked);
        if self.acked.len() < SOCKETS_MAX {
            self.acked.insert(cookie, info.bytes_acked);
        }
        let asks_in_vain = info.retransmits != 0 || info.probes != 0;
        let owes_nothing = info.unacked == 0 && info.not_sent == 0;
        let acked = is_taken.then_some(info.last_ack_received_ms);
        let data = owes_nothing.then_some(info.last_data_received_ms);
        acked.into_iter().chain(data).min().filter(|_| !asks_in_vain)
    }

    /// After the dump: of whom something has come since the last one.
    pub(super) fn news(&mut self, netns: u32) -> Vec<Moved> {
        let newest = core::mem::take(&mut self.newest);
        let is_new = |(key, at): &(&(u64, SocketAddr), &BootTime)| {
            self.told.get(*key).is_none_or(|told| *told + TICK * 5 < **at)
        };
        let news = newest.iter().filter(is_new);
        let news = news.map(|((cgroup, peer), at)| Moved { netns, cgroup: *cgroup, peer: *peer, at: *at });
        let news = news.collect();
        self.told = newest;
        self.acked_before = core::mem::take(&mut self.acked);
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It has nothing to send; its cookie is its port.
    fn socket(port: u16, data_ms: u32) -> Socket {
        let info = Info { last_data_received_ms: data_ms, ..Info::default() };
        let (family, info) = (libc::AF_INET as u8, Some(info));
        Socket { family, cookie: u64::from(port), peer_port: port, cgroup: 5, info, ..Socket::default() }
    }

    /// It always has something under way; the last of what came was an acknowledgement.
    fn pipelined(acked: u64, ack_ms: u32) -> Socket {
        let info = Info { unacked: 2, bytes_acked: acked, last_ack_received_ms: ack_ms, ..Info::default() };
        Socket { info: Some(info), ..socket(1, 0) }
    }

    fn told(movement: &mut Movement, second: u64, sockets: &[Socket]) -> Vec<(u16, u64)> {
        let now = BootTime(second * 1_000_000_000);
        sockets.iter().for_each(|socket| movement.see(now, socket));
        movement.news(7).into_iter().map(|one| (one.peer.port(), one.at.0 / 1_000_000)).collect()
    }

    #[test]
    fn what_came_is_told_once_and_only_after_trouble() {
        let mut movement = Movement::default();
        assert_eq!(told(&mut movement, 20, &[socket(1, 300)]), []);
        movement.want(BootTime(20_000_000_000));
        // The newest of all connections to one peer; what came long ago is no news.
        let sockets = [socket(1, 300), socket(1, 200), socket(2, 60_000)];
        assert_eq!(told(&mut movement, 21, &sockets), [(1, 20_790)]);
        assert_eq!(told(&mut movement, 22, &[socket(1, 1200)]), [], "nothing since");
        assert_eq!(told(&mut movement, 23, &[socket(1, 400)]), [(1, 22_590)]);
        assert_eq!(told(&mut movement, 700, &[socket(1, 1)]), [], "it is long over");
    }

    #[test]
    fn an_acknowledgement_is_an_answer_if_it_takes_something() {
        let mut movement = Movement::default();
        movement.want(BootTime(20_000_000_000));
        assert_eq!(told(&mut movement, 21, &[pipelined(1000, 10)]), [], "of before nothing is known");
        assert_eq!(told(&mut movement, 22, &[pipelined(1500, 20)]), [(1, 21_970)]);
        assert_eq!(told(&mut movement, 23, &[pipelined(1500, 30)]), [], "what the peer sends comes again");
    }

    #[test]
    fn who_asks_in_vain_has_no_answer_whatever_comes() {
        let mut movement = Movement::default();
        movement.want(BootTime(20_000_000_000));
        let in_vain = |retransmits, probes| {
            let info = Info { retransmits, probes, last_data_received_ms: 10, ..Info::default() };
            Socket { info: Some(info), ..socket(1, 0) }
        };
        assert_eq!(told(&mut movement, 21, &[in_vain(1, 0), in_vain(0, 1)]), []);
        assert_eq!(told(&mut movement, 22, &[in_vain(0, 0)]), [(1, 21_980)]);
    }
}
