use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_NOEXIST,
    helpers::{
        bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns,
        generated::{bpf_jiffies64, bpf_probe_read_user},
    },
    macros::{btf_tracepoint, map, raw_tracepoint, tracepoint},
    maps::{LruHashMap, PerCpuArray},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use healer_common::{
    event::syscall_error::SyscallError,
    tuning::{Counter, ERRORS_MAX},
};

use crate::{
    memory::{Access, Object, Probed, Typed},
    ring::{self, Lane, Slot},
    task,
    tuning::{present, tuned},
};

/// Of the failures of one process with one errno, one in this time is told.
const TOLD_EVERY_NS: u64 = 250_000_000;

/// Jiffies in which the time is asked for once: 32 to 320 ms, as the kernel's HZ is.
const LOOKED_EVERY: u64 = 32;
/// After so long without any a failure is the first again.
const FORGOTTEN_AFTER_NS: u64 = 60_000_000_000;

// include/uapi/asm-generic/errno-base.h, errno.h
const EIO: u32 = 5;
const EAGAIN: u32 = 11;
const ENOMEM: u32 = 12;
const ENFILE: u32 = 23;
const EMFILE: u32 = 24;
const ENOSPC: u32 = 28;
const EROFS: u32 = 30;
const EADDRNOTAVAIL: u32 = 99;
const ENETUNREACH: u32 = 101;
const ENOBUFS: u32 = 105;
const EHOSTUNREACH: u32 = 113;
const EDQUOT: u32 = 122;

/// Something ran out or broke, whatever the call.
const ALWAYS: u128 = 1 << EIO
    | 1 << ENOMEM
    | 1 << ENFILE
    | 1 << EMFILE
    | 1 << ENOSPC
    | 1 << EROFS
    | 1 << ENOBUFS
    | 1 << EDQUOT;
/// Daily bread of other calls.
const OF_CLONE: u128 = 1 << EAGAIN;
const OF_CONNECT: u128 = 1 << EADDRNOTAVAIL | 1 << ENETUNREACH | 1 << EHOSTUNREACH;
const WANTED: u128 = ALWAYS | OF_CLONE | OF_CONNECT;

/// Who fails of what.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Failing {
    start: u64,
    tgid: u32,
    errno: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Failures {
    count: u64,
    first_ns: u64,
    told_ns: u64,
    /// When the time was asked for last.
    looked_jiffies: u64,
}

#[map]
static ERRORS: LruHashMap<Failing, Failures> = LruHashMap::with_max_entries(ERRORS_MAX, 0);

/// Who failed last on this CPU, and how often since that was written down: a storm comes from one.
#[repr(C)]
#[derive(Clone, Copy)]
struct Latest {
    who: Failing,
    unwritten: u64,
    looked_jiffies: u64,
}

/// An array's place costs 2 ns, an entry of a hash 30.
#[map]
static LATEST: PerCpuArray<Latest> = PerCpuArray::with_max_entries(1, 0);

/// `sys_exit(struct pt_regs *regs, long ret)`, in the context of the caller.
#[btf_tracepoint(function = "sys_exit")]
fn syscall_error(ctx: BtfTracePointContext) -> i32 {
    ring::count(Counter::Syscalls);
    let Some(errno) = wanted(ctx.arg(1)) else {
        return 0;
    };
    if let (Some(regs), Some(current)) = (Object::<Typed>::new(ctx.arg(0)), task::current()) {
        try_syscall_error(regs, current, errno);
    }
    0
}

/// The same where `tp_btf` is refused.
#[raw_tracepoint(tracepoint = "sys_exit")]
fn syscall_error_raw(ctx: RawTracePointContext) -> i32 {
    ring::count(Counter::Syscalls);
    let Some(errno) = wanted(ctx.arg(1)) else {
        return 0;
    };
    if let (Some(regs), Some(current)) = (Object::<Probed>::new(ctx.arg(0)), task::current_probed()) {
        try_syscall_error(regs, current, errno);
    }
    0
}

/// Without the kernel's layout: who it was by number alone, and no arguments.
#[tracepoint(category = "raw_syscalls", name = "sys_exit")]
fn syscall_error_tp(ctx: TracePointContext) -> u32 {
    ring::count(Counter::Syscalls);
    let Some(record) = Object::<Probed>::new(ctx.as_ptr().cast_const().cast()) else {
        return 0;
    };
    let Some(errno) = wanted(record.get(tuned!(FAILED_RESULT))) else {
        return 0;
    };
    let syscall = record.get::<u64>(tuned!(FAILED_NR)) as u32;
    if is_of_interest(errno, syscall) {
        let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
        if let Some(failures) = count_one(Failing { start: 0, tgid, errno }) {
            send::<Probed>(None, &Told { errno, syscall, arg0: None, address: 0, failures });
        }
    }
    0
}

/// The errno, if anybody wants to hear of it: nearly every call ends here.
#[inline(always)]
fn wanted(result: i64) -> Option<u32> {
    let errno = result.wrapping_neg() as u64;
    if errno > u64::from(SyscallError::ERRNO_MAX) {
        return None;
    }
    let half = if errno < 64 { WANTED as u64 } else { (WANTED >> 64) as u64 };
    (half >> (errno & 63) & 1 != 0).then_some(errno as u32)
}

#[inline(always)]
fn is_of_interest(errno: u32, syscall: u32) -> bool {
    if errno == EAGAIN {
        return syscall == tuned!(SYS_CLONE)
            || syscall == tuned!(SYS_CLONE3)
            || syscall == tuned!(SYS_FORK)
            || syscall == tuned!(SYS_VFORK);
    }
    let is_of_connect = errno == EADDRNOTAVAIL || errno == ENETUNREACH || errno == EHOSTUNREACH;
    !is_of_connect || syscall == tuned!(SYS_CONNECT)
}

