use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_probe_read_kernel_str_bytes, generated::bpf_get_stack},
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use healer_common::event::oom_kill::OomKill;

use crate::{
    memory::{Object, Probed, Typed},
    ring::{Lane, Slot},
    task,
    tuning::{present, tuned},
};

/// Frames between the tracepoint and `mem_cgroup_out_of_memory` are five, and the tracer's own.
const FRAMES: usize = 16;
/// Ancestors looked at, the nearest first.
const LEVELS: usize = 8;
/// A charge fails when usage and what is asked for is over the limit; bytes of a huge page where pages have 4 KiB, which
/// is the most that is asked for often.
const LARGEST_CHARGE: u64 = 2 << 20;

/// `MM_FILEPAGES`, `MM_ANONPAGES`, `MM_SHMEMPAGES` (include/linux/mm_types_task.h).
const RESIDENT: [u32; 3] = [0, 1, 3];

/// `mark_victim(struct task_struct *task, uid_t uid)`, before mainline 6.9 `mark_victim(int pid)`,
/// in the context of the task whose allocation failed.
#[btf_tracepoint(function = "mark_victim")]
fn oom_kill(ctx: BtfTracePointContext) -> i32 {
    if let Some(trigger) = task::current() {
        let victim = if tuned!(VICTIM_IS_TASK) != 0 {
            Victim::Task(Object::<Typed>::new(ctx.arg(0)).map(Object::probed))
        } else {
            Victim::Pid(pid_argument(&ctx))
        };
        try_oom_kill(&ctx, trigger.probed(), victim);
    }
    0
}

/// The same where `tp_btf` is refused.
#[raw_tracepoint(tracepoint = "mark_victim")]
fn oom_kill_raw(ctx: RawTracePointContext) -> i32 {
    if let Some(trigger) = task::current_probed() {
        let victim = if tuned!(VICTIM_IS_TASK) != 0 {
            Victim::Task(Object::new(ctx.arg(0)))
        } else {
            Victim::Pid(pid_argument(&ctx))
        };
        try_oom_kill(&ctx, trigger, victim);
    }
    0
}

/// Without the kernel's layout: the record says the victim's pid and, on newer kernels, its name
/// and pages; the stack says which OOM killer ran. The cgroups are not in it.
#[tracepoint(category = "oom", name = "mark_victim")]
fn oom_kill_tp(ctx: TracePointContext) -> u32 {
    let Some(record) = Object::<Probed>::new(ctx.as_ptr().cast_const().cast()) else {
        return 0;
    };
    let (scope, source) = scope(&ctx, false);
    let Some(mut slot) = Slot::<OomKill>::reserve(Lane::Urgent, task::current_cgroup()) else {
        return 0;
    };
    let pid: u32 = record.get(tuned!(VICTIM_PID));
    let tracked = if task::is_tracked(pid) { OomKill::TRACKED } else { 0 };
    let known = if present!(VICTIM_COMM) { 0 } else { OomKill::VICTIM_PID_ONLY };
    let payload = slot.payload();
    // SAFETY: the reserved record; every field is written.
    unsafe {
        task::name_told(pid, told_uid(record), told_comm(record), &raw mut (*payload).victim);
        task::name_current(&raw mut (*payload).trigger);
        (*payload).victim_memcg = 0;
        (*payload).trigger_memcg = 0;
        (*payload).oom_memcg = 0;
        (*payload).usage_bytes = 0;
        (*payload).limit_bytes = 0;
        (*payload).rss_bytes = told_rss(record);
        (*payload).scope = scope;
        (*payload).oom_score_adj = told_score_adj(record);
        (*payload).flags = OomKill::PARTIAL | source | tracked | known;
        (*payload).pad = 0;
    }
    slot.submit();
    0
}

#[inline(always)]
fn told_uid(record: Object<Probed>) -> u32 {
    if present!(VICTIM_UID) { record.get(tuned!(VICTIM_UID)) } else { 0 }
}

