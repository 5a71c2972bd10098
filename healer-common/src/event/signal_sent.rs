use super::{
    Invalid, Payload,
    part::{CgroupRef, TaskRef},
    wire::wire,
};

wire! {
    /// A signal that can end its target was generated: from `signal:signal_generate`.
    ///
    /// Sent when the kernel or another process is the source; a fault that the
    /// target handles itself (a JVM's null check) is not sent.
    pub struct SignalSent: 120 bytes {
        /// All zero when the kernel sent it (see [`SignalSent::BY_KERNEL`]), but for
        /// [`SignalSent::NAMESPACE_ENDING`].
        pub sender: TaskRef,
        pub target: TaskRef,
        pub target_cgroup: CgroupRef,
        /// `si_addr` of a fault; 0 where there is none.
        pub fault_address: u64,
        pub signal: u32,
        /// `si_code` of sigaction(2): 0 kill, -1 sigqueue, -6 tgkill, 0x80 kernel, above 0 a fault's kind.
        pub si_code: i32,
        /// `TRACE_SIGNAL_*` of include/trace/events/signal.h: see the constants below.
        pub result: u32,
        /// Or of the constants below.
        pub flags: u32,
        /// The thread it was aimed at (of a group signal: the leader or the caller).
        pub target_pid: u32,
        /// The thread that sent it; 0 when the kernel did.
        pub sender_pid: u32,
        /// Process group of the target, as the initial pid namespace numbers it; 0 if it could not be read.
        pub target_pgid: u32,
        /// Of SIGSYS by seccomp(2): the call's number, with [`SignalSent::CALL_64`] if it is one of the 64-bit table.
        pub forbidden_call: u32,
    }
}

impl SignalSent {
    /// For the whole process, not one thread.
    pub const GROUP: u32 = 1;
    /// No process sent it: a fault, the OOM killer, the terminal, a limit.
    pub const BY_KERNEL: u32 = 2;
    /// The target was in the TRACKED map.
    pub const TRACKED: u32 = 4;
    /// [`SignalSent::fault_address`] is meant, even if it is 0.
    pub const HAS_ADDRESS: u32 = 8;
    /// From a classic tracepoint: `target.tgid` may be a thread's number, starts are 0, and a
    /// handler was not looked for. User space puts that right.
    pub const PARTIAL: u32 = 16;
    /// The sender's call named this one process or thread.
    pub const TO_ONE: u32 = 32;
    /// The sender's call named a process group, of which the target is a member: `kill(0)`, `kill(-pgid)`.
    pub const TO_PROCESS_GROUP: u32 = 64;
    /// The sender's call named everybody: `kill(-1)`.
    pub const TO_EVERYBODY: u32 = 128;
    /// It came without a siginfo: from the kernel, while the sender wrote to cgroup.kill or ended
    /// (`PR_SET_PDEATHSIG`). No call of kill(2) has done it.
    pub const NO_INFO: u32 = 256;
    /// Besides `NO_INFO`: the sender is ending as a whole.
    pub const ENDING: u32 = 512;
    /// Besides `NO_INFO`: the sender's thread is ending, others of it live on.
    pub const THREAD_ENDING: u32 = 1024;
    /// Besides `BY_KERNEL`: the sender is the first process of the target's pid namespace and ends, and the kernel
    /// kills whoever is left in there (`zap_pid_ns_processes`, kernel/pid_namespace.c).
    pub const NAMESPACE_ENDING: u32 = 2048;

    /// `__AUDIT_ARCH_64BIT` of include/uapi/linux/audit.h.
    pub const CALL_64: u32 = 1 << 31;

    pub const DELIVERED: u32 = 0;
    /// The target ignores it: waiting for its end is in vain.
    pub const IGNORED: u32 = 1;
    pub const ALREADY_PENDING: u32 = 2;
    pub const OVERFLOW_FAIL: u32 = 3;
    pub const LOSE_INFO: u32 = 4;
}

impl Payload for SignalSent {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self { target_cgroup, .. } if !target_cgroup.is_valid() => {
                Err(Invalid("target_cgroup.hierarchy"))
            }
            Self { signal, .. } if !(1..=64).contains(signal) => Err(Invalid("signal")),
            Self { .. } => Ok(()),
        }
    }
}