#[inline(always)]
fn try_syscall_error<A: Access>(regs: Object<A>, current: Object<A>, errno: u32) {
    let syscall: u32 = regs.get(tuned!(FAILED_SYSCALL));
    if !is_of_interest(errno, syscall) {
        return;
    }
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(failures) = count_one(Failing { start: task::start_of(current), tgid, errno }) else {
        return;
    };
    let arg0 = if present!(FAILED_ARG0) { Some(regs.get::<u64>(tuned!(FAILED_ARG0))) } else { None };
    let is_connect = present!(FAILED_ARG1) && syscall == tuned!(SYS_CONNECT);
    let address = if is_connect { regs.get::<u64>(tuned!(FAILED_ARG1)) } else { 0 };
    send(Some(current.probed()), &Told { errno, syscall, arg0, address, failures });
}

/// Counts one more; gives the count so far if it is to be told.
#[inline(always)]
fn count_one(who: Failing) -> Option<Failures> {
    // SAFETY: takes nothing; the verifier makes a load of it, where the time costs 20 ns.
    let jiffies = unsafe { bpf_jiffies64() };
    let latest = LATEST.get_ptr_mut(0)?;
    // SAFETY: this CPU's entry. Whoever interrupts between two of these lines can lose a count.
    let unwritten = unsafe {
        if (*latest).who == who && jiffies.wrapping_sub((*latest).looked_jiffies) < LOOKED_EVERY {
            (*latest).unwritten += 1;
            return None;
        }
        let before = *latest;
        *latest = Latest { who, unwritten: 0, looked_jiffies: jiffies };
        if before.who == who { before.unwritten } else { write_down(&before) }
    };
    count_in_map(who, 1 + unwritten, jiffies)
}

/// What another one had failed in the meantime; leaves nothing unwritten.
#[inline(always)]
fn write_down(before: &Latest) -> u64 {
    if before.unwritten != 0
        && let Some(known) = ERRORS.get_ptr_mut(before.who)
    {
        // SAFETY: a valid entry, as below.
        unsafe { (*known).count += before.unwritten };
    }
    0
}

#[inline(always)]
fn count_in_map(who: Failing, more: u64, jiffies: u64) -> Option<Failures> {
    if let Some(known) = ERRORS.get_ptr_mut(who) {
        // SAFETY: a valid entry. Two CPUs at once can lose a count: a locked addition costs more than that is worth.
        return unsafe {
            (*known).count += more;
            if jiffies.wrapping_sub((*known).looked_jiffies) < LOOKED_EVERY {
                None
            } else {
                due(known, jiffies)
            }
        };
    }
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let first = Failures { count: more, first_ns: now, told_ns: now, looked_jiffies: jiffies };
    // It fails if another CPU was faster: then that one tells.
    ERRORS.insert(who, first, u64::from(BPF_NOEXIST)).is_ok().then_some(first)
}

/// # Safety
/// `known` is an entry of ERRORS.
#[inline(always)]
unsafe fn due(known: *mut Failures, jiffies: u64) -> Option<Failures> {
    // SAFETY: the caller's promise.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        (*known).looked_jiffies = jiffies;
        let since = now.wrapping_sub((*known).told_ns);
        if since < TOLD_EVERY_NS {
            return None;
        }
        if FORGOTTEN_AFTER_NS < since {
            (*known).count = 1;
            (*known).first_ns = now;
        }
        (*known).told_ns = now;
        Some(*known)
    }
}

struct Told {
    errno: u32,
    syscall: u32,
    arg0: Option<u64>,
    /// Where in the caller's memory the address lies; 0 nowhere.
    address: u64,
    failures: Failures,
}

#[inline(always)]
fn send<A: Access>(current: Option<Object<A>>, told: &Told) {
    let cgroup = match current {
        Some(current) => task::cgroup_ref(current),
        None => task::current_cgroup(),
    };
    let Some(mut slot) = Slot::<SyscallError>::reserve(Lane::Spaced, cgroup) else {
        return;
    };
    let payload = slot.payload();
    // SAFETY: the reserved record; every field is written.
    unsafe {
        match current {
            Some(current) => task::name(Some(current), &raw mut (*payload).task),
            None => task::name_current(&raw mut (*payload).task),
        }
        (*payload).cgroup = cgroup;
        (*payload).count = told.failures.count;
        (*payload).first_ns = told.failures.first_ns;
        (*payload).arg0 = told.arg0.unwrap_or(0);
        write_address(told.address, &raw mut (*payload).address);
        (*payload).errno = told.errno;
        (*payload).syscall = told.syscall;
        (*payload).flags = if told.arg0.is_some() { SyscallError::HAS_ARG0 } else { 0 };
        (*payload).pad = 0;
    }
    slot.submit();
}

/// A `sockaddr_in6` is the longest of interest (include/uapi/linux/in6.h).
const ADDRESS_BYTES: u32 = 28;

/// # Safety
/// `to` is valid and aligned to 8 bytes.
#[inline(always)]
unsafe fn write_address(from: u64, to: *mut [u8; 32]) {
    let words = to.cast::<u64>();
    for word in 0..4 {
        // SAFETY: the caller's promise. Volatile, or it becomes a loop over bytes.
        unsafe { words.add(word).write_volatile(0) };
    }
    if from != 0 {
        // SAFETY: the helper checks the address; what cannot be read stays zero, and an IPv4 address may end a page.
        unsafe {
            if bpf_probe_read_user(to.cast(), ADDRESS_BYTES, from as *const core::ffi::c_void) != 0 {
                bpf_probe_read_user(to.cast(), 16, from as *const core::ffi::c_void);
            }
        }
    }
}
