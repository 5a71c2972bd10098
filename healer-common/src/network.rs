//! What the kernel half counts of connections: the map PEERS, one entry per client and peer.

use crate::event::wire::wire;

wire! {
    /// Whose connections, and to whom: key of the map PEERS.
    pub struct PeerKey: 32 bytes {
        /// cgroup v2 id of the socket (its maker's when it was made); 0 unknown.
        pub cgroup_id: u64,
        /// IPv6, or IPv4 as `::ffff:a.b.c.d`; network byte order.
        pub address: [u8; 16],
        /// Inode number of the network namespace; 0 unknown.
        pub netns: u32,
        /// In host byte order.
        pub port: u32,
    }
}

wire! {
    /// Value of the map PEERS. Counts go up only; they begin anew when the entry was crowded out.
    pub struct PeerCounters: 88 bytes {
        /// `CLOCK_BOOTTIME`, ns: the last connection made, the last failure.
        pub last_ok_ns: u64,
        pub last_bad_ns: u64,
        /// The same of the last record sent: records of one peer are at most so many a second.
        pub last_told_ns: u64,
        pub last_retransmit_told_ns: u64,
        /// Thread group that made the last connection, and its leader's start.
        pub owner_start_boot_ns: u64,
        pub owner_tgid: u32,
        /// Connections made.
        pub ok: u32,
        pub refused: u32,
        /// No route to it, or an ICMP error said so.
        pub unreachable: u32,
        pub timed_out: u32,
        /// Made, then broken by the peer or by the path.
        pub reset: u32,
        /// The client gave up before there was an answer.
        pub abandoned: u32,
        /// Requests for a connection sent again.
        pub syn_retransmits: u32,
        /// Data sent again, tail-loss probes among it.
        pub retransmits: u32,
        /// Longest time from the request for a connection to the answer, µs.
        pub slowest_us: u32,
        /// Failures since the last connection made.
        pub streak: u32,
        pub pad: u32,
    }
}

/// Clients' peers remembered; the least recently used make room.
pub const PEERS_MAX: u32 = 2048;
/// Slots for connections being made; a power of two. If 1,000 hang at once, there is room for nine of ten others.
pub const CONNECTING_SLOTS: u32 = 4096;
/// Slots for the ports of peers, of 8 bytes each; a power of two.
pub const PEER_PORT_SLOTS: u32 = 4096;
/// Connections of which the process is remembered, made ones too, by programs that have only the tracepoint's record:
/// where the kernel has type information such a program is the exception.
pub const TOLD_MAX: u32 = 512;
/// Where it has none, so that all programs are of that kind.
pub const TOLD_MAX_UNTYPED: u32 = 16 * 1024;
