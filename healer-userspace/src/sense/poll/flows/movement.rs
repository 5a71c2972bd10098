//! Connections that are made and move: what a client hears of its peers without asking for new ones. Of use only where
//! somebody is in trouble, or was lately.

use core::time::Duration;
use std::{collections::BTreeMap, net::SocketAddr};

use crate::{engine::time::BootTime, sense::poll::sockets::Socket, signal::network::Moved};

/// After the last sign of trouble: who is thought to be cut off may ask nobody anew.
const WANTED: Duration = Duration::from_secs(600);
const RECENT: Duration = Duration::from_secs(10);
/// The kernel tells such times in ticks.
const TICK: Duration = Duration::from_millis(10);
const PEERS_MAX: usize = 256;

/// By cgroup and peer: when something came last.
type Newest = BTreeMap<(u64, SocketAddr), BootTime>;

#[derive(Default)]
pub(super) struct Movement {
    wanted_until: BootTime,
    /// Of this pass, and of the one before.
    newest: Newest,
    told: Newest,
}

impl Movement {
    pub(super) fn want(&mut self, now: BootTime) {
        self.wanted_until = now + WANTED;
    }

    pub(super) fn see(&mut self, now: BootTime, socket: &Socket) {
        if self.wanted_until <= now {
            return;
        }
        let Some(info) = socket.info else { return };
        let ms = info.last_data_received_ms.min(info.last_ack_received_ms);
        let at = now - Duration::from_millis(u64::from(ms)) - TICK;
        let key = (socket.cgroup, socket.peer());
        if RECENT < now.since(at) || PEERS_MAX <= self.newest.len() && !self.newest.contains_key(&key) {
            return;
        }
        let newest = self.newest.entry(key).or_insert(at);
        *newest = at.max(*newest);
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
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sense::poll::sockets::Info;

    fn socket(port: u16, data_ms: u32, ack_ms: u32) -> Socket {
        let info = Info { last_data_received_ms: data_ms, last_ack_received_ms: ack_ms, ..Info::default() };
        let (family, info) = (libc::AF_INET as u8, Some(info));
        Socket { family, peer_port: port, cgroup: 5, info, ..Socket::default() }
    }

    fn told(movement: &mut Movement, second: u64, sockets: &[Socket]) -> Vec<(u16, u64)> {
        let now = BootTime(second * 1_000_000_000);
        sockets.iter().for_each(|socket| movement.see(now, socket));
        movement.news(7).into_iter().map(|one| (one.peer.port(), one.at.0 / 1_000_000)).collect()
    }

    #[test]
    fn what_came_is_told_once_and_only_after_trouble() {
        let mut movement = Movement::default();
        assert_eq!(told(&mut movement, 20, &[socket(1, 300, 5000)]), []);
        movement.want(BootTime(20_000_000_000));
        // The newest of all connections to one peer; what came long ago is no news.
        let sockets = [socket(1, 300, 5000), socket(1, 9000, 200), socket(2, 60_000, 60_000)];
        assert_eq!(told(&mut movement, 21, &sockets), [(1, 20_790)]);
        assert_eq!(told(&mut movement, 22, &[socket(1, 1200, 1200)]), [], "nothing since");
        assert_eq!(told(&mut movement, 23, &[socket(1, 400, 1200)]), [(1, 22_590)]);
        assert_eq!(told(&mut movement, 700, &[socket(1, 1, 1)]), [], "it is long over");
    }
}