#[inline(always)]
fn told_score_adj(record: Object<Probed>) -> i32 {
    if present!(VICTIM_SCORE_ADJ) { i32::from(record.get::<i16>(tuned!(VICTIM_SCORE_ADJ))) } else { 0 }
}

#[inline(always)]
fn told_comm(record: Object<Probed>) -> [u64; 2] {
    let mut comm = [0_u8; 16];
    if let Some(from) = record.text(tuned!(VICTIM_COMM)) {
        // SAFETY: the helper checks the address. A name that cannot be read stays empty.
        let _read = unsafe { bpf_probe_read_kernel_str_bytes(from, &mut comm) };
    }
    task::words(comm)
}

/// The record has KiB.
#[inline(always)]
fn told_rss(record: Object<Probed>) -> u64 {
    if !present!(VICTIM_ANON, VICTIM_FILE, VICTIM_SHMEM) {
        return 0;
    }
    let kib = record.get::<u64>(tuned!(VICTIM_ANON))
        + record.get::<u64>(tuned!(VICTIM_FILE))
        + record.get::<u64>(tuned!(VICTIM_SHMEM));
    kib << 10
}

/// By a helper: a plain load would be merged with that of the task, and then its upper half is cut
/// off, which the verifier forbids for a pointer.
#[inline(always)]
fn pid_argument(ctx: &impl EbpfContext) -> u32 {
    let arguments = Object::<Probed>::new(ctx.as_ptr().cast_const().cast());
    arguments.map_or(0, |arguments| arguments.get(0))
}

/// What this kernel says about the victim.
#[derive(Clone, Copy)]
enum Victim {
    Task(Option<Object<Probed>>),
    Pid(u32),
}

#[inline(always)]
fn try_oom_kill(ctx: &impl EbpfContext, trigger: Object<Probed>, victim: Victim) {
    let memcg = memcg_of(trigger);
    let full = memcg.and_then(nearest_full);
    let (scope, source) = scope(ctx, full.is_some());
    let full = if scope == OomKill::SCOPE_MEMCG { full } else { None };
    let page = tuned!(PAGE_SHIFT) & 31;
    let Some(mut slot) = Slot::<OomKill>::reserve(Lane::Urgent, task::cgroup_ref(trigger)) else {
        return;
    };
    let payload = slot.payload();
    // SAFETY: the reserved record; every field is written.
    unsafe {
        (*payload).flags = source | describe(victim, payload);
        task::name(Some(trigger), &raw mut (*payload).trigger);
        (*payload).trigger_memcg = memcg.and_then(memcg_id).unwrap_or(0);
        (*payload).oom_memcg = full.as_ref().map_or(0, |full| full.id);
        (*payload).usage_bytes = full.as_ref().map_or(0, |full| full.usage << page);
        (*payload).limit_bytes = full.as_ref().map_or(0, |full| full.limit << page);
        (*payload).scope = scope;
        (*payload).pad = 0;
    }
    slot.submit();
}

/// Writes what is known of the victim; gives the flags that go with it.
///
/// # Safety
/// `payload` is the reserved record.
#[inline(always)]
unsafe fn describe(victim: Victim, payload: *mut OomKill) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let (tgid, known) = match victim {
            Victim::Task(Some(task)) => {
                task::name(Some(task), &raw mut (*payload).victim);
                (*payload).victim_memcg = memcg_of(task).and_then(memcg_id).unwrap_or(0);
                (*payload).rss_bytes = rss_bytes(task).unwrap_or(0);
                (*payload).oom_score_adj = oom_score_adj(task);
                (task.get(tuned!(TASK_TGID)), 0)
            }
            Victim::Pid(pid) => (unknown(pid, payload), OomKill::VICTIM_PID_ONLY),
            Victim::Task(None) => (unknown(0, payload), OomKill::VICTIM_PID_ONLY),
        };
        let tracked = if task::is_tracked(tgid) { OomKill::TRACKED } else { 0 };
        known | tracked
    }
}

#[inline(always)]
unsafe fn unknown(pid: u32, payload: *mut OomKill) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        task::number(pid, &raw mut (*payload).victim);
        (*payload).victim_memcg = 0;
        (*payload).rss_bytes = 0;
        (*payload).oom_score_adj = 0;
    }
    pid
}

