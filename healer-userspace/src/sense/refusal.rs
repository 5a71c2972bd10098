//! Whether the sensor of connections tells the truth: at start healer asks a port of its own, where nobody listens, for a
//! connection over loopback, and compares what the record says with what is known.

use core::time::Duration;
use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
};

use healer_common::event::{Header, socket_state::SocketState};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use super::selfcheck::Verdict;
use crate::{clock, engine::time::BootTime};

/// Loopback refuses at once.
const ANSWERS_WITHIN: Duration = Duration::from_millis(30);

/// A connection that was refused, and what is known of it.
pub(super) struct Refusal {
    /// The thread that asked.
    thread: u32,
    own_tgid: u32,
    pub(super) port: u16,
    local: u16,
    /// Inode number of the network namespace; 0 unknown.
    netns: u32,
    /// Before and after the call.
    during: (BootTime, BootTime),
    said: Vec<SocketState>,
}

impl Refusal {
    /// `None` where nothing is refused, as without loopback.
    pub(super) fn provoke(thread: u32, own_tgid: u32) -> Option<Self> {
        // It is bound and does not listen: nobody else gets the port meanwhile.
        let (_deaf, port) = bound()?;
        let (client, local) = bound()?;
        // A firewall may drop it, even here.
        set_socket_timeout(&client, Timeout::Send, Some(ANSWERS_WITHIN)).ok()?;
        let before = clock::boot();
        let refused = connect(&client, &loopback(port)).err()?;
        let during = (before, clock::boot());
        let netns = std::fs::metadata("/proc/self/ns/net").map_or(0, |found| found.ino());
        let netns = u32::try_from(netns).unwrap_or(0);
        let said = Vec::new();
        (refused == Errno::CONNREFUSED).then_some(Self { thread, own_tgid, port, local, netns, during, said })
    }

    /// Whether the record is about it, which is of no interest to anybody else. The header's numbers come from a
    /// helper: loopback refuses in the context of who asks.
    pub(super) fn claims(&mut self, header: &Header, state: &SocketState) -> bool {
        let is_named = state.remote_port == u32::from(self.port) && state.owner_tgid == self.own_tgid;
        let (before, after) = (self.during.0.0, self.during.1.0);
        let is_then = header.pid == self.thread && (before..=after).contains(&header.at_ns);
        let is_ours = state.old_state == SocketState::SYN_SENT && (is_named || is_then);
        if is_ours {
            self.said.push(*state);
        }
        is_ours
    }

    /// `None` while nothing was said, as the governor may have given the sensor up, and if another's connection failed
    /// in the context of the call as well.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        let lies: Option<Vec<String>> = self.said.iter().map(|said| self.lie(said)).collect();
        match lies.as_deref() {
            _ if self.said.is_empty() => None,
            None => Some(Verdict::Truthful),
            Some([lie]) => {
                Some(Verdict::Wrong(format!("of a connection that was refused to healer it said {lie}")))
            }
            Some(_) => None,
        }
    }

    fn lie(&self, said: &SocketState) -> Option<String> {
        let (port, local) = (u32::from(self.port), u32::from(self.local));
        if (said.remote, said.remote_port) != (Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(), port) {
            return Some(format!(
                "that it was to port {}, when it was to 127.0.0.1:{port}",
                said.remote_port
            ));
        }
        // A socket that is closed by then has no port any more.
        if said.local_port != 0 && said.local_port != local {
            return Some(format!("that it came from port {}, when it was {local}", said.local_port));
        }
        if said.error != libc::ECONNREFUSED {
            return Some(format!("error {}", said.error));
        }
        if said.owner_tgid != self.own_tgid {
            return Some(format!("that {} asked for it", said.owner_tgid));
        }
        let is_known = said.netns != 0 && self.netns != 0;
        let is_other = is_known && said.netns != self.netns;
        is_other.then(|| format!("the network namespace {}, when it is {}", said.netns, self.netns))
    }
}

fn loopback(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

fn bound() -> Option<(OwnedFd, u16)> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).ok()?;
    bind(&socket, &loopback(0)).ok()?;
    let name = SocketAddr::try_from(getsockname(&socket).ok()?).ok()?;
    Some((socket, name.port()))
}

#[cfg(test)]
mod tests {
    use healer_common::event::wire::Wire as _;

    use super::*;

    #[test]
    fn a_refusal_that_is_told_rightly_is_the_truth_and_nothing_else_is() {
        let mut refusal = Refusal::provoke(7, 40).unwrap();
        let right = SocketState {
            remote: Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(),
            remote_port: refusal.port.into(),
            local_port: refusal.local.into(),
            owner_tgid: 40,
            netns: refusal.netns,
            old_state: SocketState::SYN_SENT,
            new_state: SocketState::CLOSE,
            error: libc::ECONNREFUSED,
            ..SocketState::ZERO
        };
        let by = |pid, at_ns| Header { pid, at_ns, ..Header::ZERO };
        let (then, later) = (refusal.during.0.0, refusal.during.1.0 + 1);
        let other = SocketState { remote_port: 1, owner_tgid: 41, ..right };
        assert!(!refusal.claims(&by(8, then), &other), "of another thread");
        assert!(!refusal.claims(&by(7, later), &other), "of another time");
        assert_eq!(refusal.verdict(), None);
        let mut judge = |said: SocketState| {
            refusal.said.clear();
            assert!(refusal.claims(&by(7, then), &said));
            refusal.verdict().unwrap()
        };
        assert_eq!(judge(right), Verdict::Truthful);
        assert_eq!(judge(SocketState { local_port: 0, netns: 0, ..right }), Verdict::Truthful);
        for wrong in [
            SocketState { remote: [0; 16], ..right },
            SocketState { remote_port: right.remote_port ^ 1, ..right },
            SocketState { local_port: right.local_port ^ 1, ..right },
            SocketState { error: 0, ..right },
            SocketState { owner_tgid: 41, ..right },
            SocketState { netns: right.netns ^ 1, ..right },
        ] {
            assert!(matches!(judge(wrong), Verdict::Wrong(_)), "{wrong:?}");
        }
        assert!(refusal.claims(&by(7, then), &other) && refusal.verdict().is_none(), "who is meant?");
        assert!(refusal.claims(&by(8, later), &right), "by its name");
        assert_eq!(refusal.verdict(), Some(Verdict::Truthful));
    }
}
