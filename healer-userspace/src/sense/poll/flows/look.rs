//! What one look at the sockets of the node shows.

use std::net::SocketAddr;

use crate::{
    engine::time::BootTime,
    identity::ROOT_CGROUP,
    signal::network::{Addresses, LinkChange, Moved, RoundTrip, Stall},
};

/// Whose socket: by its descriptor, and by the cgroup that it was made in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    pub pid: Option<u32>,
    pub cgroup: u64,
}

impl Whose {
    /// In the root cgroup lives anybody.
    #[must_use]
    pub fn is_somebody(&self) -> bool {
        self.pid.is_some() || ROOT_CGROUP < self.cgroup
    }
}

/// A client's connection that does not move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    pub netns: u32,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub cookie: u64,
    pub whose: Whose,
    pub why: Stall,
    pub since: BootTime,
    pub retransmits: u32,
    pub acked: u64,
    /// Of [`Stall::Unread`]: who does not read.
    pub server: Option<Whose>,
    /// The server may not run: it is stopped, or frozen.
    pub halted: bool,
}

/// Who answers what a client calls `peer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    pub netns: u32,
    pub peer: SocketAddr,
    /// What the server itself calls it.
    pub address: SocketAddr,
    pub whose: Whose,
}

/// A listener that is older than healer, or whose end was missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub netns: u32,
    pub address: SocketAddr,
    pub cookie: u64,
    pub whose: Whose,
    pub on: bool,
}

/// What one look shows, of the namespaces whose turn it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    pub stuck: Vec<Stuck>,
    pub answers: Vec<Answers>,
    pub listeners: Vec<Listener>,
    pub links: Vec<LinkChange>,
    pub trips: Vec<RoundTrip>,
    pub moved: Vec<Moved>,
    pub addresses: Vec<Addresses>,
    /// Network namespaces in which nobody lives any more.
    pub gone: Vec<u32>,
}

impl Look {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
