use super::{Invalid, Payload, part::CgroupRef, wire::wire};

wire! {
    /// A TCP connection failed, or a listener came or went: from `sock:inet_sock_set_state`.
    ///
    /// Of one peer's failures the first few are sent, then a sample; all are counted in the map PEERS.
    pub struct SocketState: 112 bytes {
        /// As `inet_diag` shows it; never reused while the machine runs.
        pub cookie: u64,
        /// From the request for a connection to this edge, ns; 0 unknown.
        pub age_ns: u64,
        /// Of the socket, not of current: set when it was made.
        pub cgroup: CgroupRef,
        /// Thread group that connects or listens; 0 unknown. Leader's start as in a [`super::part::TaskRef`].
        pub owner_start_boot_ns: u64,
        /// IPv6, or IPv4 as `::ffff:a.b.c.d`.
        pub remote: [u8; 16],
        pub local: [u8; 16],
        pub owner_tgid: u32,
        /// Inode number of the socket's network namespace.
        pub netns: u32,
        /// Host byte order; the local one is 0 once the socket is unbound.
        pub remote_port: u32,
        pub local_port: u32,
        /// `TCP_*` of include/net/tcp_states.h.
        pub old_state: u32,
        pub new_state: u32,
        /// `sk_err`, else `sk_err_soft`, of errno(3); 0: the client itself gave up.
        pub error: i32,
        /// Failures of this peer since the last connection made to it, this one included.
        pub streak: u32,
        /// Or of the constants below.
        pub flags: u32,
        pub pad: u32,
    }
}

impl SocketState {
    pub const ESTABLISHED: u32 = 1;
    pub const SYN_SENT: u32 = 2;
    pub const CLOSE: u32 = 7;
    pub const CLOSE_WAIT: u32 = 8;
    pub const LISTEN: u32 = 10;

    /// From a classic tracepoint, which does not tell `sk_err`: `error` is concluded from who closed the socket, and when.
    pub const INFERRED: u32 = 1;
}

impl Payload for SocketState {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self { cgroup, .. } if !cgroup.is_valid() => Err(Invalid("cgroup.hierarchy")),
            Self { remote_port, .. } if *remote_port > 0xffff => Err(Invalid("remote_port")),
            Self { local_port, .. } if *local_port > 0xffff => Err(Invalid("local_port")),
            Self { .. } => Ok(()),
        }
    }
}
