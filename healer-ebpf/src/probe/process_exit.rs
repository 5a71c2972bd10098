use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_NOEXIST,
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, map, raw_tracepoint, tracepoint},
    maps::LruHashMap,
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use healer_common::{
    event::{
        part::{CgroupRef, ExeRef},
        process_exit::{ProcessEnd, ProcessExit},
        wire::Wire as _,
    },
    tuning::{Counter, ENDED_MAX},
};

use super::process_exec::{EXECS, copy_args};
use crate::{
    memory::{Access, Object, Probed, Typed},
    ring::{self, Lane, Slot},
    task,
    tuning::{present, tuned},
};

/// `SIGNAL_GROUP_EXIT` of include/linux/sched/signal.h: then the group's code is what wait() gives.
const SIGNAL_GROUP_EXIT: u32 = 4;
/// One process of all that had its number.
#[repr(C)]
#[derive(Clone, Copy)]
struct Life {
    start: u64,
    tgid: u32,
    pad: u32,
}

/// Those of whose end was told, where the kernel does not say which thread was the last.
#[map]
static ENDED: LruHashMap<Life, u8> = LruHashMap::with_max_entries(ENDED_MAX, 0);

/// It has the life already. Any other failure is no room just now: told twice is better than never.
const EEXIST: i32 = -17;

/// The bits of a wait status that hold the fatal signal.
const FATAL_SIGNAL: u32 = 0x7f;

/// `sched_process_exit(struct task_struct *task[, bool group_dead])`, in the context of `task`.
#[btf_tracepoint(function = "sched_process_exit")]
fn process_exit(ctx: BtfTracePointContext) -> i32 {
    if let Some(task) = Object::<Typed>::new(ctx.arg(0)) {
        let (is_dead, source) = if tuned!(HAS_GROUP_DEAD) != 0 {
            (ctx.arg::<u64>(1) & 0xff != 0, ProcessExit::GROUP_DEAD)
        } else {
            (is_last(task) && is_first_word(task), 0)
        };
        try_process_exit(task, is_dead, source);
    }
    0
}

/// The same where `tp_btf` is refused.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn process_exit_raw(ctx: RawTracePointContext) -> i32 {
    if let Some(task) = Object::<Probed>::new(ctx.arg(0)) {
        let (is_dead, source) = if tuned!(HAS_GROUP_DEAD) != 0 {
            (ctx.arg::<u64>(1) & 0xff != 0, ProcessExit::GROUP_DEAD)
        } else {
            (is_last(task) && is_first_word(task), 0)
        };
        try_process_exit(task, is_dead, source);
    }
    0
}

/// Without the kernel's layout: the record has no exit code, and on older kernels not even
/// `group_dead`. Then every thread's end is sent, and user space finds out.
#[tracepoint(category = "sched", name = "sched_process_exit")]
fn process_exit_tp(ctx: TracePointContext) -> u32 {
    let record = Object::<Probed>::new(ctx.as_ptr().cast_const().cast());
    let is_told = present!(EXIT_GROUP_DEAD);
    let is_dead = is_told && record.is_some_and(|record| record.get::<u8>(tuned!(EXIT_GROUP_DEAD)) != 0);
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if tgid == tuned!(OWN_TGID) && !is_dead {
        send_partial(ProcessExit::SELF_PROBE, Lane::Urgent);
    } else if is_dead || !is_told {
        let lane = if task::is_tracked(tgid) { Lane::Urgent } else { Lane::Soon };
        let source = if is_told { ProcessExit::GROUP_DEAD } else { 0 };
        send_partial(ProcessExit::PARTIAL | source, lane);
    }
    0
}

#[inline(always)]
fn send_partial(flags: u32, lane: Lane) {
    let cgroup = task::current_cgroup();
    let Some(mut slot) = Slot::<ProcessEnd>::reserve(lane, cgroup) else {
        return;
    };
    let payload = slot.payload();
    // SAFETY: the reserved record; every field is written.
    unsafe {
        task::name_current(&raw mut (*payload).task);
        task::nobody(&raw mut (*payload).parent);
        (*payload).cgroup = cgroup;
        (*payload).exe = ExeRef::ZERO;
        (*payload).wait_status = 0;
        (*payload).flags = flags;
        (*payload).pid = bpf_get_current_pid_tgid() as u32;
        (*payload).pad = 0;
    }
    slot.submit();
}

/// Whether no thread of the group is alive. Two that exit at once can both see that.
#[inline(always)]
fn is_last<A: Access>(task: Object<A>) -> bool {
    task.follow(tuned!(TASK_SIGNAL)).is_some_and(|signal| signal.get::<u32>(tuned!(SIGNAL_LIVE)) == 0)
}