#[inline(always)]
fn oom_score_adj(task: Object<Probed>) -> i32 {
    if !present!(SIGNAL_OOM_SCORE_ADJ) {
        return 0;
    }
    let signal = task.follow(tuned!(TASK_SIGNAL));
    signal.map_or(0, |signal| i32::from(signal.get::<i16>(tuned!(SIGNAL_OOM_SCORE_ADJ))))
}

/// The stack says which OOM killer runs; without symbols, a full cgroup suggests its own.
#[inline(always)]
fn scope(ctx: &impl EbpfContext, is_any_full: bool) -> (u32, u32) {
    let (start, end) = (tuned!(MEMCG_OOM_START), tuned!(MEMCG_OOM_END));
    if start == 0 {
        let scope = if is_any_full { OomKill::SCOPE_MEMCG } else { OomKill::SCOPE_UNKNOWN };
        return (scope, 0);
    }
    let mut stack = [0_u64; FRAMES];
    let size = size_of_val(&stack) as u32;
    // SAFETY: the buffer and its size.
    let got = unsafe { bpf_get_stack(ctx.as_ptr(), stack.as_mut_ptr().cast(), size, 0) };
    if got <= 0 {
        return (OomKill::SCOPE_UNKNOWN, 0);
    }
    for frame in stack {
        if start <= frame && frame < end {
            return (OomKill::SCOPE_MEMCG, OomKill::SCOPE_FROM_STACK);
        }
    }
    (OomKill::SCOPE_GLOBAL, OomKill::SCOPE_FROM_STACK)
}

struct Full {
    id: u64,
    usage: u64,
    limit: u64,
}

/// The memory css of `task`.
#[inline(always)]
fn memcg_of(task: Object<Probed>) -> Option<Object<Probed>> {
    if !present!(TASK_CGROUPS, CSS_SET_SUBSYS, MEMORY_CGRP_ID) {
        return None;
    }
    task::memory_css(task.follow(tuned!(TASK_CGROUPS))?)
}

#[inline(always)]
fn memcg_id(css: Object<Probed>) -> Option<u64> {
    if !present!(CSS_CGROUP, CGROUP_KN, KERNFS_ID) {
        return None;
    }
    task::cgroup_id(css.follow(tuned!(CSS_CGROUP))?)
}

/// The nearest cgroup, upwards, in which no huge page fits any more.
#[inline(always)]
fn nearest_full(css: Object<Probed>) -> Option<Full> {
    if !present!(MEMCG_CSS, MEMCG_USAGE, MEMCG_MAX, CSS_PARENT) {
        return None;
    }
    let mut css = css;
    for _level in 0..LEVELS {
        // The css lies inside its mem_cgroup.
        let memcg = Object::<Probed>::new(css.address().wrapping_sub(tuned!(MEMCG_CSS) as usize))?;
        let usage: u64 = memcg.get(tuned!(MEMCG_USAGE));
        let limit: u64 = memcg.get(tuned!(MEMCG_MAX));
        if limit < usage.saturating_add(LARGEST_CHARGE >> tuned!(PAGE_SHIFT)) {
            let id = memcg_id(css)?;
            return Some(Full { id, usage, limit });
        }
        css = css.follow(tuned!(CSS_PARENT))?;
    }
    None
}

#[inline(always)]
fn rss_bytes(task: Object<Probed>) -> Option<u64> {
    if !present!(TASK_MM, MM_RSS) {
        return None;
    }
    let mm = task.follow(tuned!(TASK_MM))?;
    let mut pages = 0_i64;
    for kind in RESIDENT {
        let at = if present!(RSS_STRIDE, PERCPU_COUNTER_COUNT) {
            kind * tuned!(RSS_STRIDE) + tuned!(PERCPU_COUNTER_COUNT)
        } else {
            kind * 8
        };
        pages += mm.get::<i64>(tuned!(MM_RSS) + at);
    }
    Some((pages.max(0) as u64) << (tuned!(PAGE_SHIFT) & 31))
}
