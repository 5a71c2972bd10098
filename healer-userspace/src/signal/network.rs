//! What the kernel tells of connections: who, to whom, and how it ended.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{engine::time::BootTime, identity::process::Process};

/// One TCP connection from its client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// cgroup v2 id of the socket; 0 unknown.
    pub cgroup: u64,
    /// Never reused while the machine runs.
    pub cookie: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionFailed {
    #[serde(flatten)]
    pub flow: Flow,
    pub cause: FailureCause,
    /// It was never made.
    pub connecting: bool,
    /// Since it was asked for; `None` if that was not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_us: Option<u64>,
    /// Failures of this peer since the last connection made to it, this one included.
    pub streak: u32,
    /// The cause is what follows from who closed it and when: nobody told it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub inferred: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCause {
    /// The peer, or somebody in its name, said no.
    Refused,
    /// No route, or somebody on the way said so.
    Unreachable,
    TimedOut,
    /// A connection that had been made was broken off.
    Reset,
    /// The client closed it before there was an answer.
    GaveUp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retransmitted {
    #[serde(flatten)]
    pub flow: Flow,
    /// The connection is not made yet.
    pub connecting: bool,
    /// Time-outs in a row without an answer.
    pub retransmits: u32,
    /// First byte that was not acknowledged: another one than before means progress.
    pub unacknowledged: u32,
    /// errno(3) with which the local network refused to send it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_error: Option<i32>,
    /// Failures of this peer since the last connection made to it.
    pub streak: u32,
    /// Seen in a look once a second, which misses answers in between.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub sampled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listens {
    pub address: SocketAddr,
    pub netns: u32,
    pub cgroup: u64,
    pub cookie: u64,
    /// False: no longer.
    pub on: bool,
}

/// Connections for which a network namespace had no route, since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoRoute {
    pub netns: u32,
    #[serde(default)]
    pub v4: u64,
    #[serde(default)]
    pub v6: u64,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<BootTime>,
}

/// A look at the sockets of the node's network namespaces: only what does not move, and what is new.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowSnapshot {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stalled: Vec<Stalled>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub served: Vec<Served>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkChange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trips: Vec<RoundTrip>,
    /// Only of namespaces in which somebody was in trouble lately.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<Moved>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Addresses>,
    /// Network namespaces in which nobody lives any more: another may get the inode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<u32>,
}

/// All addresses of a network namespace that others can reach: whoever listens on all of them is reached by each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    pub netns: u32,
    pub ips: Vec<IpAddr>,
}

/// A client's connections to a peer that are made: something came from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The client's namespace and cgroup; 0 unknown.
    pub netns: u32,
    pub cgroup: u64,
    pub peer: SocketAddr,
    /// When the newest of it came: data, or an acknowledgement.
    pub at: BootTime,
}

/// How long a segment and its acknowledgement take, over the open connections to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundTrip {
    /// The client's namespace.
    pub netns: u32,
    pub peer: SocketAddr,
    pub us: u32,
}

/// A client's connection that does not move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalled {
    pub client: Process,
    #[serde(flatten)]
    pub flow: Flow,
    pub why: Stall,
    pub since: BootTime,
    /// Time-outs in a row without an answer.
    #[serde(default)]
    pub retransmits: u32,
    /// Bytes that the peer has acknowledged: another number means that it moves.
    #[serde(default)]
    pub acked: u64,
    /// Who is at the other end, if that is on this node and known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Process>,
    /// The server is stopped or frozen: it cannot run.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub halted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stall {
    /// The peer would take more, but this machine does not let it out.
    Held,
    /// The peer takes nothing more.
    WindowClosed,
    /// The server has it, and does not read.
    Unread,
    /// Sent again and again, and no answer.
    Unanswered,
    /// A question to a name server. `acked` counts what the namespace has received by UDP so far.
    NoReply,
}

/// Who answers what a client calls `peer`, as the other end of its connection shows: also behind NAT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The client's namespace.
    pub netns: u32,
    pub peer: SocketAddr,
    /// What the server itself calls it.
    pub address: SocketAddr,
    pub server: Process,
}

/// What the kernel told of the links and routes of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkChange {
    pub netns: u32,
    #[serde(flatten)]
    pub change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Link {
        name: String,
        up: bool,
        /// Somebody is at the other end.
        carrier: bool,
        /// It was removed, as is the link of each container that ends.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        gone: bool,
    },
    Route {
        /// `default` is that of IPv4, that of IPv6 is `::/0`.
        to: String,
        usable: bool,
    },
}

/// Counts since the last time that they were told; times are absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCounts {
    pub peer: SocketAddr,
    pub netns: u32,
    pub cgroup: u64,
    #[serde(default)]
    pub ok: u32,
    #[serde(default)]
    pub refused: u32,
    #[serde(default)]
    pub unreachable: u32,
    #[serde(default)]
    pub timed_out: u32,
    #[serde(default)]
    pub reset: u32,
    #[serde(default)]
    pub abandoned: u32,
    /// Requests for a connection, and data, that were sent again.
    #[serde(default)]
    pub syn_retransmits: u32,
    #[serde(default)]
    pub retransmits: u32,
    /// Longest time that a connection took to be made, since the peer is known.
    #[serde(default)]
    pub slowest_us: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ok: Option<BootTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_bad: Option<BootTime>,
}

#[cfg(test)]
impl PeerCounts {
    /// Nothing has happened yet.
    pub(crate) fn none(peer: &str, netns: u32) -> Self {
        Self {
            peer: peer.parse().unwrap(),
            netns,
            cgroup: 5,
            ok: 0,
            refused: 0,
            unreachable: 0,
            timed_out: 0,
            reset: 0,
            abandoned: 0,
            syn_retransmits: 0,
            retransmits: 0,
            slowest_us: 0,
            last_ok: None,
            last_bad: None,
        }
    }

    /// One connection was made.
    pub(crate) fn made(peer: &str, netns: u32, at: BootTime) -> Self {
        Self { ok: 1, slowest_us: 100, last_ok: Some(at), ..Self::none(peer, netns) }
    }
}

/// An address of a record: IPv4 stands in it as `::ffff:a.b.c.d`.
pub(crate) fn address(bytes: [u8; 16], port: u32) -> SocketAddr {
    let ip = IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical();
    // The decoder lets no other ports through.
    SocketAddr::new(ip, u16::try_from(port).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_shown_as_ipv4() {
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 5];
        assert_eq!(address(mapped, 80).to_string(), "10.0.0.5:80");
        assert_eq!(address(Ipv6Addr::LOCALHOST.octets(), 80).to_string(), "[::1]:80");
    }
}