/// Whether nobody has told of this end: of two that both saw no thread alive, one.
#[inline(always)]
fn is_first_word<A: Access>(task: Object<A>) -> bool {
    let tgid: u32 = task.get(tuned!(TASK_TGID));
    let start = task::start_of(task);
    ENDED.insert(Life { start, tgid, pad: 0 }, 0, u64::from(BPF_NOEXIST)) != Err(EEXIST)
}

#[inline(always)]
fn try_process_exit<A: Access>(task: Object<A>, is_dead: bool, source: u32) {
    let tgid: u32 = task.get(tuned!(TASK_TGID));
    if !is_dead && tgid != tuned!(OWN_TGID) {
        return;
    }
    let status = if is_dead { wait_status(task) } else { 0 };
    if let Some((flags, lane)) = address(tgid, is_dead, status) {
        send(task.probed(), tgid, status, flags | source, lane);
    }
    if is_dead {
        // It fails for a process that never called exec.
        let _removed = EXECS.remove(tgid);
    }
}

/// The record's flags and its way out, if it is to be sent.
#[inline(always)]
fn address(tgid: u32, is_dead: bool, status: u32) -> Option<(u32, Lane)> {
    if !is_dead {
        return Some((ProcessExit::SELF_PROBE, Lane::Urgent));
    }
    if task::untrack(tgid) {
        return Some((ProcessExit::TRACKED, Lane::Urgent));
    }
    if status == 0 {
        ring::count(Counter::QuietExits);
        return None;
    }
    let is_fatal = status & FATAL_SIGNAL != 0;
    Some((0, if is_fatal { Lane::Urgent } else { Lane::Quiet }))
}

/// As kernel/exit.c `wait_task_zombie` has it.
#[inline(always)]
fn wait_status<A: Access>(task: Object<A>) -> u32 {
    let signal = task.follow(tuned!(TASK_SIGNAL));
    if let Some(signal) = signal
        && signal.get::<u32>(tuned!(SIGNAL_FLAGS)) & SIGNAL_GROUP_EXIT != 0
    {
        return signal.get::<u32>(tuned!(SIGNAL_GROUP_EXIT_CODE)) & 0xffff;
    }
    let leader = task.follow(tuned!(TASK_LEADER));
    leader.map_or(0, |leader| leader.get::<u32>(tuned!(TASK_EXIT_CODE)) & 0xffff)
}

#[inline(always)]
fn send<A: Access>(task: Object<A>, tgid: u32, wait_status: u32, flags: u32, lane: Lane) {
    let end = End { cgroup: task::cgroup_ref(task), wait_status, flags };
    let start = task::start_of(task);
    let exec = EXECS
        .get_ptr(tgid)
        // SAFETY: a valid entry; another CPU could only be writing it for a later life of this pid.
        .map(|entry| unsafe { &*entry })
        .filter(|entry| entry.start_boot_ns == start);
    if let Some(entry) = exec {
        let Some(mut slot) = Slot::<ProcessExit>::reserve(lane, end.cgroup) else {
            return;
        };
        let payload = slot.payload();
        // SAFETY: the reserved record, which begins as one without arguments; every field is written.
        unsafe {
            end.write(task, entry.exe, payload.cast());
            copy_args(&raw const entry.args, &raw mut (*payload).args);
        }
        slot.submit();
    } else {
        let Some(mut slot) = Slot::<ProcessEnd>::reserve(lane, end.cgroup) else {
            return;
        };
        // SAFETY: the reserved record.
        unsafe { end.write(task, task::exe_ref(task), slot.payload()) };
        slot.submit();
    }
}

struct End {
    cgroup: CgroupRef,
    wait_status: u32,
    flags: u32,
}

impl End {
    /// Every field.
    ///
    /// # Safety
    /// `to` lies in the reserved record.
    #[inline(always)]
    unsafe fn write<A: Access>(&self, task: Object<A>, exe: ExeRef, to: *mut ProcessEnd) {
        // SAFETY: the caller's promise.
        unsafe {
            task::name(Some(task), &raw mut (*to).task);
            task::name(task::parent(task), &raw mut (*to).parent);
            (*to).cgroup = self.cgroup;
            (*to).exe = exe;
            (*to).wait_status = self.wait_status;
            (*to).flags = self.flags;
            (*to).pid = task.get(tuned!(TASK_PID));
            (*to).pad = 0;
        }
    }
}
