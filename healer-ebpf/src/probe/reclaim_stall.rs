//! Reclaim by the tasks that need the memory: counted per memory cgroup, told when it takes long or gives little.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns},
    macros::{btf_tracepoint, map, raw_tracepoint, tracepoint},
    maps::LruHashMap,
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use healer_common::{
    event::{reclaim_stall::ReclaimStall, wire::Wire as _},
    reclaim::{
        POOR_PAGES, RECLAIM_MAX, RECLAIMING_MAX, ReclaimCounters, ReclaimKey, STALL_NS, TOLD_EVERY_NS,
    },
};

use crate::{
    memory::{Access, Object, Probed},
    ring::{Lane, Slot},
    task,
    tuning::{present, tuned},
};

#[map]
static RECLAIM: LruHashMap<ReclaimKey, ReclaimCounters> = LruHashMap::with_max_entries(RECLAIM_MAX, 0);

/// When a thread began. Reclaim does not nest (`PF_MEMALLOC`, mm/page_alloc.c).
#[map]
static RECLAIMING: LruHashMap<u32, u64> = LruHashMap::with_max_entries(RECLAIMING_MAX, 0);

macro_rules! begins {
    ($($typed:ident, $raw:ident, $classic:ident on $tracepoint:literal;)*) => {
        $(
            #[btf_tracepoint(function = $tracepoint)]
            fn $typed(_ctx: BtfTracePointContext) -> i32 {
                begin();
                0
            }

            #[raw_tracepoint(tracepoint = $tracepoint)]
            fn $raw(_ctx: RawTracePointContext) -> i32 {
                begin();
                0
            }

            #[tracepoint(category = "vmscan", name = $tracepoint)]
            fn $classic(_ctx: TracePointContext) -> u32 {
                begin();
                0
            }
        )*
    };
}

begins! {
    reclaim_stall_begin, reclaim_stall_begin_raw, reclaim_stall_begin_tp on "mm_vmscan_memcg_reclaim_begin";
    reclaim_stall_direct_begin, reclaim_stall_direct_begin_raw, reclaim_stall_direct_begin_tp
        on "mm_vmscan_direct_reclaim_begin";
}

macro_rules! ends {
    ($($typed:ident, $raw:ident, $classic:ident, $field:ident, $scope:ident on $tracepoint:literal;)*) => {
        $(
            #[btf_tracepoint(function = $tracepoint)]
            fn $typed(ctx: BtfTracePointContext) -> i32 {
                try_reclaim_stall(ctx.arg(0), ReclaimStall::$scope, task::current());
                0
            }

            #[raw_tracepoint(tracepoint = $tracepoint)]
            fn $raw(ctx: RawTracePointContext) -> i32 {
                try_reclaim_stall(ctx.arg(0), ReclaimStall::$scope, task::current_probed());
                0
            }

            #[tracepoint(category = "vmscan", name = $tracepoint)]
            fn $classic(ctx: TracePointContext) -> u32 {
                if let Some(record) = Object::<Probed>::new(ctx.as_ptr().cast_const().cast()) {
                    try_reclaim_stall(record.get(tuned!($field)), ReclaimStall::$scope, None::<Object<Probed>>);
                }
                0
            }
        )*
    };
}

// `mm_vmscan_direct_reclaim_end_template(unsigned long nr_reclaimed)`, in the context of the task that needs memory.
ends! {
    reclaim_stall, reclaim_stall_raw, reclaim_stall_tp, RECLAIMED, SCOPE_MEMCG on "mm_vmscan_memcg_reclaim_end";
    reclaim_stall_direct_end, reclaim_stall_direct_end_raw, reclaim_stall_direct_end_tp, DIRECT_RECLAIMED, SCOPE_NODE
        on "mm_vmscan_direct_reclaim_end";
}

#[inline(always)]
fn begin() {
    let thread = bpf_get_current_pid_tgid() as u32;
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // It does not fail: the map makes room.
    let _kept = RECLAIMING.insert(thread, now, 0);
}

