//! The ways in which a peer can fail its client.

/// What is wrong with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It is there and says no.
    Refuses,
    /// Somebody on the way says that it cannot be reached.
    Unreachable,
    NoAnswer,
    /// It is there, and does not read what it is sent.
    Frozen,
    /// It does not answer questions for names.
    Dns,
    /// It is well, but connections from before stay dead.
    Stale,
}

impl Kind {
    /// As in `detail.kind` and in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuses => "refuses",
            Self::Unreachable => "unreachable",
            Self::NoAnswer => "no_answer",
            Self::Frozen => "frozen",
            Self::Dns => "dns",
            Self::Stale => "stale",
        }
    }

    /// Somebody was there, if only its kernel.
    pub(super) fn was_reached(self) -> bool {
        match self {
            Self::Refuses | Self::Frozen | Self::Stale => true,
            Self::Unreachable | Self::NoAnswer | Self::Dns => false,
        }
    }

    /// The sensor that mostly tells of it.
    pub(super) fn signal(self) -> &'static str {
        match self {
            Self::Refuses | Self::Unreachable => "socket_state",
            Self::NoAnswer => "tcp_retransmit",
            Self::Frozen | Self::Dns | Self::Stale => "sockets",
        }
    }
}
