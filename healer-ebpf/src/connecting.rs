//! Who asked for a connection, and when: known only at its first edge, which the process itself makes.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns, generated::bpf_get_current_cgroup_id},
    macros::map,
    maps::{Array, LruHashMap},
};
use healer_common::{
    event::part::CgroupRef,
    network::{CONNECTING_SLOTS, TOLD_MAX},
};

use crate::{memory::Access, peer::hashed, task};

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Maker {
    pub(crate) at_ns: u64,
    pub(crate) start_boot_ns: u64,
    /// Of current, where the socket does not say its own.
    cgroup_id: u64,
    pub(crate) tgid: u32,
    pub(crate) was_reset: u16,
    /// Requests sent again.
    pub(crate) again: u16,
}

/// One who asks for a connection, and the socket's cookie; 0 is none.
#[repr(C)]
struct Begun {
    cookie: u64,
    maker: Maker,
}

/// Two neighbours for each hash of a cookie: what a hash map takes to insert and to remove one shows in the time of a
/// connection (0.2 of 12 µs).
#[map]
static CONNECTING: Array<Begun> = Array::with_max_entries(CONNECTING_SLOTS, 0);

/// Longer than the kernel asks for a connection (`tcp_syn_retries` 6: 127 s, tcp(7)). The last edge of an older one was
/// missed.
const STALE_NS: u64 = 150_000_000_000;

/// The same without the kernel's layout: entries stay until the last edge, which every socket makes
/// (`inet_csk_destroy_sock` wants it closed, net/ipv4/inet_connection_sock.c). The least recently used makes room.
/// Before a hook that was given up comes back, user space empties both.
#[map]
static TOLD: LruHashMap<u64, Maker> = LruHashMap::with_max_entries(TOLD_MAX, 0);

impl Maker {
    /// The connection was begun before healer was.
    pub(crate) const UNKNOWN: Self =
        Self { at_ns: 0, start_boot_ns: 0, cgroup_id: 0, tgid: 0, was_reset: 0, again: 0 };

    #[inline(always)]
    pub(crate) fn age(&self, now: u64) -> u64 {
        if self.at_ns == 0 { 0 } else { now.saturating_sub(self.at_ns) }
    }

    #[inline(always)]
    pub(crate) fn cgroup(&self) -> CgroupRef {
        CgroupRef { id: self.cgroup_id, hierarchy: CgroupRef::V2, pad: 0 }
    }
}

#[inline(always)]
fn slot(cookie: u64, way: u32) -> Option<*mut Begun> {
    let pair = hashed(cookie) >> (65 - CONNECTING_SLOTS.ilog2());
    CONNECTING.get_ptr_mut((pair as u32) << 1 | way)
}

/// Who is asking for a connection keeps its slot: most that come later are answered sooner. Of one that found none the
/// peer's last maker stands in, and its age is unknown.
#[inline(always)]
pub(crate) fn begun(cookie: u64, maker: Maker) {
    let _is_kept = keep(cookie, 0, &maker) || keep(cookie, 1, &maker);
}

#[inline(always)]
fn keep(cookie: u64, way: u32, maker: &Maker) -> bool {
    let Some(slot) = slot(cookie, way) else {
        return true;
    };
    // SAFETY: an entry of the map. The cookie is written last, for those who read on another CPU.
    unsafe {
        let there = (&raw const (*slot).cookie).read_volatile();
        let since = (&raw const (*slot).maker.at_ns).read_volatile();
        if there != 0 && there != cookie && maker.at_ns.saturating_sub(since) < STALE_NS {
            return false;
        }
        (&raw mut (*slot).cookie).write_volatile(0);
        (&raw mut (*slot).maker.at_ns).write_volatile(maker.at_ns);
        (&raw mut (*slot).maker.start_boot_ns).write_volatile(maker.start_boot_ns);
        (&raw mut (*slot).maker.tgid).write_volatile(maker.tgid);
        (&raw mut (*slot).cookie).write_volatile(cookie);
    }
    true
}

