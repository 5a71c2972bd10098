use healer_common::event::{socket_state::SocketState, tcp_retransmit::TcpRetransmit as Record};

use super::{
    Fact, Meaning, Raw,
    network::{Flow, Retransmitted, address},
    raw,
};
use crate::engine::time::BootTime;

pub(super) fn interpret(at: BootTime, event: &Record) -> Meaning {
    let fact = Fact::Retransmitted(Retransmitted {
        flow: Flow {
            peer: address(event.remote, event.remote_port),
            local: address(event.local, event.local_port),
            netns: event.netns,
            cgroup: event.cgroup.id,
            cookie: event.cookie,
        },
        connecting: event.state == SocketState::SYN_SENT,
        retransmits: event.retransmits,
        unacknowledged: event.unacknowledged,
        local_error: event.error.checked_neg().filter(|errno| 0 < *errno),
        streak: event.streak,
        sampled: event.flags & Record::SAMPLED != 0,
    });
    let owner = raw::owner(event.owner_tgid, event.owner_start_boot_ns, &event.cgroup);
    Meaning::Happened(Raw { at, seen: None, fact, at_limit: None, owner: Some(owner) })
}
