//! The sockets of one network namespace, look after look: which of them do not move, and since when.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{
    Listener, Stuck, Whose,
    movement::Movement,
    shared::{Shared, Unread},
};
use crate::{
    engine::time::BootTime,
    sense::poll::sockets::{LISTEN, PROBES, RETRANSMITS, Socket},
    signal::network::Stall,
};

/// Whoever does not move is remembered: so many at most, others have to wait for their turn.
const SLOW_MAX: usize = 4096;
const LISTENERS_MAX: usize = 4096;
/// A server may be busy for a moment, a window closed.
const WORTH_SAYING: Duration = Duration::from_secs(2);
/// A lost packet or two cost a connection some seconds.
const UNANSWERED_FROM: Duration = Duration::from_secs(10);
const UNANSWERED_RETRANSMITS: u8 = 5;
/// A full queue of the machine's own lets out again within a moment: two looks at least.
const HELD_FROM: Duration = Duration::from_millis(900);
/// Who does not move for longer than a moment is looked at sooner; who has not for long is known.
const SLOW_NEWS: core::ops::Range<Duration> = Duration::from_millis(400)..Duration::from_secs(30);
/// One probe may have been under way.
const PROBES_FROM: u8 = 2;

#[derive(Default)]
pub(super) struct Ledger {
    listeners: BTreeMap<u64, Heard>,
    slow: BTreeMap<u64, Slow>,
    /// Of this pass.
    pass: Pass,
    asked: BTreeMap<SocketAddr, RoundTrip>,
    pub(super) movement: Movement,
}

struct Heard {
    address: SocketAddr,
    inode: u32,
    cgroup: u64,
    told: bool,
    seen: bool,
}

/// Of the open connections to one peer.
#[derive(Default)]
struct RoundTrip {
    sum_us: u64,
    count: u64,
}

impl RoundTrip {
    fn note(&mut self, socket: &Socket) {
        let known = socket.info.map(|info| info.rtt_us).filter(|us| *us != 0);
        self.sum_us += known.map_or(0, u64::from);
        self.count += u64::from(known.is_some());
    }

    fn mean_us(&self) -> Option<u32> {
        u32::try_from(self.sum_us.checked_div(self.count)?).ok()
    }
}

/// One connection that did not move at the last look.
struct Slow {
    /// What its peer has acknowledged, or its owner has read.
    mark: u64,
    since: BootTime,
    seen: bool,
}

/// Listeners by address: inode and cgroup.
#[derive(Clone, Default)]
pub(super) struct Serving(BTreeMap<SocketAddr, (u32, u64)>);

impl Serving {
    /// Whoever accepts at this address.
    pub(super) fn of(&self, local: SocketAddr) -> Option<(u32, u64)> {
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let ips = [local.ip()].into_iter().chain(any);
        ips.filter_map(|ip| self.0.get(&SocketAddr::new(ip, local.port()))).next().copied()
    }
}

/// What one dump says.
#[derive(Default)]
pub(super) struct Pass {
    pub(super) serving: Serving,
    clients: Vec<Client>,
    /// Connections that are not read, of the server's side: its listener, the client, its own address, since when.
    unread: Vec<(u32, SocketAddr, SocketAddr, BootTime)>,
    /// By listener: since when the newest bytes have been read, ms.
    reads: BTreeMap<u32, u32>,
    told: Vec<(u64, SocketAddr, u32, u64, bool)>,
}

struct Client {
    socket: Socket,
    why: Stall,
    since: BootTime,
    server: Option<Unread>,
}

impl Ledger {
    pub(super) fn begin(&mut self) {
        let serving = std::mem::take(&mut self.pass.serving);
        // Clients of a port are told from its server by the listeners, which the dump of the other family may bring later.
        self.pass = Pass { serving, ..Pass::default() };
        self.asked.clear();
        self.slow.values_mut().for_each(|slow| slow.seen = false);
        self.listeners.values_mut().for_each(|heard| heard.seen = false);
    }