/// The slot that a connection has.
#[inline(always)]
fn slot_of(cookie: u64) -> Option<*mut Begun> {
    let first = slot(cookie, 0)?;
    // SAFETY: an entry of the map.
    let is_in = |slot: *mut Begun| unsafe { (&raw const (*slot).cookie).read_volatile() } == cookie;
    if is_in(first) {
        return Some(first);
    }
    slot(cookie, 1).filter(|second| is_in(*second))
}

#[inline(always)]
pub(crate) fn maker_of(cookie: u64) -> Option<Maker> {
    read(slot_of(cookie)?, cookie)
}

#[inline(always)]
fn read(slot: *mut Begun, cookie: u64) -> Option<Maker> {
    // SAFETY: an entry of the map. Another connection begins in this place only after this one's last edge. Two that
    // begin on two CPUs within a few nanoseconds may take the same slot: most of these show in the second look, and what
    // is left has a wrong maker.
    unsafe {
        let maker = Maker {
            at_ns: (&raw const (*slot).maker.at_ns).read_volatile(),
            start_boot_ns: (&raw const (*slot).maker.start_boot_ns).read_volatile(),
            tgid: (&raw const (*slot).maker.tgid).read_volatile(),
            ..Maker::UNKNOWN
        };
        ((&raw const (*slot).cookie).read_volatile() == cookie).then_some(maker)
    }
}

#[inline(always)]
pub(crate) fn take(cookie: u64) -> Option<Maker> {
    let slot = slot_of(cookie)?;
    let maker = read(slot, cookie)?;
    // SAFETY: an entry of the map.
    unsafe { (&raw mut (*slot).cookie).write_volatile(0) };
    Some(maker)
}

/// By the tracepoint's record.
#[inline(always)]
pub(crate) fn told_begun(socket: u64) {
    let _inserted = TOLD.insert(socket, told_maker(), u64::from(BPF_ANY));
}

#[inline(always)]
pub(crate) fn told_maker_of(socket: u64) -> Option<Maker> {
    // SAFETY: copied at once; another connection begins in this place only after this one's last edge.
    unsafe { TOLD.get(socket) }.copied()
}

#[inline(always)]
pub(crate) fn told_take(socket: u64) -> Option<Maker> {
    let maker = told_maker_of(socket);
    let _removed = TOLD.remove(socket);
    maker
}

#[inline(always)]
pub(crate) fn told_reset(socket: u64) {
    if let Some(maker) = TOLD.get_ptr_mut(socket) {
        // SAFETY: an entry of the map; the socket is locked. One that has just made room may be another's by now, who
        // then counts one reset too many.
        unsafe { (*maker).was_reset = 1 };
    }
}

/// Counts one more request; gives the maker.
#[inline(always)]
pub(crate) fn told_again(socket: u64) -> Option<Maker> {
    let maker = TOLD.get_ptr_mut(socket)?;
    // SAFETY: an entry of the map; the socket is locked. As in `told_reset`.
    unsafe {
        (*maker).again = (*maker).again.wrapping_add(1);
        Some(*maker)
    }
}

/// Current, of which a kernel struct tells the start.
#[inline(always)]
pub(crate) fn current_maker<A: Access>() -> Maker {
    let start_boot_ns = if A::IS_TYPED {
        task::current().map_or(0, task::start_of)
    } else {
        task::current_probed().map_or(0, task::start_of)
    };
    now(start_boot_ns, 0)
}

/// Current, by what helpers say.
#[inline(always)]
pub(crate) fn told_maker() -> Maker {
    // SAFETY: takes nothing.
    now(0, unsafe { bpf_get_current_cgroup_id() })
}

#[inline(always)]
fn now(start_boot_ns: u64, cgroup_id: u64) -> Maker {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: takes nothing.
    let at_ns = unsafe { bpf_ktime_get_boot_ns() };
    Maker { at_ns, start_boot_ns, cgroup_id, tgid, was_reset: 0, again: 0 }
}

/// Nobody's process: a timer or a packet has interrupted an idle CPU.
#[inline(always)]
pub(crate) fn is_current_idle() -> bool {
    bpf_get_current_pid_tgid() == 0
}
