//! The scan of all threads. Whoever sleeps on is written once, whoever ran in between is taken back: in steady
//! state a scan writes nothing.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{seq_file, task_struct},
    helpers::{bpf_get_current_task_btf, bpf_seq_write, bpf_task_pt_regs},
    macros::map,
    maps::{Array, LruHashMap},
};
use healer_common::{
    event::wire::Wire as _,
    task_scan::{SEEN_MAX, ScanSettings, Seen, TaskRecord},
};

use crate::{
    blocker,
    memory::{Object, Typed},
    tuning::{present, tuned},
};

/// PF_KTHREAD of include/linux/sched.h.
const KERNEL_THREAD: u32 = 0x0020_0000;
/// PF_EXITING of the same.
const EXITING: u32 = 4;
/// TASK_UNINTERRUPTIBLE and TASK_FROZEN of include/linux/sched.h.
const TAKES_NO_SIGNAL: u32 = 0x8002;
/// SIGNAL_GROUP_EXIT of include/linux/sched/signal.h: SIGKILL was sent to the group, or it exits.
const GROUP_EXIT: u32 = 4;

/// In `Seen::written`, below the generation: it was written as dying.
const DYING_TOLD: u64 = 1;

#[map]
static SEEN: LruHashMap<u32, Seen> = LruHashMap::with_max_entries(SEEN_MAX, 0);

#[map]
static SCAN: Array<ScanSettings> = Array::with_max_entries(1, 0);

