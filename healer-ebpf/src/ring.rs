//! The only ways out of the kernel: reserve, fill, submit, and count what did not fit.
//!
//! A forced wake-up costs 6-10 µs, a record without one 0.2 µs; an adaptive one
//! stays silent while unread records are queued. So each lane says what it needs.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns},
    macros::map,
    maps::{PerCpuArray, RingBuf, ring_buf::RingBufEntry},
};
use healer_common::{
    event::{Header, Kinded, Record, part::CgroupRef},
    tuning::{BULK_BYTES, Counter, URGENT_BYTES},
};

#[map]
static URGENT: RingBuf = RingBuf::with_byte_size(URGENT_BYTES, 0);

#[map]
static BULK: RingBuf = RingBuf::with_byte_size(BULK_BYTES, 0);

#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);

/// When [`Lane::Spaced`] last woke the reader, `CLOCK_BOOTTIME` ns.
#[map]
static LAST_WAKE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Which ring a record takes, and whether it wakes the reader.
#[derive(Clone, Copy)]
pub(crate) enum Lane {
    /// Wakes the reader at once.
    Urgent,
    /// Wakes the reader if BULK was empty; it then comes back every 50 ms until a pass finds none.
    /// Behind an unread [`Lane::Quiet`] record it waits for the sweep: a sensor takes one of both.
    Soon,
    /// Wakes the reader whatever lies unread, but so seldom that a flood of records does not become one of
    /// wake-ups; the reader comes back by itself for what follows.
    Spaced,
    /// Never wakes the reader by itself, unless BULK crosses half full: its sweep finds it.
    Quiet,
}

impl Lane {
    const fn loss(self) -> Counter {
        match self {
            Self::Urgent => Counter::LostUrgent,
            Self::Soon | Self::Spaced | Self::Quiet => Counter::LostBulk,
        }
    }
}

pub(crate) fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot is this CPU's; an interrupt in between can lose one count, no more.
        unsafe { *slot += 1 };
    }
}

/// A record being written; it must be submitted.
pub(crate) struct Slot<T: 'static> {
    entry: RingBufEntry<Record<T>>,
    wake: u32,
}

impl<T: Kinded> Slot<T> {
    /// Reserves a record of current, with its header; `None`, and counted, when the ring is full.
    #[inline(always)]
    pub(crate) fn reserve(lane: Lane, cgroup: CgroupRef) -> Option<Self> {
        let (entry, wake) = match lane {
            Lane::Urgent => (URGENT.reserve::<Record<T>>(0), BPF_RB_FORCE_WAKEUP),
            Lane::Soon => {
                let unread = BULK.query(u64::from(BPF_RB_AVAIL_DATA));
                let wake = if unread == 0 { BPF_RB_FORCE_WAKEUP } else { wake_at_half::<T>(unread) };
                (BULK.reserve(0), wake)
            }
            Lane::Spaced => (BULK.reserve(0), wake_now_and_then()),
            Lane::Quiet => {
                let unread = BULK.query(u64::from(BPF_RB_AVAIL_DATA));
                (BULK.reserve(0), wake_at_half::<T>(unread))
            }
        };
        let Some(mut entry) = entry else {
            count(lane.loss());
            return None;
        };
        // SAFETY: the record is ours until it is submitted.
        unsafe { write_header::<T>(&raw mut (*entry.as_mut_ptr()).header, cgroup) };
        Some(Self { entry, wake })
    }

    /// Where the payload goes: every field must be written, the memory holds an older record.
    #[inline(always)]
    pub(crate) fn payload(&mut self) -> *mut T {
        // SAFETY: in bounds of the record.
        unsafe { &raw mut (*self.entry.as_mut_ptr()).payload }
    }

    #[inline(always)]
    pub(crate) fn submit(self) {
        self.entry.submit(u64::from(self.wake));
    }
}

#[inline(always)]
unsafe fn write_header<T: Kinded>(header: *mut Header, cgroup: CgroupRef) {
    let pid_tgid = bpf_get_current_pid_tgid();
    // SAFETY: the caller's promise.
    unsafe {
        header.write(Header {
            at_ns: bpf_ktime_get_boot_ns(),
            kind: T::KIND as u32,
            tgid: (pid_tgid >> 32) as u32,
            cgroup_id: cgroup.id,
            cgroup_hierarchy: cgroup.hierarchy,
            pid: pid_tgid as u32,
        });
    }
}

#[inline(always)]
fn wake_now_and_then() -> u32 {
    const AT_MOST_EVERY_NS: u64 = 40_000_000;
    let Some(last) = LAST_WAKE.get_ptr_mut(0) else {
        return BPF_RB_NO_WAKEUP;
    };
    // SAFETY: takes nothing; the slot is this CPU's.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        if now.saturating_sub(*last) < AT_MOST_EVERY_NS {
            return BPF_RB_NO_WAKEUP;
        }
        *last = now;
    }
    BPF_RB_FORCE_WAKEUP
}

#[inline(always)]
fn wake_at_half<T>(unread: u64) -> u32 {
    // The ring puts 8 bytes before each record, and every record of ours is a multiple of 8 long
    // (kernel/bpf/ringbuf.c `BPF_RINGBUF_HDR_SZ`).
    const HEADER: u64 = 8;
    let half = u64::from(BULK_BYTES) / 2;
    let crosses = unread < half && half <= unread + HEADER + size_of::<Record<T>>() as u64;
    if crosses { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP }
}
