use super::{Invalid, Payload, part::CgroupRef, wire::wire};

wire! {
    /// A segment to a known peer was sent again after a time-out: from `tcp:tcp_retransmit_skb`.
    ///
    /// Tail-loss probes and fast retransmits are counted in the map PEERS, not sent.
    pub struct TcpRetransmit: 104 bytes {
        pub cookie: u64,
        /// Of the socket: current is whoever was interrupted.
        pub cgroup: CgroupRef,
        /// Thread group that made the last connection to this peer; 0 unknown.
        pub owner_start_boot_ns: u64,
        pub remote: [u8; 16],
        pub local: [u8; 16],
        pub owner_tgid: u32,
        pub netns: u32,
        /// Host byte order.
        pub remote_port: u32,
        pub local_port: u32,
        /// `TCP_*` of include/net/tcp_states.h.
        pub state: u32,
        /// `icsk_retransmits`: time-outs in a row without an answer. Kernels differ in whether this one counts.
        pub retransmits: u32,
        /// `tcp_sock.snd_una`: the first byte not acknowledged; another one means progress.
        pub unacknowledged: u32,
        /// What the local network said to it: 0, or an errno below 0 (-1: a local filter); 0 where not told.
        pub error: i32,
        /// Failures of this peer since the last connection made to it.
        pub streak: u32,
        /// Or of the constants below.
        pub flags: u32,
    }
}

impl TcpRetransmit {
    /// From a look at the table of sockets once a second: answers to shorter connections are not seen.
    pub const SAMPLED: u32 = 1;
}

impl Payload for TcpRetransmit {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self { cgroup, .. } if !cgroup.is_valid() => Err(Invalid("cgroup.hierarchy")),
            Self { remote_port, .. } if *remote_port > 0xffff => Err(Invalid("remote_port")),
            Self { local_port, .. } if *local_port > 0xffff => Err(Invalid("local_port")),
            Self { .. } => Ok(()),
        }
    }
}
