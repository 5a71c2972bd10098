use aya_ebpf::{
    EbpfContext as _,
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use healer_common::event::{part::CgroupRef, task_hung::TaskHung, wire::Wire as _};

use crate::{
    blocker,
    memory::{Object, Probed},
    ring::{Lane, Slot},
    task,
    tuning::tuned,
};

/// PF_KTHREAD of include/linux/sched.h.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// `sched_process_hang(struct task_struct *tsk)`, in the context of khungtaskd: of one thread once in
/// `kernel.hung_task_timeout_secs`.
#[btf_tracepoint(function = "sched_process_hang")]
fn task_hung(ctx: BtfTracePointContext) -> i32 {
    // Rare, and the verifier would search for each typed hop: read by helpers.
    if let Some(task) = Object::new(ctx.arg(0)) {
        try_task_hung(task);
    }
    0
}

/// The same where `tp_btf` is refused.
#[raw_tracepoint(tracepoint = "sched_process_hang")]
fn task_hung_raw(ctx: RawTracePointContext) -> i32 {
    if let Some(task) = Object::new(ctx.arg(0)) {
        try_task_hung(task);
    }
    0
}

/// Without the kernel's layout: the record has the thread's number.
#[tracepoint(category = "sched", name = "sched_process_hang")]
fn task_hung_tp(ctx: TracePointContext) -> u32 {
    if let Some(record) = Object::<Probed>::new(ctx.as_ptr().cast_const().cast()) {
        try_task_hung_tp(record);
    }
    0
}

#[inline(always)]
fn try_task_hung(task: Object<Probed>) {
    let cgroup = task::cgroup_ref(task);
    let Some(mut slot) = Slot::<TaskHung>::reserve(Lane::Soon, cgroup) else {
        return;
    };
    let (lock, holder) = blocker::of(task);
    let is_kernel_thread = task.get::<u32>(tuned!(TASK_FLAGS)) & KERNEL_THREAD != 0;
    let payload = slot.payload();
    // SAFETY: the reserved record; every field is written.
    unsafe {
        task::name(Some(task), &raw mut (*payload).task);
        (*payload).cgroup = cgroup;
        (*payload).blocker = lock;
        (*payload).pid = task.get(tuned!(TASK_PID));
        (*payload).blocker_owner = holder;
        (*payload).flags = if is_kernel_thread { TaskHung::KERNEL_THREAD } else { 0 };
        (*payload).pad = 0;
    }
    slot.submit();
}

#[inline(always)]
fn try_task_hung_tp(record: Object<Probed>) {
    let Some(mut slot) = Slot::<TaskHung>::reserve(Lane::Soon, CgroupRef::ZERO) else {
        return;
    };
    let payload = slot.payload();
    // SAFETY: the reserved record; every field is written.
    unsafe {
        task::nobody(&raw mut (*payload).task);
        (*payload).cgroup = CgroupRef::ZERO;
        (*payload).blocker = 0;
        (*payload).pid = record.get(tuned!(HUNG_PID));
        (*payload).blocker_owner = 0;
        (*payload).flags = TaskHung::PARTIAL;
        (*payload).pad = 0;
    }
    slot.submit();
}