    pub(super) fn see(&mut self, now: BootTime, netns: u32, socket: &Socket, shared: &mut Shared) {
        if socket.state == LISTEN {
            self.listener(socket);
        } else if let Some((listener, _)) = self.pass.serving.of(socket.local()) {
            self.server(now, netns, socket, listener, shared);
        } else {
            self.client(now, netns, socket, shared);
        }
    }

    fn listener(&mut self, socket: &Socket) {
        self.pass.serving.0.insert(socket.local(), (socket.inode, socket.cgroup));
        if self.listeners.len() < LISTENERS_MAX || self.listeners.contains_key(&socket.cookie) {
            let heard = self.listeners.entry(socket.cookie).or_insert(Heard {
                address: socket.local(),
                inode: socket.inode,
                cgroup: socket.cgroup,
                told: false,
                seen: true,
            });
            heard.seen = true;
        }
    }

    fn server(&mut self, now: BootTime, netns: u32, socket: &Socket, listener: u32, shared: &mut Shared) {
        shared.serve(now, netns, socket.peer(), socket.local());
        let Some(info) = socket.info else { return };
        if socket.unread() == 0 {
            if 0 < info.bytes_received {
                let newest = self.pass.reads.entry(listener).or_insert(u32::MAX);
                *newest = (*newest).min(info.last_data_received_ms);
            }
            return;
        }
        let consumed = info.bytes_received.saturating_sub(u64::from(socket.unread()));
        let arrived = now - Duration::from_millis(u64::from(info.last_data_received_ms));
        // On first sight: the newest bytes have waited so long. Output that the client does not take is a reason not to
        // read on.
        if let Some(since) = self.since(now, socket.cookie, consumed, arrived)
            && socket.send_queue == 0
        {
            self.pass.unread.push((listener, socket.peer(), socket.local(), since));
        }
    }

    fn client(&mut self, now: BootTime, netns: u32, socket: &Socket, shared: &mut Shared) {
        let (local, peer) = (socket.local(), socket.peer());
        if !self.asked.contains_key(&peer) {
            shared.want(now, netns, local, peer);
        }
        self.asked.entry(peer).or_default().note(socket);
        self.movement.see(now, socket);
        let push = |pass: &mut Pass, why, since, server| {
            pass.clients.push(Client { socket: *socket, why, since, server });
        };
        if let Some(unread) = shared.unread(netns, local, peer) {
            push(&mut self.pass, Stall::Unread, unread.since, Some(unread));
            return;
        }
        let (Some(why), Some(info)) = (stall(socket), socket.info) else { return };
        let Some(since) = self.since(now, socket.cookie, info.bytes_acked, now) else { return };
        let least = match why {
            Stall::Unread | Stall::NoReply => Duration::ZERO,
            Stall::Held => HELD_FROM,
            Stall::WindowClosed => WORTH_SAYING,
            Stall::Unanswered => UNANSWERED_FROM,
        };
        let is_early = why == Stall::Unanswered && info.retransmits < UNANSWERED_RETRANSMITS;
        if least <= now.since(since) && !is_early {
            push(&mut self.pass, why, since, None);
        }
    }

    /// Since when `mark` is the same, `first` if it was not seen before; `None` if there is no room to remember it.
    fn since(&mut self, now: BootTime, cookie: u64, mark: u64, first: BootTime) -> Option<BootTime> {
        if SLOW_MAX <= self.slow.len() && !self.slow.contains_key(&cookie) {
            return None;
        }
        let slow = self.slow.entry(cookie).or_insert(Slow { mark, since: first, seen: true });
        if slow.mark != mark {
            *slow = Slow { mark, since: now, seen: true };
        }
        slow.seen = true;
        Some(slow.since)
    }

