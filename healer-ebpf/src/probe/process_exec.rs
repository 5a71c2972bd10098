use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_ANY,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel_str_bytes, generated::bpf_probe_read_user},
    macros::{btf_tracepoint, map, raw_tracepoint, tracepoint},
    maps::{HashMap, LruHashMap, PerCpuArray},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use healer_common::{
    event::{
        part::{ARGS_MAX, Args, ExeRef},
        process_exec::ProcessExec,
        wire::Wire as _,
    },
    tuning::{EXECS_MAX, WATCHED_MAX},
};

use crate::{
    memory::{Access, Object, Probed, Typed},
    ring::{Lane, Slot},
    task,
    tuning::{present, tuned},
};

/// What an exec leaves behind for the certificate of a process that dies young.
#[repr(C)]
pub(crate) struct Exec {
    pub(crate) start_boot_ns: u64,
    pub(crate) exe: ExeRef,
    pub(crate) args: Args,
}

/// By tgid; the entry goes with the process, or when 4,096 others are younger.
#[map]
pub(crate) static EXECS: LruHashMap<u32, Exec> = LruHashMap::with_max_entries(EXECS_MAX, 0);

/// An entry is built here: it would fill half of the 512-byte stack.
#[map]
static SCRATCH: PerCpuArray<Exec> = PerCpuArray::with_max_entries(1, 0);

