use aya_ebpf::{
    EbpfContext as _,
    helpers::bpf_ktime_get_boot_ns,
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use healer_common::{
    event::{part::CgroupRef, socket_state::SocketState, tcp_retransmit::TcpRetransmit, wire::Wire as _},
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

/// Of the records about one peer, one in this time.
const TOLD_EVERY_NS: u64 = 20_000_000;

/// `tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb[, int err])`, mostly in the timer's context.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn tcp_retransmit(ctx: BtfTracePointContext) -> i32 {
    if let Some(socket) = Object::<Typed>::new(ctx.arg(0)) {
        let error = if tuned!(HAS_RETRANSMIT_ERROR) != 0 { ctx.arg::<i32>(2) } else { 0 };
        try_tcp_retransmit(socket, error);
    }
    0
}

/// The same where `tp_btf` is refused.
#[raw_tracepoint(tracepoint = "tcp_retransmit_skb")]
fn tcp_retransmit_raw(ctx: RawTracePointContext) -> i32 {
    if let Some(socket) = Object::<Probed>::new(ctx.arg(0)) {
        let error = if tuned!(HAS_RETRANSMIT_ERROR) != 0 { ctx.arg::<i32>(2) } else { 0 };
        try_tcp_retransmit(socket, error);
    }
    0
}

#[inline(always)]
fn try_tcp_retransmit<A: Access>(given: Object<A>, error: i32) {
    ring::count(Counter::Retransmits);
    // Lossy paths make many of these, and the verifier would search for each typed hop.
    let socket = given.probed();
    let state = u32::from(socket.get::<u8>(tuned!(SKC_STATE)));
    let (cgroup, netns, remote) = (peer::cgroup(socket), peer::netns(socket), peer::remote(socket));
    let key = peer::key(cgroup, netns, remote);
    let is_request = state == SocketState::SYN_SENT;
    // A server's own connections are to no known peer.
    let counters = if is_request { peer::known_or_new(&key) } else { peer::known(&key) };
    let Some(counters) = counters else {
        return;
    };
    let maker = if is_request { connecting::maker_of(peer::cookie(given, 0)) } else { None };
    let maker = maker.unwrap_or(Maker::UNKNOWN);
    let retransmits = u32::from(socket.get::<u8>(tuned!(ICSK_RETRANSMITS)));
    let is_news = is_request || (is_waited_for(state) && (0 < retransmits || error < 0));
    // SAFETY: an entry of PEERS.
    let is_told = unsafe {
        super::socket_state::owned(counters, &maker);
        is_told(counters, is_request, is_news)
    };
    if is_told {
        let sent = Sent {
            cookie: peer::cookie(given, maker.at_ns),
            cgroup,
            netns,
            remote,
            local: peer::local(socket),
            state,
            retransmits,
            unacknowledged: socket.get(tuned!(TCP_SND_UNA)),
            error,
        };
        // SAFETY: an entry of PEERS.
        unsafe { send(counters, &sent) };
    }
}

/// The first is a tail-loss probe or a fast retransmit: healthy streams make them too. And nobody waits for
/// the answer to a goodbye.
#[inline(always)]
fn is_waited_for(state: u32) -> bool {
    state == SocketState::ESTABLISHED || state == SocketState::CLOSE_WAIT
}

/// Counts it; whether a record is due.
///
/// # Safety
/// `counters` is an entry of PEERS.
#[inline(always)]
unsafe fn is_told(counters: *mut PeerCounters, is_request: bool, is_news: bool) -> bool {
    // SAFETY: the caller's promise; takes nothing.
    unsafe {
        peer::add_one(if is_request {
            &raw mut (*counters).syn_retransmits
        } else {
            &raw mut (*counters).retransmits
        });
        if !is_news {
            return false;
        }
        let now = bpf_ktime_get_boot_ns();
        if now.saturating_sub((*counters).last_retransmit_told_ns) < TOLD_EVERY_NS {
            return false;
        }
        (*counters).last_retransmit_told_ns = now;
    }
    true
}

struct Sent {
    cookie: u64,
    cgroup: CgroupRef,
    netns: u32,
    remote: End,
    local: End,
    state: u32,
    retransmits: u32,
    unacknowledged: u32,
    error: i32,
}

/// # Safety
/// `counters` is an entry of PEERS.
#[inline(always)]
unsafe fn send(counters: *mut PeerCounters, sent: &Sent) {
    let Some(mut slot) = Slot::<TcpRetransmit>::reserve(Lane::Spaced, CgroupRef::ZERO) else {
        return;
    };
    let payload = slot.payload();
    // SAFETY: the reserved record, of which every field is written; the caller's promise.
    unsafe {
        (*payload).cookie = sent.cookie;
        (*payload).cgroup = sent.cgroup;
        (*payload).owner_start_boot_ns = (*counters).owner_start_boot_ns;
        peer::write_address(sent.remote, &raw mut (*payload).remote);
        peer::write_address(sent.local, &raw mut (*payload).local);
        (*payload).owner_tgid = (*counters).owner_tgid;
        (*payload).netns = sent.netns;
        (*payload).remote_port = sent.remote.port;
        (*payload).local_port = sent.local.port;
        (*payload).state = sent.state;
        (*payload).retransmits = sent.retransmits;
        (*payload).unacknowledged = sent.unacknowledged;
        (*payload).error = sent.error;
        (*payload).streak = (*counters).streak;
        (*payload).flags = 0;
    }
    slot.submit();
}

/// Without the kernel's layout: the record has state and ends. How often in a row is counted for requests; of
/// others user space asks the kernel.
#[tracepoint(category = "tcp", name = "tcp_retransmit_skb")]
fn tcp_retransmit_tp(ctx: TracePointContext) -> u32 {
    ring::count(Counter::Retransmits);
    if let Some(record) = Object::<Probed>::new(ctx.as_ptr().cast_const().cast()) {
        try_tcp_retransmit_tp(record);
    }
    0
}

#[inline(always)]
fn try_tcp_retransmit_tp(record: Object<Probed>) {
    // Nobody: a server's own connection, or one that is older than healer.
    let Some(maker) = connecting::told_again(record.get(tuned!(RESENT_SOCKET))) else {
        return;
    };
    let state: u32 = record.get(tuned!(RESENT_STATE));
    let remote = End::told(record, tuned!(RESENT_REMOTE6), tuned!(RESENT_REMOTE_PORT));
    let Some(counters) = peer::known_or_new(&peer::key(maker.cgroup(), 0, remote)) else {
        return;
    };
    let is_request = state == SocketState::SYN_SENT;
    // SAFETY: an entry of PEERS.
    unsafe {
        super::socket_state::owned(counters, &maker);
        if is_told(counters, is_request, is_request || is_waited_for(state)) {
            let sent = Sent {
                cookie: maker.at_ns,
                cgroup: maker.cgroup(),
                netns: 0,
                remote,
                local: End::told(record, tuned!(RESENT_LOCAL6), tuned!(RESENT_LOCAL_PORT)),
                state,
                retransmits: if is_request { u32::from(maker.again) } else { 0 },
                unacknowledged: 0,
                error: if present!(RESENT_ERROR) { record.get(tuned!(RESENT_ERROR)) } else { 0 },
            };
            send(counters, &sent);
        }
    }
}
