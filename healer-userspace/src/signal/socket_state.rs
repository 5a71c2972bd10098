use healer_common::event::socket_state::SocketState as Record;

use super::{
    Fact, Meaning, Raw,
    network::{ConnectionFailed, FailureCause, Flow, Listens, address},
    raw,
};
use crate::engine::time::BootTime;

pub(super) fn interpret(at: BootTime, event: &Record) -> Meaning {
    let is_listener = event.new_state == Record::LISTEN || event.old_state == Record::LISTEN;
    let fact = if is_listener { listens(event) } else { failed(event) };
    let owner = raw::owner(event.owner_tgid, event.owner_start_boot_ns, &event.cgroup);
    Meaning::Happened(Raw { at, seen: None, fact, at_limit: None, owner: Some(owner) })
}

fn listens(event: &Record) -> Fact {
    Fact::Listens(Listens {
        address: address(event.local, event.local_port),
        netns: event.netns,
        cgroup: event.cgroup.id,
        cookie: event.cookie,
        on: event.new_state == Record::LISTEN,
    })
}

fn failed(event: &Record) -> Fact {
    Fact::ConnectionFailed(ConnectionFailed {
        flow: Flow {
            peer: address(event.remote, event.remote_port),
            local: address(event.local, event.local_port),
            netns: event.netns,
            cgroup: event.cgroup.id,
            cookie: event.cookie,
        },
        cause: cause(event.error),
        connecting: event.old_state == Record::SYN_SENT,
        age_us: (event.age_ns != 0).then_some(event.age_ns / 1000),
        streak: event.streak,
        inferred: event.flags & Record::INFERRED != 0,
    })
}

fn cause(error: i32) -> FailureCause {
    match error {
        0 => FailureCause::GaveUp,
        libc::ECONNREFUSED => FailureCause::Refused,
        libc::ETIMEDOUT => FailureCause::TimedOut,
        libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENETDOWN => {
            FailureCause::Unreachable
        }
        // A router's or a filter's word by ICMP, whatever it forbids (icmpv6_err_convert in net/ipv6/icmp.c,
        // icmp_err_convert in net/ipv4/icmp.c).
        libc::EACCES | libc::EPROTO | libc::ENOPROTOOPT => FailureCause::Unreachable,
        _ => FailureCause::Reset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_filter_forbids_by_icmp_is_unreachable_in_either_family() {
        for error in [libc::EHOSTUNREACH, libc::EACCES, libc::ENOPROTOOPT] {
            assert_eq!(cause(error), FailureCause::Unreachable);
        }
        assert_eq!(cause(libc::ECONNRESET), FailureCause::Reset);
    }
}