/// `struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; }`; the first
/// member of the meta data is the file.
#[repr(C)]
struct Context {
    meta: *const *mut seq_file,
    task: *const u8,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
fn task_scan(context: *const Context) -> i32 {
    // SAFETY: the kernel passes a valid context; after the last task its `task` is null.
    let (meta, task) = unsafe { ((*context).meta, (*context).task) };
    // SAFETY: the meta data is never null.
    let file = unsafe { *meta };
    if let Some(task) = Object::<Typed>::new(task) {
        let _written = try_task_scan(file, task);
    }
    0
}

#[inline(always)]
fn try_task_scan(file: *mut seq_file, task: Object<Typed>) -> Option<()> {
    // Most tasks of a quiet machine are the kernel's: they end with the first cache line.
    let flags: u32 = task.get(tuned!(TASK_FLAGS));
    if flags & KERNEL_THREAD != 0 {
        return None;
    }
    let exit_state: u32 = task.get(tuned!(TASK_EXIT_STATE));
    let tgid: u32 = task.get(tuned!(TASK_TGID));
    if exit_state != 0 || tgid == tuned!(OWN_TGID) {
        return None;
    }
    let settings = SCAN.get(0)?;
    let pid: u32 = task.get(tuned!(TASK_PID));
    let start: u64 = task.get(tuned!(TASK_START));
    let voluntary: u64 = task.get(tuned!(TASK_NVCSW));
    let involuntary: u64 = task.get(tuned!(TASK_NIVCSW));
    let switches = voluntary + involuntary;
    let now = settings.now_boot_ns;
    let fresh = Seen { start_boot_ns: start, switches, since_boot_ns: now, written: 0 };
    if settings.of_tgid != 0 {
        let is_asleep = task.get::<u32>(tuned!(TASK_STATE)) != 0;
        return if is_asleep && settings.of_tgid == u64::from(tgid) {
            write(file, task, &fresh, compat(task))
        } else {
            None
        };
    }
    let Some(seen) = SEEN.get_ptr_mut(pid) else {
        return SEEN.insert(pid, fresh, 0).ok();
    };
    // SAFETY: a valid entry; only scans write it, and user space runs one at a time.
    let seen = unsafe { &mut *seen };
    let state: u32 = task.get(tuned!(TASK_STATE));
    let written = settings.generation << 1;
    // Woken but not yet on a CPU, it has not switched and is no sleeper any more.
    let is_asleep = state != 0;
    if seen.start_boot_ns != start || seen.switches != switches || !is_asleep {
        // A write that does not fit fails, and the kernel shows the same thread again with an empty buffer.
        if seen.written & !DYING_TOLD == written {
            write(file, task, seen, TaskRecord::LEFT)?;
        }
        *seen = fresh;
        return None;
    }
    // Who is told to die in its sleep is written once more.
    let (dying, told) =
        if state & TAKES_NO_SIGNAL != 0 && is_dying(task) { (TaskRecord::DYING, DYING_TOLD) } else { (0, 0) };
    if now - seen.since_boot_ns < settings.min_sleep_ns || seen.written == written | told {
        return None;
    }
    let exiting = if flags & EXITING != 0 { TaskRecord::EXITING } else { 0 };
    write(file, task, seen, compat(task) | exiting | dying)?;
    seen.written = written | told;
    Some(())
}

#[inline(always)]
fn write(file: *mut seq_file, task: Object<Typed>, seen: &Seen, flags: u32) -> Option<()> {
    let mut record = TaskRecord::ZERO;
    record.flags = flags;
    record.start_boot_ns = seen.start_boot_ns;
    record.switches = seen.switches;
    record.since_boot_ns = seen.since_boot_ns;
    record.pid = task.get(tuned!(TASK_PID));
    record.tgid = task.get(tuned!(TASK_TGID));
    if flags & TaskRecord::LEFT == 0 {
        describe(task, &mut record)?;
        registers(task, &mut record);
    }
    let (from, size) = (&raw const record, size_of::<TaskRecord>() as u32);
    // SAFETY: the record is on the stack and `size` bytes long.
    let outcome = unsafe { bpf_seq_write(file, from.cast_mut().cast::<c_void>(), size) };
    (outcome == 0).then_some(())
}

#[inline(always)]
fn describe(task: Object<Typed>, record: &mut TaskRecord) -> Option<()> {
    let leader = task.follow(tuned!(TASK_LEADER))?;
    record.leader_start_boot_ns = leader.get(tuned!(TASK_START));
    record.threads = task.follow(tuned!(TASK_SIGNAL))?.get(tuned!(SIGNAL_THREADS));
    // It may have exited before the others: they are its threads still, and it is none.
    if leader.get::<u32>(tuned!(TASK_EXIT_STATE)) != 0 {
        record.threads -= 1;
    }
    record.state = task.get(tuned!(TASK_STATE));
    record.jobctl = task.get(tuned!(TASK_JOBCTL));
    record.exec_start_ns = task.get(tuned!(TASK_EXEC_START));
    // SAFETY: takes nothing, gives the running task.
    let current = Object::<Typed>::new(unsafe { bpf_get_current_task_btf() }.cast_const().cast())?;
    record.exec_now_ns = current.get(tuned!(TASK_EXEC_START));
    if present!(TASK_MM) {
        record.mm = task.get(tuned!(TASK_MM));
    }
    if present!(TASK_PTRACE) {
        record.ptrace = task.get(tuned!(TASK_PTRACE));
    }
    if present!(TASK_RUN_DELAY) {
        record.run_delay_ns = task.get(tuned!(TASK_RUN_DELAY));
    }
    (record.blocker, record.blocker_owner) = blocker::of(task);
    let comm = [task.get::<u64>(tuned!(TASK_COMM)), task.get(tuned!(TASK_COMM) + 8)];
    // SAFETY: `comm` has sixteen bytes at a multiple of eight.
    unsafe { (&raw mut record.comm).cast::<[u64; 2]>().write(comm) };
    Some(())
}

#[inline(always)]
fn registers(task: Object<Typed>, record: &mut TaskRecord) {
    record.syscall = -1;
    // SAFETY: a task; the helper gives its user registers.
    let regs = unsafe { bpf_task_pt_regs(task.address().cast_mut().cast::<task_struct>()) };
    let Some(regs) = Object::<Typed>::new(regs as *const u8) else {
        return;
    };
    record.syscall = regs.get(tuned!(REGS_SYSCALL));
    record.arg0 = regs.get(tuned!(REGS_ARG0));
    record.arg1 = regs.get(tuned!(REGS_ARG1));
    record.arg2 = regs.get(tuned!(REGS_ARG2));
    record.arg3 = regs.get(tuned!(REGS_ARG3));
    record.ip = regs.get(tuned!(REGS_IP));
    record.sp = regs.get(tuned!(REGS_SP));
    record.rbx = regs.get(tuned!(REGS_BX));
    record.rbp = regs.get(tuned!(REGS_BP));
    record.r12 = regs.get(tuned!(REGS_R12));
    record.r13 = regs.get(tuned!(REGS_R13));
    record.r14 = regs.get(tuned!(REGS_R14));
    record.r15 = regs.get(tuned!(REGS_R15));
}

#[inline(always)]
fn is_dying(task: Object<Typed>) -> bool {
    let flags = task.follow(tuned!(TASK_SIGNAL)).map_or(0, |signal| signal.get::<u32>(tuned!(SIGNAL_FLAGS)));
    flags & GROUP_EXIT != 0
}

#[inline(always)]
fn compat(task: Object<Typed>) -> u32 {
    let is_compat = present!(TASK_THREAD_STATUS)
        && task.get::<u32>(tuned!(TASK_THREAD_STATUS)) & tuned!(THREAD_COMPAT) != 0;
    if is_compat { TaskRecord::COMPAT } else { 0 }
}
