use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use healer_common::event::task_hung::TaskHung;

use crate::{
    blocker,
    memory::{Object, Typed},
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
    if let Some(task) = Object::<Typed>::new(ctx.arg(0)) {
        try_task_hung(task);
    }
    0
}

#[inline(always)]
fn try_task_hung(typed: Object<Typed>) {
    // Rare, and the verifier would search for each typed hop.
    let task = typed.probed();
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
