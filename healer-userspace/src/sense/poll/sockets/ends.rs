//! The two ends of a connection, and what waits at this one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{CLOSE_WAIT, Socket};

impl Socket {
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(ip(self.family, self.local_address), self.local_port)
    }

    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        SocketAddr::new(ip(self.family, self.peer_address), self.peer_port)
    }

    /// The peer's FIN counts as a byte to be read.
    #[must_use]
    pub fn unread(&self) -> u32 {
        self.receive_queue.saturating_sub(u32::from(self.state == CLOSE_WAIT))
    }
}

fn ip(family: u8, bytes: [u8; 16]) -> IpAddr {
    if i32::from(family) == libc::AF_INET6 {
        return IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical();
    }
    let [a, b, c, d, ..] = bytes;
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}
