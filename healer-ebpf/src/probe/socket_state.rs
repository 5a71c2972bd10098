use aya_ebpf::{
    EbpfContext as _,
    helpers::bpf_ktime_get_boot_ns,
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use healer_common::{
    event::{part::CgroupRef, socket_state::SocketState, wire::Wire as _},
    network::PeerCounters,
    tuning::Counter,
};

use crate::{
    connecting::{self, Maker},
    memory::{Access, Object, Probed, Typed},
    peer::{self, End},
    ring::{self, Lane, Slot},
    tuning::{present, tuned},
};

const ESTABLISHED: u32 = SocketState::ESTABLISHED;
const SYN_SENT: u32 = SocketState::SYN_SENT;
const CLOSE: u32 = SocketState::CLOSE;
const LISTEN: u32 = SocketState::LISTEN;

pub(super) const IPPROTO_TCP: u16 = 6;
const ECONNREFUSED: i32 = 111;
const ETIMEDOUT: i32 = 110;
const EHOSTUNREACH: i32 = 113;
const ENETUNREACH: i32 = 101;

/// So many failures in a row are all sent; of more, one in this time.
const TOLD_AT_ONCE: u32 = 4;
const TOLD_EVERY_NS: u64 = 100_000_000;

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`, in any context but
/// for the first edge of a connection and for listeners.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn socket_state(ctx: BtfTracePointContext) -> i32 {
    if let Some(socket) = Object::<Typed>::new(ctx.arg(0)) {
        try_socket_state(socket, ctx.arg(1), ctx.arg(2));
    }
    0
}

/// The same where `tp_btf` is refused.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
fn socket_state_raw(ctx: RawTracePointContext) -> i32 {
    if let Some(socket) = Object::<Probed>::new(ctx.arg(0)) {
        try_socket_state(socket, ctx.arg(1), ctx.arg(2));
    }
    0
}

#[inline(always)]
fn try_socket_state<A: Access>(socket: Object<A>, old: u32, new: u32) {
    ring::count(Counter::SocketStates);
    if new == SYN_SENT {
        begun(socket);
    } else if old == SYN_SENT {
        decided(socket, new);
    } else if new == LISTEN || (old == LISTEN && new == CLOSE) {
        listener(socket, old, new);
    } else if new == CLOSE {
        broken(socket, old);
    }
}

#[inline(always)]
fn is_tcp<A: Access>(socket: Object<A>) -> bool {
    socket.get::<u16>(tuned!(SK_PROTOCOL)) == IPPROTO_TCP
}

#[inline(always)]
fn begun<A: Access>(socket: Object<A>) {
    if is_tcp(socket) {
        connecting::begun(peer::cookie(socket, 0), connecting::current_maker::<A>());
    }
}

/// A connection was made, or will not be.
#[inline(always)]
fn decided<A: Access>(socket: Object<A>, new: u32) {
    let maker = connecting::take(peer::cookie(socket, 0)).unwrap_or(Maker::UNKNOWN);
    let (cgroup, netns, remote) = (peer::cgroup(socket), peer::netns(socket), peer::remote(socket));
    let Some(counters) = peer::known_or_new(&peer::key(cgroup, netns, remote)) else {
        return;
    };
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // SAFETY: an entry of PEERS.
    unsafe {
        owned(counters, &maker);
        if new == ESTABLISHED {
            made(counters, now, maker.age(now));
            return;
        }
        let error = error_of(socket);
        let cookie = peer::cookie(socket, maker.at_ns);
        let edge = Edge {
            cookie,
            cgroup,
            netns,
            remote,
            local: peer::local(socket),
            old: SYN_SENT,
            new,
            error,
            age_ns: maker.age(now),
            flags: 0,
        };
        failed(&edge, counters, now);
    }
}

/// # Safety
/// `counters` is an entry of PEERS.
#[inline(always)]
pub(super) unsafe fn owned(counters: *mut PeerCounters, maker: &Maker) {
    // SAFETY: the caller's promise.
    unsafe {
        // healer's own probes do not hide a client that shares its cgroup.
        let is_other = maker.tgid != tuned!(OWN_TGID) || (*counters).owner_tgid == 0;
        if maker.tgid != 0 && is_other {
            (*counters).owner_tgid = maker.tgid;
            (*counters).owner_start_boot_ns = maker.start_boot_ns;
        }
    }
}

/// # Safety
/// `counters` is an entry of PEERS.
#[inline(always)]
pub(super) unsafe fn made(counters: *mut PeerCounters, now: u64, age_ns: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        peer::add_one(&raw mut (*counters).ok);
        (*counters).last_ok_ns = now;
        if (*counters).streak != 0 {
            (*counters).streak = 0;
        }
        let age_us = (age_ns / 1000) as u32;
        if (*counters).slowest_us < age_us {
            (*counters).slowest_us = age_us;
        }
    }
}

#[inline(always)]
fn error_of<A: Access>(socket: Object<A>) -> i32 {
    let error: i32 = socket.get(tuned!(SK_ERR));
    if error == 0 && present!(SK_ERR_SOFT) {
        // What ICMP said while connect(2) held the socket.
        return socket.get(tuned!(SK_ERR_SOFT));
    }
    error
}

/// # Safety
/// `counters` is an entry of PEERS.
#[inline(always)]
unsafe fn count(counters: *mut PeerCounters, error: i32) {
    // SAFETY: the caller's promise.
    unsafe {
        let counter = match error {
            ECONNREFUSED => &raw mut (*counters).refused,
            ETIMEDOUT => &raw mut (*counters).timed_out,
            EHOSTUNREACH | ENETUNREACH => &raw mut (*counters).unreachable,
            0 => &raw mut (*counters).abandoned,
            _ => &raw mut (*counters).reset,
        };
        peer::add_one(counter);
    }
}

/// A connection ends: with an error, if it was to a peer that we know of.
#[inline(always)]
fn broken<A: Access>(socket: Object<A>, old: u32) {
    let error: i32 = socket.get(tuned!(SK_ERR));
    if error == 0 || !is_tcp(socket) {
        return;
    }
    let (cgroup, netns, remote) = (peer::cgroup(socket), peer::netns(socket), peer::remote(socket));
    let Some(counters) = peer::known(&peer::key(cgroup, netns, remote)) else {
        return;
    };
    let (cookie, local) = (peer::cookie(socket, 0), peer::local(socket));
    // SAFETY: takes nothing; an entry of PEERS.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        let edge = Edge { cookie, cgroup, netns, remote, local, old, new: CLOSE, error, age_ns: 0, flags: 0 };
        failed(&edge, counters, now);
    }
}

pub(super) struct Edge {
    pub(super) cookie: u64,
    pub(super) cgroup: CgroupRef,
    pub(super) netns: u32,
    pub(super) remote: End,
    pub(super) local: End,
    pub(super) old: u32,
    pub(super) new: u32,
    pub(super) error: i32,
    pub(super) age_ns: u64,
    pub(super) flags: u32,
}

/// # Safety
/// `counters` is an entry of PEERS.
#[inline(always)]
pub(super) unsafe fn failed(edge: &Edge, counters: *mut PeerCounters, now: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        count(counters, edge.error);
        (*counters).last_bad_ns = now;
        peer::add_one(&raw mut (*counters).streak);
        let streak = (*counters).streak;
        if TOLD_AT_ONCE < streak && now.saturating_sub((*counters).last_told_ns) < TOLD_EVERY_NS {
            return;
        }
        (*counters).last_told_ns = now;
        let owner = ((*counters).owner_tgid, (*counters).owner_start_boot_ns);
        send(edge, owner, streak);
    }
}

#[inline(always)]
fn listener<A: Access>(socket: Object<A>, old: u32, new: u32) {
    if !is_tcp(socket) {
        return;
    }
    let maker = connecting::current_maker::<A>();
    let edge = Edge {
        cookie: peer::cookie(socket, 0),
        cgroup: peer::cgroup(socket),
        netns: peer::netns(socket),
        remote: End::NOBODY,
        local: peer::local(socket),
        old,
        new,
        error: 0,
        age_ns: 0,
        flags: 0,
    };
    send(&edge, (maker.tgid, maker.start_boot_ns), 0);
}

#[inline(always)]
pub(super) fn send(edge: &Edge, (tgid, start_boot_ns): (u32, u64), streak: u32) {
    let Some(mut slot) = Slot::<SocketState>::reserve(Lane::Spaced, CgroupRef::ZERO) else {
        return;
    };
    let payload = slot.payload();
    // SAFETY: the reserved record, of which every field is written.
    unsafe {
        (*payload).cookie = edge.cookie;
        (*payload).age_ns = edge.age_ns;
        (*payload).cgroup = edge.cgroup;
        (*payload).owner_start_boot_ns = start_boot_ns;
        peer::write_address(edge.remote, &raw mut (*payload).remote);
        peer::write_address(edge.local, &raw mut (*payload).local);
        (*payload).owner_tgid = tgid;
        (*payload).netns = edge.netns;
        (*payload).remote_port = edge.remote.port;
        (*payload).local_port = edge.local.port;
        (*payload).old_state = edge.old;
        (*payload).new_state = edge.new;
        (*payload).error = edge.error;
        (*payload).streak = streak;
        (*payload).flags = edge.flags;
        (*payload).pad = 0;
    }
    slot.submit();
}

/// Without the kernel's layout: the record has the ends and the states; whose it is was said by helpers when it
/// was asked for, and `tcp_receive_reset` has told of a refusal.
#[tracepoint(category = "sock", name = "inet_sock_set_state")]
fn socket_state_tp(ctx: TracePointContext) -> u32 {
    ring::count(Counter::SocketStates);
    let Some(record) = Object::<Probed>::new(ctx.as_ptr().cast_const().cast()) else {
        return 0;
    };
    if record.get::<u16>(tuned!(STATE_PROTOCOL)) != IPPROTO_TCP {
        return 0;
    }
    let socket: u64 = record.get(tuned!(STATE_SOCKET));
    let (old, new): (u32, u32) = (record.get(tuned!(STATE_OLD)), record.get(tuned!(STATE_NEW)));
    if new == SYN_SENT {
        connecting::told_begun(socket);
    } else if old == SYN_SENT && new == ESTABLISHED {
        told_made(record, socket);
    } else if new == LISTEN || (old == LISTEN && new == CLOSE) {
        told_listener(record, socket, old, new);
    } else if new == CLOSE {
        told_closed(record, socket, old);
    }
    0
}

#[inline(always)]
fn told_remote(record: Object<Probed>) -> End {
    End::told(record, tuned!(STATE_REMOTE6), tuned!(STATE_REMOTE_PORT))
}

#[inline(always)]
fn told_local(record: Object<Probed>) -> End {
    End::told(record, tuned!(STATE_LOCAL6), tuned!(STATE_LOCAL_PORT))
}

/// The maker stays known: retransmissions and the end do not say who it was.
#[inline(always)]
fn told_made(record: Object<Probed>, socket: u64) {
    let Some(maker) = connecting::told_maker_of(socket) else {
        return;
    };
    let Some(counters) = peer::known_or_new(&peer::key(maker.cgroup(), 0, told_remote(record))) else {
        return;
    };
    // SAFETY: takes nothing; an entry of PEERS.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        owned(counters, &maker);
        made(counters, now, maker.age(now));
    }
}

#[inline(always)]
fn told_closed(record: Object<Probed>, socket: u64, old: u32) {
    let Some(maker) = connecting::told_take(socket) else {
        return;
    };
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let error = inferred_error(&maker, old, now);
    if error == 0 && old != SYN_SENT {
        return;
    }
    let (cgroup, remote) = (maker.cgroup(), told_remote(record));
    let Some(counters) = peer::known_or_new(&peer::key(cgroup, 0, remote)) else {
        return;
    };
    let local = told_local(record);
    let age_ns = if old == SYN_SENT { maker.age(now) } else { 0 };
    // A reset is the peer's own word, and was seen.
    let flags = if maker.was_reset != 0 { 0 } else { SocketState::INFERRED };
    let cookie = maker.at_ns;
    let edge = Edge { cookie, cgroup, netns: 0, remote, local, old, new: CLOSE, error, age_ns, flags };
    // SAFETY: an entry of PEERS.
    unsafe {
        owned(counters, &maker);
        failed(&edge, counters, now);
    }
}

/// What `sk_err` would say: a reset was seen; idle does not close sockets, the kernel's timers and the network do.
#[inline(always)]
fn inferred_error(maker: &Maker, old: u32, now: u64) -> i32 {
    const ECONNRESET: i32 = 104;
    /// The kernel asks again after a second (RFC 6298): by then nobody has answered.
    const PATIENT_NS: u64 = 1_000_000_000;
    if maker.was_reset != 0 {
        return if old == SYN_SENT { ECONNREFUSED } else { ECONNRESET };
    }
    if !connecting::is_current_idle() || !matches!(old, SYN_SENT | ESTABLISHED | SocketState::CLOSE_WAIT) {
        return 0;
    }
    if old == SYN_SENT && maker.age(now) < PATIENT_NS { EHOSTUNREACH } else { ETIMEDOUT }
}

#[inline(always)]
fn told_listener(record: Object<Probed>, socket: u64, old: u32, new: u32) {
    let maker = connecting::told_maker();
    let edge = Edge {
        cookie: peer::place(socket),
        cgroup: maker.cgroup(),
        netns: 0,
        remote: End::NOBODY,
        local: told_local(record),
        old,
        new,
        error: 0,
        age_ns: 0,
        flags: 0,
    };
    send(&edge, (maker.tgid, 0), 0);
}

/// `tcp_receive_reset(struct sock *sk)`: the end that follows was the peer's word.
#[tracepoint(category = "tcp", name = "tcp_receive_reset")]
fn socket_reset_tp(ctx: TracePointContext) -> u32 {
    if let Some(record) = Object::<Probed>::new(ctx.as_ptr().cast_const().cast()) {
        connecting::told_reset(record.get(tuned!(RESET_SOCKET)));
    }
    0
}
