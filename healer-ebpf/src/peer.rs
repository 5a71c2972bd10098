//! A socket's ends and owner, and what is counted of each client and peer.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, LruHashMap},
};
use healer_common::{
    event::{part::CgroupRef, wire::Wire as _},
    network::{PEER_PORT_SLOTS, PEERS_MAX, PeerCounters, PeerKey},
};

use crate::{
    memory::{Access, Object, Probed},
    task::cgroup_id,
    tuning::{present, tuned},
};

#[map]
static PEERS: LruHashMap<PeerKey, PeerCounters> = LruHashMap::with_max_entries(PEERS_MAX, 0);

/// Not zero: peers have had ports of this slot. What a server has accepted ends here, without a search.
#[map]
static PEER_PORTS: Array<u8> = Array::with_max_entries(PEER_PORT_SLOTS, 0);

/// `AF_INET6` of include/linux/socket.h.
const AF_INET6: u16 = 10;
/// The middle of `::ffff:a.b.c.d`: bytes 8 to 11 in memory, as the lower half of a word.
const MAPPED: u64 = 0xffff_0000;

/// One end of a connection.
#[derive(Clone, Copy)]
pub(crate) struct End {
    pub(crate) address: [u64; 2],
    pub(crate) port: u32,
}

impl End {
    pub(crate) const NOBODY: Self = Self { address: [0; 2], port: 0 };

    /// As classic tracepoints keep it: IPv4 is mapped, the port in host byte order.
    #[inline(always)]
    pub(crate) fn told(record: Object<Probed>, address: u32, port: u32) -> Self {
        let address = [record.get(address), record.get(address + 8)];
        Self { address, port: u32::from(record.get::<u16>(port)) }
    }
}

/// What tells this connection from others. `since_ns` is when it was asked for; 0 unknown.
#[inline(always)]
pub(crate) fn cookie<A: Access>(socket: Object<A>, since_ns: u64) -> u64 {
    // SAFETY: a socket.
    unsafe { A::cookie(socket.address(), since_ns) }
}

/// A socket by its place, which is used again once the socket is gone; not the address itself: records are shown.
#[inline(always)]
pub(crate) fn place(socket: u64) -> u64 {
    hashed(socket) >> 24
}

/// Spread over the upper bits.
#[inline(always)]
pub(crate) fn hashed(key: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    key.wrapping_mul(GOLDEN)
}

#[inline(always)]
pub(crate) fn remote<A: Access>(socket: Object<A>) -> End {
    let port: u16 = socket.get(tuned!(SKC_REMOTE_PORT));
    let address = address(socket, tuned!(SKC_REMOTE), tuned!(SKC_REMOTE6));
    End { address, port: u32::from(u16::from_be(port)) }
}

#[inline(always)]
pub(crate) fn local<A: Access>(socket: Object<A>) -> End {
    let port: u16 = socket.get(tuned!(SKC_LOCAL_PORT));
    End { address: address(socket, tuned!(SKC_LOCAL), tuned!(SKC_LOCAL6)), port: u32::from(port) }
}

#[inline(always)]
fn address<A: Access>(socket: Object<A>, four: u32, six: u32) -> [u64; 2] {
    let family: u16 = socket.get(tuned!(SKC_FAMILY));
    if present!(SKC_REMOTE6, SKC_LOCAL6) && family == AF_INET6 {
        return [socket.get(six), socket.get(six + 8)];
    }
    let address: u32 = socket.get(four);
    [0, u64::from(address) << 32 | MAPPED]
}

/// # Safety
/// `to` is valid and aligned to 8 bytes.
#[inline(always)]
pub(crate) unsafe fn write_address(end: End, to: *mut [u8; 16]) {
    let to = to.cast::<u64>();
    let [first, second] = end.address;
    // SAFETY: the caller's promise.
    unsafe {
        to.write_volatile(first);
        to.add(1).write_volatile(second);
    }
}

/// The cgroup that the socket was made in; a moved process keeps it. Root while `net_cls` is in use
/// (include/linux/cgroup-defs.h `sock_cgroup_data`).
#[inline(always)]
pub(crate) fn cgroup<A: Access>(socket: Object<A>) -> CgroupRef {
    if !present!(SK_CGROUP, CGROUP_KN, KERNFS_ID) {
        return CgroupRef::ZERO;
    }
    match socket.follow(tuned!(SK_CGROUP)).and_then(cgroup_id) {
        Some(id) => CgroupRef { id, hierarchy: CgroupRef::V2, pad: 0 },
        None => CgroupRef::ZERO,
    }
}

#[inline(always)]
pub(crate) fn netns<A: Access>(socket: Object<A>) -> u32 {
    if !present!(SKC_NET, NET_INUM) {
        return 0;
    }
    socket.follow(tuned!(SKC_NET)).map_or(0, |net| net.get(tuned!(NET_INUM)))
}

#[inline(always)]
pub(crate) fn key(cgroup: CgroupRef, netns: u32, remote: End) -> PeerKey {
    let mut key = PeerKey { cgroup_id: cgroup.id, address: [0; 16], netns, port: remote.port };
    // SAFETY: the address lies at a multiple of 8.
    unsafe { write_address(remote, &raw mut key.address) };
    key
}

/// What is known of a peer that somebody connected to before.
#[inline(always)]
pub(crate) fn known(key: &PeerKey) -> Option<*mut PeerCounters> {
    let port = PEER_PORTS.get_ptr(port_slot(key))?;
    // SAFETY: an entry of the map.
    if unsafe { port.read_volatile() } == 0 {
        return None;
    }
    PEERS.get_ptr_mut(key)
}

#[inline(always)]
fn port_slot(key: &PeerKey) -> u32 {
    key.port & (PEER_PORT_SLOTS - 1)
}

/// `None` only if no entry can be freed.
#[inline(always)]
pub(crate) fn known_or_new(key: &PeerKey) -> Option<*mut PeerCounters> {
    if let Some(peer) = PEERS.get_ptr_mut(key) {
        return Some(peer);
    }
    if let Some(port) = PEER_PORTS.get_ptr_mut(port_slot(key)) {
        // SAFETY: an entry of the map.
        unsafe { port.write_volatile(1) };
    }
    // It fails if another CPU was faster: then its entry is found.
    let _inserted = PEERS.insert(key, PeerCounters::ZERO, u64::from(BPF_NOEXIST));
    PEERS.get_ptr_mut(key)
}

/// Two CPUs at once can lose a count: a locked addition costs more than that is worth, and this target has
/// none of 32 bits.
///
/// # Safety
/// `counter` points into an entry of PEERS.
#[inline(always)]
pub(crate) unsafe fn add_one(counter: *mut u32) {
    // SAFETY: the caller's promise.
    unsafe { *counter = (*counter).wrapping_add(1) };
}
