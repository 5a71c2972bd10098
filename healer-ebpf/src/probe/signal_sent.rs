use aya_ebpf::{
    EbpfContext as _,
    bindings::task_struct,
    helpers::{bpf_get_current_pid_tgid, bpf_task_pt_regs},
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use healer_common::event::{part::CgroupRef, signal_sent::SignalSent, wire::Wire as _};

use super::signals::{ALWAYS, FAULTS, OWN, SIGKILL, SIGSYS, SIGTRAP, UNHANDLED, is_of_interest};
use crate::{
    memory::{Access, Object, Probed, Typed},
    ring::{Lane, Slot},
    task,
    tuning::{present, read, tuned},
};

/// The values of `info` that are no pointer (include/linux/sched/signal.h).
const SEND_SIG_PRIV: u64 = 1;
/// The least of them that is not `SEND_SIG_NOINFO`. Unknown to the compiler, which would compare with 0: a typed pointer
/// is never that, says the verifier, and takes the branch out.
static NOT_NOINFO: u64 = SEND_SIG_PRIV;

/// `si_code` (include/uapi/asm-generic/siginfo.h).
const SI_USER: i32 = 0;
const SI_KERNEL: i32 = 0x80;
const SI_QUEUE: i32 = -1;
const SI_TKILL: i32 = -6;

/// Of include/linux/sched.h and sched/signal.h.
const PF_EXITING: u32 = 4;
const SIGNAL_GROUP_EXIT: u32 = 4;
/// `PTRACE_O_EXITKILL << PT_OPT_FLAG_SHIFT` (include/linux/ptrace.h).
const PT_EXITKILL: u32 = 1 << 23;

/// Flag of pidfd_send_signal(2) (include/uapi/linux/pidfd.h).
const PIDFD_SIGNAL_PROCESS_GROUP: u64 = 4;

/// Highest value of `sa_handler` that is no function: `SIG_IGN`.
const SIG_IGN: u64 = 1;

/// `signal_generate(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`,
/// in the context of the sender.
#[btf_tracepoint(function = "signal_generate")]
fn signal_sent(ctx: BtfTracePointContext) -> i32 {
    let signal: u32 = ctx.arg(0);
    if !is_of_interest(signal) {
        return 0;
    }
    if let Some(target) = Object::<Typed>::new(ctx.arg(2)) {
        // Before anything dear is read.
        let is_told = || {
            let tgid: u32 = target.get(tuned!(TASK_TGID));
            let current = (bpf_get_current_pid_tgid() >> 32) as u32;
            OWN >> (signal & 31) & 1 == 0 || signal > SIGSYS || current != tgid || task::is_tracked(tgid)
        };
        if tuned!(PRUNES_WELL) != 0 && !is_told() {
            return 0;
        }
        let info: *const u8 = ctx.arg(1);
        let sent = Sent {
            signal,
            code: code_of(info),
            address: address_of(info),
            forbidden_call: forbidden_call(signal, info),
            has_info: has_info(info),
            is_group: ctx.arg::<u32>(3) != 0,
            result: ctx.arg(4),
        };
        if let Some(current) = task::current() {
            let _sent = try_signal_sent(current, target, &sent);
        }
    }
    0
}

/// The same where `tp_btf` is refused.
#[raw_tracepoint(tracepoint = "signal_generate")]
fn signal_sent_raw(ctx: RawTracePointContext) -> i32 {
    let signal: u32 = ctx.arg(0);
    if !is_of_interest(signal) {
        return 0;
    }
    if let (Some(current), Some(target)) = (task::current_probed(), Object::<Probed>::new(ctx.arg(2))) {
        let info: *const u8 = ctx.arg(1);
        let sent = Sent {
            signal,
            code: code_of(info),
            address: address_of(info),
            forbidden_call: forbidden_call(signal, info),
            has_info: has_info(info),
            is_group: ctx.arg::<u32>(3) != 0,
            result: ctx.arg(4),
        };
        let _sent = try_signal_sent(current, target, &sent);
    }
    0
}

/// Without the kernel's layout: the record says signal, code, target thread and result; helpers
/// say who current is. The target's handlers, start and cgroup are not in it.
#[tracepoint(category = "signal", name = "signal_generate")]
fn signal_sent_tp(ctx: TracePointContext) -> u32 {
    if let Some(record) = Object::<Probed>::new(ctx.as_ptr().cast_const().cast()) {
        let signal: u32 = record.get(tuned!(SENT_SIGNAL));
        if signal <= SIGSYS && ALWAYS >> signal & 1 != 0 {
            let sent = Sent {
                signal,
                code: record.get(tuned!(SENT_CODE)),
                address: 0,
                forbidden_call: 0,
                // The record does not say.
                has_info: true,
                is_group: record.get::<u32>(tuned!(SENT_GROUP)) != 0,
                result: record.get(tuned!(SENT_RESULT)),
            };
            try_signal_sent_tp(record, &sent);
        }
    }
    0
}

#[inline(always)]
fn try_signal_sent_tp(record: Object<Probed>, sent: &Sent) {
    let current = bpf_get_current_pid_tgid();
    let (current_tgid, current_pid) = ((current >> 32) as u32, current as u32);
    let target_pid: u32 = record.get(tuned!(SENT_PID));
    // Of another process only the thread's number is known, mostly that of its leader.
    let target_tgid = if target_pid == current_pid { current_tgid } else { target_pid };
    let is_tracked = task::is_tracked(target_tgid);
    if !is_tracked && (!sent.is_in(ALWAYS) || sent.is_by_process() && target_tgid == current_tgid) {
        return;
    }
    let Some(mut slot) = Slot::<SignalSent>::reserve(Lane::Urgent, task::current_cgroup()) else {
        return;
    };
    let is_by_process = sent.is_by_process();
    let comm = if present!(SENT_COMM) {
        [record.get(tuned!(SENT_COMM)), record.get(tuned!(SENT_COMM) + 8)]
    } else {
        [0; 2]
    };
    let payload = slot.payload();
    // SAFETY: the reserved record; every field is written.
    unsafe {
        if is_by_process {
            task::name_current(&raw mut (*payload).sender);
        } else {
            task::nobody(&raw mut (*payload).sender);
        }
        task::name_told(target_tgid, 0, comm, &raw mut (*payload).target);
        (*payload).target_cgroup = CgroupRef::ZERO;
        (*payload).fault_address = 0;
        (*payload).signal = sent.signal;
        (*payload).si_code = sent.code;
        (*payload).result = sent.result;
        (*payload).flags = SignalSent::PARTIAL | sent.flags(is_tracked);
        (*payload).target_pid = target_pid;
        (*payload).sender_pid = if is_by_process { current_pid } else { 0 };
        (*payload).target_pgid = 0;
        (*payload).forbidden_call = 0;
    }
    slot.submit();
}

struct Sent {
    signal: u32,
    code: i32,
    address: u64,
    forbidden_call: u32,
    has_info: bool,
    is_group: bool,
    result: u32,
}

impl Sent {
    #[inline(always)]
    fn is_in(&self, mask: u32) -> bool {
        self.signal <= SIGSYS && mask >> (self.signal & 31) & 1 != 0
    }

    #[inline(always)]
    fn may_be_daily_bread(&self) -> bool {
        self.signal > SIGSYS || self.is_in(UNHANDLED)
    }

    #[inline(always)]
    fn is_by_process(&self) -> bool {
        matches!(self.code, SI_USER | SI_QUEUE | SI_TKILL)
    }

    #[inline(always)]
    fn is_fault(&self) -> bool {
        self.is_in(FAULTS) && !self.is_by_process()
    }

    #[inline(always)]
    fn flags(&self, is_tracked: bool) -> u32 {
        let tracked = if is_tracked { SignalSent::TRACKED } else { 0 };
        let group = if self.is_group { SignalSent::GROUP } else { 0 };
        let source = if self.is_by_process() { 0 } else { SignalSent::BY_KERNEL };
        tracked | group | source
    }
}

/// By a helper: the verifier of 6.12 takes the argument, which may be one of these numbers, for no pointer.
#[inline(always)]
fn code_of(info: *const u8) -> i32 {
    // Of `SEND_SIG_NOINFO` nothing can be read, and 0 is `SI_USER`.
    let code = Object::<Probed>::anywhere(info).get(tuned!(SIGINFO_CODE));
    if info as u64 == SEND_SIG_PRIV { SI_KERNEL } else { code }
}

#[inline(always)]
fn has_info(info: *const u8) -> bool {
    read(&NOT_NOINFO) <= info as u64
}

/// By a helper: it lies in a union, of which verifiers before 6.4 know the first member only.
#[inline(always)]
fn address_of(info: *const u8) -> u64 {
    if present!(SIGINFO_ADDRESS) { Object::<Probed>::anywhere(info).get(tuned!(SIGINFO_ADDRESS)) } else { 0 }
}

/// The number of the call, and how wide its table is.
#[inline(always)]
fn forbidden_call(signal: u32, info: *const u8) -> u32 {
    if signal != SIGSYS || !present!(SIGINFO_CALL, SIGINFO_CALL_ARCH) {
        return 0;
    }
    let info = Object::<Probed>::anywhere(info);
    let arch: u32 = info.get(tuned!(SIGINFO_CALL_ARCH));
    let number: u32 = info.get(tuned!(SIGINFO_CALL));
    number & !SignalSent::CALL_64 | arch & SignalSent::CALL_64
}

#[inline(always)]
fn try_signal_sent<A: Access>(current: Object<A>, target: Object<A>, sent: &Sent) -> Option<()> {
    let tgid: u32 = target.get(tuned!(TASK_TGID));
    let is_tracked = task::is_tracked(tgid);
    // Timers, asynchronous I/O and threads of its own: its daily bread, taken by sigwaitinfo(2) without a handler.
    if sent.signal > SIGSYS && (!sent.is_by_process() || current.get::<u32>(tuned!(TASK_TGID)) == tgid) {
        return None;
    }
    if !is_tracked {
        let by_itself = sent.is_by_process() && current.get::<u32>(tuned!(TASK_TGID)) == tgid;
        // Who waits for real-time signals blocks them, and is not killed by them: nobody knows here.
        if sent.signal > SIGSYS
            || (by_itself || !sent.is_in(ALWAYS)) && !is_fatal(target.probed(), sent, by_itself)
        {
            return None;
        }
    }
    if (sent.is_fault() || sent.may_be_daily_bread()) && is_harmless(target.probed(), sent.signal) {
        return None;
    }
    if sent.may_be_daily_bread() && sent.result == SignalSent::ALREADY_PENDING {
        return None;
    }
    send(current, target.probed(), sent, is_tracked);
    Some(())
}

/// The target has not provided for it. Not asked where the verifier walks every way through it (6.1:
/// 203,042 instructions).
#[inline(always)]
fn is_fatal(target: Object<Probed>, sent: &Sent, by_itself: bool) -> bool {
    tuned!(PRUNES_WELL) != 0
        && !(by_itself && sent.is_in(OWN))
        && sent.result == SignalSent::DELIVERED
        && !is_harmless(target, sent.signal)
}

/// Whom the sender's call named: a group signal reaches each member by a record of its own.
#[inline(always)]
fn aim<A: Access>(current: Object<A>, sent: &Sent) -> u32 {
    if !sent.has_info {
        return SignalSent::NO_INFO | ending(current);
    }
    if !A::IS_TYPED || !sent.is_by_process() || !present!(SENDER_SYSCALL, SENDER_ARG0) {
        return 0;
    }
    // SAFETY: current, with its type; the helper (since 5.15) gives its user registers.
    let regs = unsafe { bpf_task_pt_regs(current.address().cast_mut().cast::<task_struct>()) };
    let Some(regs) = Object::<Typed>::new(regs as *const u8) else {
        return 0;
    };
    let call: u32 = regs.get(tuned!(SENDER_SYSCALL));
    if call == tuned!(SYS_KILL) {
        return match regs.get::<u64>(tuned!(SENDER_ARG0)) as i32 {
            1.. => SignalSent::TO_ONE,
            -1 => SignalSent::TO_EVERYBODY,
            _ => SignalSent::TO_PROCESS_GROUP,
        };
    }
    if call != tuned!(SYS_PIDFD_SEND_SIGNAL) || !present!(SENDER_ARG3) {
        return if sent.is_group && sent.code == SI_USER { 0 } else { SignalSent::TO_ONE };
    }
    match regs.get::<u64>(tuned!(SENDER_ARG3)) & PIDFD_SIGNAL_PROCESS_GROUP {
        0 => SignalSent::TO_ONE,
        _ => SignalSent::TO_PROCESS_GROUP,
    }
}

/// Whether the sender is on its way out: its end is what its children asked to be told of (`PR_SET_PDEATHSIG`). They
/// are told of the end of the thread that forked them (prctl(2)).
#[inline(always)]
fn ending<A: Access>(current: Object<A>) -> u32 {
    if current.get::<u32>(tuned!(TASK_FLAGS)) & PF_EXITING == 0 {
        return 0;
    }
    let is_whole = current.follow(tuned!(TASK_SIGNAL)).is_none_or(|signal| {
        signal.get::<u32>(tuned!(SIGNAL_LIVE)) == 0
            || signal.get::<u32>(tuned!(SIGNAL_FLAGS)) & SIGNAL_GROUP_EXIT != 0
    });
    if is_whole { SignalSent::ENDING } else { SignalSent::THREAD_ENDING }
}

/// Whoever else ends and kills others in the kernel's name is a tracer (`exit_ptrace`, kernel/ptrace.c), or wants memory,
/// which is told by a record of its own. Not asked where the verifier walks every way through it (6.1: 150,232
/// instructions).
#[inline(always)]
fn is_namespace_end<A: Access>(current: Object<A>, target: Object<Probed>, sent: &Sent) -> bool {
    tuned!(PRUNES_WELL) != 0
        && sent.signal == SIGKILL
        && sent.code == SI_KERNEL
        && current.get::<u32>(tuned!(TASK_FLAGS)) & PF_EXITING != 0
        && current.get::<u32>(tuned!(TASK_TGID)) != target.get::<u32>(tuned!(TASK_TGID))
        && present!(TASK_PTRACE)
        && target.get::<u32>(tuned!(TASK_PTRACE)) & PT_EXITKILL == 0
}

/// The process group of `task`, as the initial pid namespace has it.
#[inline(always)]
fn process_group(task: Object<Probed>) -> Option<u32> {
    if !present!(SIGNAL_PIDS, PID_NUMBERS, UPID_NR, PIDTYPE_PGID) {
        return None;
    }
    let signal = task.follow(tuned!(TASK_SIGNAL))?;
    let group = signal.follow(tuned!(SIGNAL_PIDS) + 8 * tuned!(PIDTYPE_PGID))?;
    Some(group.get(tuned!(PID_NUMBERS) + tuned!(UPID_NR)))
}

/// The target handles the fault itself (a JVM's null check), or a debugger does.
#[inline(always)]
fn is_harmless(target: Object<Probed>, signal: u32) -> bool {
    if signal == SIGTRAP && present!(TASK_PTRACE) && target.get::<u32>(tuned!(TASK_PTRACE)) != 0 {
        return true;
    }
    if !present!(TASK_SIGHAND, SIGHAND_ACTION, SIGACTION_HANDLER, SIGACTION_SIZE) {
        return false;
    }
    target.follow(tuned!(TASK_SIGHAND)).is_some_and(|sighand| {
        let action = tuned!(SIGHAND_ACTION) + (signal - 1) * tuned!(SIGACTION_SIZE);
        let handler: u64 = sighand.get(action + tuned!(SIGACTION_HANDLER));
        handler > SIG_IGN
    })
}

/// The flags come last: each way to them is a path of its own through all that follows, and 6.1
/// walks every one (354,000 instructions when they came first).
#[inline(always)]
fn send<A: Access>(current: Object<A>, target: Object<Probed>, sent: &Sent, is_tracked: bool) {
    let is_by_process = sent.is_by_process();
    let has_address = sent.is_fault() && sent.code != SI_KERNEL;
    let target_cgroup = task::cgroup_ref(target);
    let target_pgid = process_group(target).unwrap_or(0);
    let is_namespace_end = is_namespace_end(current, target, sent);
    let sender = (is_by_process || is_namespace_end).then_some(current.probed());
    let cgroup = task::cgroup_ref(current.probed());
    let Some(mut slot) = Slot::<SignalSent>::reserve(Lane::Urgent, cgroup) else {
        return;
    };
    let payload = slot.payload();
    // SAFETY: the reserved record; every field is written.
    unsafe {
        task::name(sender, &raw mut (*payload).sender);
        task::name(Some(target), &raw mut (*payload).target);
        (*payload).target_cgroup = target_cgroup;
        (*payload).fault_address = if has_address { sent.address } else { 0 };
        (*payload).signal = sent.signal;
        (*payload).si_code = sent.code;
        (*payload).result = sent.result;
        (*payload).target_pid = target.get(tuned!(TASK_PID));
        (*payload).sender_pid = sender.map_or(0, |sender| sender.get(tuned!(TASK_PID)));
        (*payload).target_pgid = target_pgid;
        (*payload).forbidden_call = sent.forbidden_call;
        let address = if has_address { SignalSent::HAS_ADDRESS } else { 0 };
        let namespace = if is_namespace_end { SignalSent::NAMESPACE_ENDING } else { 0 };
        (*payload).flags = sent.flags(is_tracked) | address | namespace | aim(current, sent);
    }
    slot.submit();
}
