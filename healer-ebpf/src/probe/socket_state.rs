use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns, generated::bpf_get_socket_cookie},
    macros::{btf_tracepoint, map},
    maps::HashMap,
    programs::BtfTracePointContext,
};
use healer_common::{
    event::{part::CgroupRef, socket_state::SocketState, wire::Wire as _},
    network::{CONNECTING_MAX, PeerCounters},
    tuning::Counter,
};

use crate::{
    memory::{Object, Typed},
    peer::{self, End},
    ring::{self, Lane, Slot},
    task,
    tuning::{present, tuned},
};

const ESTABLISHED: u32 = SocketState::ESTABLISHED;
const SYN_SENT: u32 = SocketState::SYN_SENT;
const CLOSE: u32 = SocketState::CLOSE;
const LISTEN: u32 = SocketState::LISTEN;

const IPPROTO_TCP: u16 = 6;
const ECONNREFUSED: i32 = 111;
const ETIMEDOUT: i32 = 110;
const EHOSTUNREACH: i32 = 113;
const ENETUNREACH: i32 = 101;

/// So many failures in a row are all sent; of more, one in this time.
const TOLD_AT_ONCE: u32 = 4;
const TOLD_EVERY_NS: u64 = 100_000_000;

/// Who connects, and since when: known only at the first edge, which the process itself makes.
#[derive(Clone, Copy)]
#[repr(C)]
struct Maker {
    at_ns: u64,
    start_boot_ns: u64,
    tgid: u32,
    pad: u32,
}

/// Connections being made, by the socket's address. Entries go with the next edge, which every socket
/// makes: `inet_csk_destroy_sock` wants it closed (net/ipv4/inet_connection_sock.c).
#[map]
static CONNECTING: HashMap<u64, Maker> = HashMap::with_max_entries(CONNECTING_MAX, 0);

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`, in any context but
/// for the first edge of a connection and for listeners.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn socket_state(ctx: BtfTracePointContext) -> i32 {
    ring::count(Counter::SocketStates);
    let (old, new): (u32, u32) = (ctx.arg(1), ctx.arg(2));
    if let Some(socket) = Object::<Typed>::new(ctx.arg(0)) {
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
    0
}

#[inline(always)]
fn is_tcp(socket: Object<Typed>) -> bool {
    socket.get::<u16>(tuned!(SK_PROTOCOL)) == IPPROTO_TCP
}

#[inline(always)]
fn current_maker() -> Maker {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let start_boot_ns = task::current().map_or(0, task::start_of);
    // SAFETY: takes nothing.
    let at_ns = unsafe { bpf_ktime_get_boot_ns() };
    Maker { at_ns, start_boot_ns, tgid, pad: 0 }
}

#[inline(always)]
fn begun(socket: Object<Typed>) {
    if is_tcp(socket) {
        // Full: the peer's last maker stands in.
        let _inserted = CONNECTING.insert(socket.address() as u64, current_maker(), u64::from(BPF_ANY));
    }
}

/// A connection was made, or will not be.
#[inline(always)]
fn decided(socket: Object<Typed>, new: u32) {
    let at = socket.address() as u64;
    let Some(maker) = take(at) else {
        return;
    };
    let (cgroup, netns, remote) = (peer::cgroup(socket), peer::netns(socket), peer::remote(socket));
    let Some(counters) = peer::known_or_new(&peer::key(cgroup, netns, remote)) else {
        return;
    };
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let age_ns = now.saturating_sub(maker.at_ns);
    // SAFETY: an entry of PEERS.
    unsafe {
        if maker.tgid != 0 {
            (*counters).owner_tgid = maker.tgid;
            (*counters).owner_start_boot_ns = maker.start_boot_ns;
        }
        if new == ESTABLISHED {
            made(counters, now, age_ns);
            return;
        }
        let error = error_of(socket);
        count(counters, error);
        let edge = Edge { socket, cgroup, netns, remote, old: SYN_SENT, new, error, age_ns };
        failed(&edge, counters, now);
    }
}

/// Gives the maker, unless the connection was begun before healer was.
#[inline(always)]
fn take(at: u64) -> Option<Maker> {
    // SAFETY: copied at once; another connection begins in this place only after this edge.
    let maker = unsafe { CONNECTING.get(at) }.copied();
    let _removed = CONNECTING.remove(at);
    maker.or(Some(Maker { at_ns: u64::MAX, start_boot_ns: 0, tgid: 0, pad: 0 }))
}

/// # Safety
/// `counters` is an entry of PEERS.
#[inline(always)]
unsafe fn made(counters: *mut PeerCounters, now: u64, age_ns: u64) {
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
fn error_of(socket: Object<Typed>) -> i32 {
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
fn broken(socket: Object<Typed>, old: u32) {
    let error: i32 = socket.get(tuned!(SK_ERR));
    if error == 0 || !is_tcp(socket) {
        return;
    }
    let (cgroup, netns, remote) = (peer::cgroup(socket), peer::netns(socket), peer::remote(socket));
    let Some(counters) = peer::known(&peer::key(cgroup, netns, remote)) else {
        return;
    };
    // SAFETY: takes nothing; an entry of PEERS.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        count(counters, error);
        let edge = Edge { socket, cgroup, netns, remote, old, new: CLOSE, error, age_ns: 0 };
        failed(&edge, counters, now);
    }
}

struct Edge {
    socket: Object<Typed>,
    cgroup: CgroupRef,
    netns: u32,
    remote: End,
    old: u32,
    new: u32,
    error: i32,
    age_ns: u64,
}

/// # Safety
/// `counters` is an entry of PEERS.
#[inline(always)]
unsafe fn failed(edge: &Edge, counters: *mut PeerCounters, now: u64) {
    // SAFETY: the caller's promise.
    unsafe {
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
fn listener(socket: Object<Typed>, old: u32, new: u32) {
    if !is_tcp(socket) {
        return;
    }
    let maker = current_maker();
    let edge = Edge {
        socket,
        cgroup: peer::cgroup(socket),
        netns: peer::netns(socket),
        remote: End { address: [0; 2], port: 0 },
        old,
        new,
        error: 0,
        age_ns: 0,
    };
    send(&edge, (maker.tgid, maker.start_boot_ns), 0);
}

#[inline(always)]
fn send(edge: &Edge, (tgid, start_boot_ns): (u32, u64), streak: u32) {
    // SAFETY: a socket, whose type the verifier knows.
    let cookie = unsafe { bpf_get_socket_cookie(edge.socket.address().cast_mut().cast()) };
    let Some(mut slot) = Slot::<SocketState>::reserve(Lane::Spaced, CgroupRef::ZERO) else {
        return;
    };
    let payload = slot.payload();
    let local = peer::local(edge.socket);
    // SAFETY: the reserved record, of which every field is written.
    unsafe {
        (*payload).cookie = cookie;
        (*payload).age_ns = edge.age_ns;
        (*payload).cgroup = edge.cgroup;
        (*payload).owner_start_boot_ns = start_boot_ns;
        peer::write_address(edge.remote, &raw mut (*payload).remote);
        peer::write_address(local, &raw mut (*payload).local);
        (*payload).owner_tgid = tgid;
        (*payload).netns = edge.netns;
        (*payload).remote_port = edge.remote.port;
        (*payload).local_port = local.port;
        (*payload).old_state = edge.old;
        (*payload).new_state = edge.new;
        (*payload).error = edge.error;
        (*payload).streak = streak;
    }
    slot.submit();
}