/// Executables whose every start user space wants to see, by inode number alone: on btrfs and overlayfs stat(2)
/// shows another device than the superblock has. User space knows the path.
#[map]
static WATCHED_EXES: HashMap<u64, u32> = HashMap::with_max_entries(WATCHED_MAX, 1);

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`.
#[btf_tracepoint(function = "sched_process_exec")]
fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let task = Object::<Typed>::new(ctx.arg(0));
    let bprm = Object::<Typed>::new(ctx.arg(2));
    if let (Some(task), Some(bprm)) = (task, bprm) {
        let _entry = try_process_exec(task.probed(), ctx.arg(1), bprm.probed());
    }
    0
}

/// The same where `tp_btf` is refused.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn process_exec_raw(ctx: RawTracePointContext) -> i32 {
    let task = Object::<Probed>::new(ctx.arg(0));
    let bprm = Object::<Probed>::new(ctx.arg(2));
    if let (Some(task), Some(bprm)) = (task, bprm) {
        let _entry = try_process_exec(task, ctx.arg(1), bprm);
    }
    0
}

/// Without the kernel's layout every exec is sent: who waits for it is known in user space only.
#[tracepoint(category = "sched", name = "sched_process_exec")]
fn process_exec_tp(ctx: TracePointContext) -> u32 {
    let Some(record) = Object::<Probed>::new(ctx.as_ptr().cast_const().cast()) else {
        return 0;
    };
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let lane = if task::is_tracked(tgid) { Lane::Urgent } else { Lane::Soon };
    let cgroup = task::current_cgroup();
    let Some(mut slot) = Slot::<ProcessExec>::reserve(lane, cgroup) else {
        return 0;
    };
    let payload = slot.payload();
    // SAFETY: the reserved record, of which every field is written.
    unsafe {
        task::name_current(&raw mut (*payload).task);
        task::nobody(&raw mut (*payload).parent);
        (*payload).cgroup = cgroup;
        (*payload).exe = ExeRef::ZERO;
        (*payload).flags = ProcessExec::PARTIAL;
        (*payload).old_pid = if present!(EXEC_OLD_PID) { record.get(tuned!(EXEC_OLD_PID)) } else { tgid };
        (*payload).pad = 0;
        zero_args(&raw mut (*payload).args);
        keep_filename(record, &raw mut (*payload).args);
    }
    slot.submit();
    0
}

/// # Safety
/// `args` points into the reserved record, and is zeroed.
#[inline(always)]
unsafe fn keep_filename(record: Object<Probed>, args: *mut Args) {
    let Some(from) = record.text(tuned!(EXEC_FILENAME)) else {
        return;
    };
    // SAFETY: the caller's promise.
    unsafe {
        let name = core::slice::from_raw_parts_mut((*args).bytes.as_mut_ptr(), ARGS_MAX);
        if let Ok(name) = bpf_probe_read_kernel_str_bytes(from, name) {
            (*args).len = name.len() as u32;
        }
    }
}

#[inline(always)]
fn try_process_exec<A: Access>(task: Object<A>, old_pid: u32, bprm: Object<A>) -> Option<()> {
    let exec = SCRATCH.get_ptr_mut(0)?;
    let tgid: u32 = task.get(tuned!(TASK_TGID));
    let exe = task::exe_ref(task);
    // SAFETY: this CPU's slot; tracepoint programs do not nest on one CPU.
    unsafe {
        (*exec).start_boot_ns = task::start_of(task);
        (*exec).exe = exe;
        keep_args(task, bprm, &raw mut (*exec).args);
        // It fails only if no entry can be freed: then the process stays unnamed.
        let _inserted = EXECS.insert(tgid, &*exec, u64::from(BPF_ANY));
    }
    let flags = reasons(task, tgid, exe);
    if flags != 0 {
        send(task, old_pid, flags, exec);
    }
    Some(())
}

#[inline(always)]
fn reasons<A: Access>(task: Object<A>, tgid: u32, exe: ExeRef) -> u32 {
    let mut flags = 0;
    if task::is_tracked(tgid) {
        flags |= ProcessExec::TRACKED;
    }
    if let Some(parent) = task.follow(tuned!(TASK_PARENT))
        && task::is_tracked(parent.get(tuned!(TASK_TGID)))
    {
        flags |= ProcessExec::PARENT_TRACKED;
    }
    if WATCHED_EXES.get_ptr(exe.ino).is_some() {
        flags |= ProcessExec::WATCHED;
    }
    flags
}

/// `filename NUL argv`: at most half for the file name, what is left for the arguments.
///
/// # Safety
/// `args` points into this CPU's scratch entry.
#[inline(always)]
unsafe fn keep_args<A: Access>(task: Object<A>, bprm: Object<A>, args: *mut Args) {
    const NAME_MAX: usize = ARGS_MAX / 2;
    // SAFETY: the caller's promise.
    unsafe {
        zero_args(args);
        if !present!(BPRM_FILENAME) {
            return;
        }
        let filename: u64 = bprm.get(tuned!(BPRM_FILENAME));
        let name = core::slice::from_raw_parts_mut((*args).bytes.as_mut_ptr(), NAME_MAX);
        let Ok(name) = bpf_probe_read_kernel_str_bytes(filename as *const u8, name) else {
            return;
        };
        // The terminating NUL is written too.
        let used = name.len() + 1;
        (*args).len = used as u32;
        let Some((start, size)) = argv_of(task) else {
            return;
        };
        if used <= 64 {
            keep_argv::<64>(used, start, size, args);
        } else if used <= NAME_MAX {
            keep_argv::<NAME_MAX>(used, start, size, args);
        }
    }
}

/// The arguments behind the `used` bytes of the name, which are no more than `NAME`.
///
/// # Safety
/// `args` points into this CPU's scratch entry.
#[inline(always)]
unsafe fn keep_argv<const NAME: usize>(used: usize, start: u64, size: usize, args: *mut Args) {
    let room = ARGS_MAX - NAME;
    let len = if size < room { size } else { room };
    // SAFETY: the caller's promise, and both bounds together are the room.
    unsafe {
        let to = (*args).bytes.as_mut_ptr().add(1 + bounded::<NAME>(used - 1));
        if bpf_probe_read_user(to.cast(), len as u32, start as *const _) == 0 {
            (*args).len = (used + len) as u32;
            (*args).cut = (size - len) as u32;
        }
    }
}

/// `value`, which is below `BOUND`, a power of two. By way of memory: the compiler knows as much and
/// would leave the mask out, but the verifier of 6.1 has forgotten the comparison by then.
#[inline(always)]
fn bounded<const BOUND: usize>(value: usize) -> usize {
    // SAFETY: a variable of our own.
    unsafe { core::ptr::read_volatile(&raw const value) & (BOUND - 1) }
}

/// Where the new program's arguments lie, and how many bytes they are.
#[inline(always)]
fn argv_of<A: Access>(task: Object<A>) -> Option<(u64, usize)> {
    if !present!(TASK_MM, MM_ARG_START, MM_ARG_END) {
        return None;
    }
    let mm = task.follow(tuned!(TASK_MM))?;
    let start: u64 = mm.get(tuned!(MM_ARG_START));
    let end: u64 = mm.get(tuned!(MM_ARG_END));
    Some((start, end.wrapping_sub(start) as usize))
}

#[inline(always)]
fn send<A: Access>(task: Object<A>, old_pid: u32, flags: u32, exec: *const Exec) {
    let cgroup = task::cgroup_ref(task);
    let Some(mut slot) = Slot::<ProcessExec>::reserve(Lane::Urgent, cgroup) else {
        return;
    };
    let payload = slot.payload();
    // SAFETY: the reserved record, of which every field is written, and this CPU's scratch entry.
    unsafe {
        task::name(Some(task), &raw mut (*payload).task);
        task::name(task::parent(task), &raw mut (*payload).parent);
        (*payload).cgroup = cgroup;
        (*payload).exe = (*exec).exe;
        (*payload).flags = flags;
        (*payload).old_pid = old_pid;
        (*payload).pad = 0;
        copy_args(&raw const (*exec).args, &raw mut (*payload).args);
    }
    slot.submit();
}

const WORDS: usize = size_of::<Args>() / 8;

/// Copies by words: compiler-builtins would copy byte by byte, 264 rounds for the verifier.
///
/// # Safety
/// Both are valid and aligned to 8 bytes.
#[inline(always)]
pub(crate) unsafe fn copy_args(from: *const Args, to: *mut Args) {
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    for word in 0..WORDS {
        // SAFETY: in bounds of both.
        unsafe { to.add(word).write_volatile(from.add(word).read_volatile()) };
    }
}

/// Zeroes by words, for the same reason.
///
/// # Safety
/// Valid and aligned to 8 bytes.
#[inline(always)]
pub(crate) unsafe fn zero_args(to: *mut Args) {
    let to = to.cast::<u64>();
    for word in 0..WORDS {
        // SAFETY: in bounds.
        unsafe { to.add(word).write_volatile(0) };
    }
}