/// Since when; 0 if the begin was not seen.
#[inline(always)]
fn took(now: u64) -> u64 {
    let thread = bpf_get_current_pid_tgid() as u32;
    let Some(began) = RECLAIMING.get_ptr(thread) else {
        return 0;
    };
    // SAFETY: an entry of this thread, which is here.
    let took = now.saturating_sub(unsafe { *began });
    let _removed = RECLAIMING.remove(thread);
    took
}

/// Without a task the helpers say who and where.
#[inline(always)]
fn try_reclaim_stall<A: Access>(pages: u64, scope: u32, task: Option<Object<A>>) {
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let took = took(now);
    let memcg = task.and_then(memcg_id);
    let cgroup_id = match (memcg, task) {
        (Some(id), _) => id,
        (None, None) => task::current_cgroup().id,
        (None, Some(_)) => 0,
    };
    let Some(counters) = counters(&ReclaimKey { cgroup_id, scope, pad: 0 }) else {
        return;
    };
    let is_poor = pages < POOR_PAGES;
    // SAFETY: an entry of RECLAIM; two CPUs at once can lose a count, no more.
    let (calls, poor, is_due) = unsafe {
        (*counters).calls += 1;
        (*counters).poor += u32::from(is_poor);
        (*counters).pages += pages;
        (*counters).took_ns += took;
        (*counters).slowest_us = (*counters).slowest_us.max((took / 1000) as u32);
        let is_due = TOLD_EVERY_NS <= now.saturating_sub((*counters).last_told_ns);
        if (is_poor || STALL_NS < took) && is_due {
            (*counters).last_told_ns = now;
        }
        ((*counters).calls, (*counters).poor, is_due)
    };
    if (is_poor || STALL_NS < took) && is_due {
        send(task, Told { memcg: memcg.unwrap_or(0), took, pages, scope, calls, poor });
    }
}

#[inline(always)]
fn counters(key: &ReclaimKey) -> Option<*mut ReclaimCounters> {
    if let Some(known) = RECLAIM.get_ptr_mut(*key) {
        return Some(known);
    }
    RECLAIM.insert(*key, ReclaimCounters::ZERO, 0).ok()?;
    RECLAIM.get_ptr_mut(*key)
}

#[inline(always)]
fn memcg_id<A: Access>(task: Object<A>) -> Option<u64> {
    if !present!(TASK_CGROUPS, CSS_SET_SUBSYS, CSS_CGROUP, CGROUP_KN, KERNFS_ID, MEMORY_CGRP_ID) {
        return None;
    }
    let css = task::memory_css(task.follow(tuned!(TASK_CGROUPS))?)?;
    task::cgroup_id(css.follow(tuned!(CSS_CGROUP))?)
}

struct Told {
    memcg: u64,
    took: u64,
    pages: u64,
    scope: u32,
    calls: u32,
    poor: u32,
}

#[inline(always)]
fn send<A: Access>(task: Option<Object<A>>, told: Told) {
    let cgroup = match task {
        Some(task) => task::cgroup_ref(task.probed()),
        None => task::current_cgroup(),
    };
    let Some(mut slot) = Slot::<ReclaimStall>::reserve(Lane::Soon, cgroup) else {
        return;
    };
    let payload = slot.payload();
    // SAFETY: the reserved record; every field is written.
    unsafe {
        match task {
            Some(task) => task::name(Some(task.probed()), &raw mut (*payload).task),
            None => task::name_current(&raw mut (*payload).task),
        }
        (*payload).cgroup = cgroup;
        (*payload).memcg = told.memcg;
        (*payload).took_ns = told.took;
        (*payload).pages = told.pages;
        (*payload).scope = told.scope;
        (*payload).calls = told.calls;
        (*payload).poor = told.poor;
        (*payload).pad = 0;
    }
    slot.submit();
}