    /// After the dump: what it says, and of which descriptors the owners have to be known.
    pub(super) fn judge(&mut self, now: BootTime, netns: u32, shared: &mut Shared) -> (Pass, BTreeSet<u32>) {
        self.slow.retain(|_, slow| slow.seen);
        for (peer, trip) in std::mem::take(&mut self.asked) {
            trip.mean_us().into_iter().for_each(|us| shared.round_trip(now, netns, peer, us));
        }
        let mut pass = std::mem::take(&mut self.pass);
        let open: BTreeSet<SocketAddr> =
            self.listeners.values().filter(|heard| heard.seen).map(|heard| heard.address).collect();
        pass.serving.0.retain(|address, _| open.contains(address));
        self.pass.serving.clone_from(&pass.serving);
        shared.forget_unread(netns);
        for (listener, client, server, since) in pass.unread.drain(..) {
            let age = now.since(since);
            // Whoever reads newer requests of others is at work.
            let reads = pass.reads.get(&listener).map(|ms| Duration::from_millis(u64::from(*ms)));
            if WORTH_SAYING <= age && reads.is_none_or(|newest| age <= newest) {
                let whose = Whose::default();
                shared.note_unread(client, Unread { server, netns, since, whose, at: now });
            }
        }
        for (cookie, heard) in &mut self.listeners {
            if !heard.told || !heard.seen {
                pass.told.push((*cookie, heard.address, heard.inode, heard.cgroup, heard.seen));
                heard.told = true;
            }
        }
        self.listeners.retain(|_, heard| heard.seen);
        let listeners = self.listeners.values().map(|heard| heard.inode);
        let wanted = listeners.chain(pass.clients.iter().map(|client| client.socket.inode));
        let wanted = wanted.filter(|inode| *inode != 0).collect();
        (pass, wanted)
    }

    pub(super) fn has_news_of_the_slow(&self, now: BootTime) -> bool {
        self.slow.values().any(|slow| SLOW_NEWS.contains(&now.since(slow.since)))
    }

    /// Nothing was in the way of anything at the last look.
    pub(super) fn is_calm(&self) -> bool {
        self.slow.is_empty()
    }

    pub(super) fn all_closed(&mut self, netns: u32) -> Vec<Listener> {
        self.slow.clear();
        self.pass = Pass::default();
        let gone = std::mem::take(&mut self.listeners).into_iter();
        gone.map(|(cookie, heard)| Listener {
            netns,
            address: heard.address,
            cookie,
            whose: Whose { pid: None, cgroup: heard.cgroup },
            on: false,
        })
        .collect()
    }
}

impl Pass {
    pub(super) fn listeners(&self, netns: u32, whose: &impl Fn(u32, u64) -> Whose) -> Vec<Listener> {
        let listener = |(cookie, address, inode, cgroup, on): &(u64, SocketAddr, u32, u64, bool)| Listener {
            netns,
            address: *address,
            cookie: *cookie,
            whose: whose(*inode, *cgroup),
            on: *on,
        };
        self.told.iter().map(listener).collect()
    }

    pub(super) fn stuck(
        &self,
        netns: u32,
        whose: &impl Fn(u32, u64) -> Whose,
        mut halted: impl FnMut(Whose) -> bool,
    ) -> Vec<Stuck> {
        let stuck = |client: &Client| {
            let socket = &client.socket;
            let info = socket.info.unwrap_or_default();
            let server = client.server.map(|unread| unread.whose);
            Stuck {
                netns,
                local: socket.local(),
                peer: socket.peer(),
                cookie: socket.cookie,
                whose: whose(socket.inode, socket.cgroup),
                why: client.why,
                since: client.since,
                retransmits: u32::from(info.retransmits),
                acked: info.bytes_acked,
                server,
                halted: server.is_some_and(&mut halted),
            }
        };
        self.clients.iter().map(stuck).collect()
    }
}

/// Why a client's connection does not move, by itself alone.
fn stall(socket: &Socket) -> Option<Stall> {
    let info = socket.info?;
    match socket.timer {
        PROBES if info.window == Some(0) => Some(Stall::WindowClosed),
        PROBES if PROBES_FROM <= info.probes && 0 < info.not_sent && info.window.is_some() => {
            Some(Stall::Held)
        }
        RETRANSMITS if 0 < info.retransmits => Some(Stall::Unanswered),
        _ => None,
    }
}
