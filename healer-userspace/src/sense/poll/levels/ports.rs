//! Local ports of a network namespace for connections to one peer, of whoever found none.

use core::{net::SocketAddr, time::Duration};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    engine::time::BootTime,
    sense::poll::sockets::in_namespace,
    signal::levels::{Level, Resource},
};

/// So long after the last call that found none.
const WATCHED_FOR: Duration = Duration::from_secs(15);
/// Looked at in one look, at most: the list of all connections is long where ports run out.
const WATCHED_MAX: usize = 4;

pub(super) struct Ports {
    proc: PathBuf,
    watched: Vec<Watched>,
}

struct Watched {
    pid: u32,
    peer: SocketAddr,
    asked: BootTime,
}

impl Ports {
    pub(super) fn new(proc: &Path) -> Self {
        Self { proc: proc.to_owned(), watched: Vec::new() }
    }

    pub(super) fn watch(&mut self, now: BootTime, pid: u32, peer: SocketAddr) {
        let is_full = WATCHED_MAX <= self.watched.len();
        match self.watched.iter_mut().find(|one| one.pid == pid && one.peer == peer) {
            Some(known) => known.asked = now,
            None if !is_full => self.watched.push(Watched { pid, peer, asked: now }),
            None => {}
        }
    }

    pub(super) fn look(&mut self, now: BootTime, levels: &mut Vec<Level>) {
        self.watched.retain(|one| now.since(one.asked) < WATCHED_FOR);
        for one in &self.watched {
            levels.extend(level(&self.proc, one.pid, one.peer));
        }
    }
}

fn level(proc: &Path, pid: u32, peer: SocketAddr) -> Option<Level> {
    let namespace = proc.join(format!("{pid}/ns/net"));
    let netns = fs::metadata(&namespace).ok()?.ino();
    let range = range_in(&namespace)?;
    let mut used = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(proc.join(format!("{pid}/net/{table}"))).unwrap_or_default();
        used.extend(text.lines().filter_map(|line| taken(line, peer)).filter(|port| range.contains(port)));
    }
    let of = Resource::Ports { netns, peer: peer.ip(), port: peer.port() };
    let level = Level::new(of, used.len() as u64, u64::from(range.end() - range.start()) + 1);
    Some(Level { pid, ..level })
}

/// `net.ipv4.ip_local_port_range` is that of the reader's namespace.
fn range_in(namespace: &Path) -> Option<core::ops::RangeInclusive<u16>> {
    let read = || fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let text = in_namespace(namespace, read).ok()??;
    let mut numbers = text.split_ascii_whitespace().filter_map(|number| number.parse().ok());
    Some(numbers.next()?..=numbers.next()?)
}

/// The local port of a connection to `peer`, in whatever state, or of a listener: neither can be taken for it.
/// `  0: 0100007F:0035 00000000:0000 0A …` (proc_net_tcp in Documentation/networking)
fn taken(line: &str, peer: SocketAddr) -> Option<u16> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
    let port = |end: &str| u16::from_str_radix(end.rsplit_once(':')?.1, 16).ok();
    let is_listener = state == "0A";
    let is_ours = port(remote)? == peer.port() && is_address(remote, peer);
    (is_listener || is_ours).then(|| port(local)).flatten()
}

/// Each word of an address is written as a number of this machine's byte order.
fn is_address(end: &str, peer: SocketAddr) -> bool {
    let Some((hex, _)) = end.rsplit_once(':') else { return false };
    let words = |bytes: &[u8]| -> String {
        let words =
            bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        words.map(|word| format!("{word:08X}")).collect()
    };
    match peer {
        SocketAddr::V4(peer) => {
            hex == words(&peer.ip().octets()) || hex == words(&peer.ip().to_ipv6_mapped().octets())
        }
        SocketAddr::V6(peer) => hex == words(&peer.ip().octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_the_peer_and_listeners_take_ports() {
        let peer: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let line = |local: &str, remote: &str, state: &str| {
            taken(&format!("  3: {local} {remote} {state} 00000000:00000000 00:00000000"), peer)
        };
        let ip = if cfg!(target_endian = "little") { "0100007F" } else { "7F000001" };
        assert_eq!(line(&format!("{ip}:8001"), &format!("{ip}:1F90"), "06"), Some(0x8001));
        assert_eq!(line(&format!("{ip}:8001"), &format!("{ip}:1F91"), "01"), None);
        assert_eq!(line(&format!("{ip}:8001"), "00000000:0000", "0A"), Some(0x8001));
        assert_eq!(taken("  sl  local_address rem_address st", peer), None);
    }

    #[test]
    fn the_range_of_our_own_namespace_is_read() {
        let range = range_in(Path::new("/proc/self/ns/net")).unwrap();
        assert!(range.start() < range.end());
    }
}
