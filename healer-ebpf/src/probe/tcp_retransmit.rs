use aya_ebpf::{
    helpers::{bpf_ktime_get_boot_ns, generated::bpf_get_socket_cookie},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use healer_common::{
    event::{part::CgroupRef, socket_state::SocketState, tcp_retransmit::TcpRetransmit, wire::Wire as _},
    network::PeerCounters,
    tuning::Counter,
};

use crate::{
    memory::{Object, Probed, Typed},
    peer::{self, End},
    ring::{self, Lane, Slot},
    tuning::tuned,
};

/// Of the records about one peer, one in this time.
const TOLD_EVERY_NS: u64 = 20_000_000;

/// `tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb[, int err])`, mostly in the timer's context.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn tcp_retransmit(ctx: BtfTracePointContext) -> i32 {
    ring::count(Counter::Retransmits);
    if let Some(socket) = Object::<Typed>::new(ctx.arg(0)) {
        let error = if tuned!(HAS_RETRANSMIT_ERROR) != 0 { ctx.arg::<i32>(2) } else { 0 };
        try_tcp_retransmit(socket, error);
    }
    0
}

#[inline(always)]
fn try_tcp_retransmit(typed: Object<Typed>, error: i32) {
    // Lossy paths make many of these, and the verifier would search for each typed hop.
    let socket = typed.probed();
    let state = u32::from(socket.get::<u8>(tuned!(SKC_STATE)));
    let (cgroup, netns, remote) = (peer::cgroup(socket), peer::netns(socket), peer::remote(socket));
    let key = peer::key(cgroup, netns, remote);
    let is_request = state == SocketState::SYN_SENT;
    // A server's own connections are to no known peer.
    let counters = if is_request { peer::known_or_new(&key) } else { peer::known(&key) };
    let Some(counters) = counters else {
        return;
    };
    let retransmits = u32::from(socket.get::<u8>(tuned!(ICSK_RETRANSMITS)));
    // SAFETY: an entry of PEERS.
    unsafe {
        peer::add_one(if is_request {
            &raw mut (*counters).syn_retransmits
        } else {
            &raw mut (*counters).retransmits
        });
        // The first is a tail-loss probe or a fast retransmit: healthy streams make them too. And nobody waits for
        // the answer to a goodbye.
        let is_waited_for = state == SocketState::ESTABLISHED || state == SocketState::CLOSE_WAIT;
        if is_request || (is_waited_for && (0 < retransmits || error < 0)) {
            told(typed, counters, &Sent { socket, cgroup, netns, remote, state, retransmits, error });
        }
    }
}

struct Sent {
    socket: Object<Probed>,
    cgroup: CgroupRef,
    netns: u32,
    remote: End,
    state: u32,
    retransmits: u32,
    error: i32,
}

/// # Safety
/// `counters` is an entry of PEERS.
#[inline(always)]
unsafe fn told(typed: Object<Typed>, counters: *mut PeerCounters, sent: &Sent) {
    // SAFETY: takes nothing; the caller's promise; a socket, whose type the verifier knows.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        if now.saturating_sub((*counters).last_retransmit_told_ns) < TOLD_EVERY_NS {
            return;
        }
        (*counters).last_retransmit_told_ns = now;
        let cookie = bpf_get_socket_cookie(typed.address().cast_mut().cast());
        let Some(mut slot) = Slot::<TcpRetransmit>::reserve(Lane::Spaced, CgroupRef::ZERO) else {
            return;
        };
        let payload = slot.payload();
        let local = peer::local(sent.socket);
        (*payload).cookie = cookie;
        (*payload).cgroup = sent.cgroup;
        (*payload).owner_start_boot_ns = (*counters).owner_start_boot_ns;
        peer::write_address(sent.remote, &raw mut (*payload).remote);
        peer::write_address(local, &raw mut (*payload).local);
        (*payload).owner_tgid = (*counters).owner_tgid;
        (*payload).netns = sent.netns;
        (*payload).remote_port = sent.remote.port;
        (*payload).local_port = local.port;
        (*payload).state = sent.state;
        (*payload).retransmits = sent.retransmits;
        (*payload).unacknowledged = sent.socket.get(tuned!(TCP_SND_UNA));
        (*payload).error = sent.error;
        (*payload).streak = (*counters).streak;
        (*payload).pad = 0;
        slot.submit();
    }
}
