//! What a kernel record or a poll means. Pure.

pub mod calls;
pub mod memory;
pub mod network;
pub mod levels;
mod oom_kill;
mod process_exec;
mod process_exit;
mod raw;
mod reclaim_stall;
mod signal_sent;
mod socket_state;
pub mod syscall_error;
mod syscalls;
mod task_hung;
mod tcp_retransmit;
pub mod waits;
pub mod work;

use healer_common::event::{Event, Header};
use serde::{Deserialize, Serialize};

pub(crate) use self::raw::owner;
pub use self::raw::{Owner, Raw, Seen};
pub use self::signal_sent::SYS_SECCOMP;

use crate::{
    engine::time::BootTime,
    identity::process::{Process, ProcessId},
    sense::Lost,
};

/// What a record is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "lives for one call, on the stack")]
pub enum Meaning {
    /// Something happened to somebody: next, identity says to whom.
    Happened(Raw),
    /// The thread that healer ends on purpose was seen to end: the kernel path works.
    SelfProbe { at: BootTime, thread: u32 },
}

/// A decoded record's meaning.
pub fn interpret(header: &Header, event: &Event) -> Meaning {
    let at = BootTime(header.at_ns);
    match event {
        Event::ProcessExit(event) => process_exit::interpret(at, event),
        Event::ProcessExec(event) => process_exec::interpret(at, event),
        Event::SignalSent(event) => signal_sent::interpret(at, event),
        Event::OomKill(event) => oom_kill::interpret(at, event),
        Event::SocketState(event) => socket_state::interpret(at, event),
        Event::TcpRetransmit(event) => tcp_retransmit::interpret(at, event),
        Event::SyscallError(event) => syscall_error::interpret(at, event),
        Event::ReclaimStall(event) => reclaim_stall::interpret(at, event),
        Event::TaskHung(event) => task_hung::interpret(at, event),
    }
}

/// One fact about one process, after identity: what the engine sees and what traces store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// When it happened, by the kernel's own time stamp where there is one.
    pub at: BootTime,
    /// Whom it happened to. Facts about the node have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    pub fact: Fact,
}

impl Signal {
    /// `count` records did not fit into their ring.
    pub fn lost(at: BootTime, ring: Ring, count: u64) -> Self {
        Self { at, process: None, fact: Fact::Lost { ring, count } }
    }

    /// One for each ring of which records were lost.
    pub fn losses(at: BootTime, lost: Lost) -> Vec<Self> {
        let rings = [(Ring::Urgent, lost.urgent), (Ring::Bulk, lost.bulk)];
        let lossy = rings.into_iter().filter(|(_, count)| 0 < *count);
        lossy.map(|(ring, count)| Self::lost(at, ring, count)).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// The whole process ended (`sched:sched_process_exit`, last thread).
    Exited(Exit),
    /// A process image was replaced, or a new process began (`sched:sched_process_exec`).
    Execed,
    /// A fatal signal was generated for the process (`signal:signal_generate`).
    SignalSent(SignalSent),
    /// The OOM killer chose the process (`oom:mark_victim`).
    OomKilled(OomKill),
    /// `healer supervise` registered, or registered again after an agent restart.
    Registered(Registration),
    /// The supervisor's connection is gone.
    Deregistered,
    /// The supervisor was itself asked to stop and passed the signal on: the end is no failure.
    StopAsked { signal: i32 },
    /// Its owner runs it to do something and end: it is a job, and no service.
    MeantToEnd,
    /// An answer to a question that the engine asked.
    Answered { question: u64, answer: Answer },
    /// A scan of the stuck threads; the snapshot belongs to the node, not to one process.
    Waits(waits::WaitSnapshot),
    /// A look at the tracked processes for which work waits, or that lack the CPU; it belongs to the node.
    Work(work::WorkSnapshot),
    /// `expect.probe` of the process's policy was carried out.
    Probed(work::Probed),
    /// A connection of the process failed (`sock:inet_sock_set_state`).
    ConnectionFailed(network::ConnectionFailed),
    /// A connection of the process gets no answer (`tcp:tcp_retransmit_skb`).
    Retransmitted(network::Retransmitted),
    /// System calls of the process fail because something ran out, or broke (`raw_syscalls:sys_exit`).
    SyscallError(Box<syscall_error::SyscallError>),
    /// A look at what may run out; the snapshot belongs to the node, not to one process.
    Levels(levels::LevelSnapshot),
    /// The process began to listen, or no longer does.
    Listens(network::Listens),
    /// What was counted of the process's peers since it was last told (the map PEERS).
    Peers(Vec<network::PeerCounts>),
    /// Nobody in particular: a namespace had no route for some connections.
    NoRoute(network::NoRoute),
    /// A look at cgroups near their memory limit, and at the node if it is short; it belongs to the node.
    Memory(memory::MemorySnapshot),
    /// The process had to look for memory itself (`vmscan:mm_vmscan_memcg_reclaim_end`).
    ReclaimStalled(memory::ReclaimStalled),
    /// A thread of the process has been in uninterruptible sleep for longer than `kernel.hung_task_timeout_secs`
    /// (`sched:sched_process_hang`).
    TaskHung(TaskHung),
    /// A look at the connections that do not move; it belongs to the node.
    Flows(network::FlowSnapshot),
    /// Records were lost in a ring; nothing may be concluded from absence.
    Lost { ring: Ring, count: u64 },
}

impl Fact {
    /// As in `healer_signals_total{signal}`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exited(_) => "exited",
            Self::Execed => "execed",
            Self::SignalSent(_) => "signal_sent",
            Self::OomKilled(_) => "oom_killed",
            Self::Registered(_) => "registered",
            Self::Deregistered => "deregistered",
            Self::StopAsked { .. } => "stop_asked",
            Self::MeantToEnd => "meant_to_end",
            Self::Answered { .. } => "answered",
            Self::Waits(_) => "waits",
            Self::Work(_) => "work",
            Self::Probed(_) => "probed",
            Self::ConnectionFailed(_) => "connection_failed",
            Self::Retransmitted(_) => "retransmitted",
            Self::SyscallError(_) => "syscall_error",
            Self::Levels(_) => "levels",
            Self::Listens(_) => "listens",
            Self::Peers(_) => "peers",
            Self::NoRoute(_) => "no_route",
            Self::Memory(_) => "memory",
            Self::ReclaimStalled(_) => "reclaim_stalled",
            Self::TaskHung(_) => "task_hung",
            Self::Flows(_) => "flows",
            Self::Lost { .. } => "lost",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ring {
    Urgent,
    Bulk,
}

/// How a process ended, as `wait(2)` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status, 0 if a signal ended it.
    pub code: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(default)]
    pub core: bool,
    #[serde(default)]
    pub seen_by: SeenBy,
}

impl Exit {
    pub fn is_abnormal(&self) -> bool {
        self.signal.is_some() || self.code != 0
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenBy {
    #[default]
    Kernel,
    /// Reported by `healer supervise` after the agent was away.
    Supervisor,
    /// Found by comparing desired state with /proc.
    Poll,
    /// The process connector told the status: the kernel, by a lesser way.
    Connector,
    /// The end was seen; the status is that of a fatal signal just before it.
    Inferred,
    /// The end was seen, its status was not: `code` and `signal` mean nothing.
    NoStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalSent {
    pub signal: i32,
    /// `siginfo_t.si_code`: 0 SI_USER, -6 SI_TKILL, 128 SI_KERNEL, positive: the fault's own code.
    pub si_code: i32,
    /// None if the kernel itself sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Party>,
    /// Sent to the whole thread group (`kill`), not to one thread.
    pub group: bool,
    /// The kernel said that the target ignores it (`TRACE_SIGNAL_IGNORED`).
    pub ignored: bool,
    #[serde(default)]
    pub fault_address: u64,
    /// Whom the sender's call named.
    #[serde(default, skip_serializing_if = "Aim::is_untold")]
    pub aim: Aim,
    /// Process group of the target; 0 if it is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub process_group: u32,
    /// `ptrace (101)`: the call for which seccomp ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forbidden_call: Option<String>,
    /// Of a SIGKILL by the kernel: what the target had used by then, if it could still be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuUsed>,
}

/// CPU time of all threads of a process, and its hard limit (`RLIMIT_CPU`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuUsed {
    pub used_ms: u64,
    /// [`CpuUsed::UNLIMITED`]: there is none.
    #[serde(default = "unlimited", skip_serializing_if = "is_unlimited")]
    pub limit_s: u64,
}

fn unlimited() -> u64 {
    CpuUsed::UNLIMITED
}

fn is_unlimited(limit_s: &u64) -> bool {
    *limit_s == CpuUsed::UNLIMITED
}

impl Default for CpuUsed {
    fn default() -> Self {
        Self { used_ms: 0, limit_s: Self::UNLIMITED }
    }
}

impl CpuUsed {
    pub const UNLIMITED: u64 = u64::MAX;
    /// The kernel counts by another clock than it shows (`check_process_timers`, kernel/time/posix-cpu-timers.c).
    const UNSURE_MS: u64 = 1000;

    pub fn is_over(self) -> bool {
        !is_unlimited(&self.limit_s)
            && self.limit_s.saturating_mul(1000) <= self.used_ms.saturating_add(Self::UNSURE_MS)
    }
}

/// Whom a call of kill(2) and its like named. Each process that it reaches has a record of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// The kernel did not tell, or no call did it.
    #[default]
    Untold,
    /// This process, or one thread of it.
    One,
    ProcessGroup,
    /// `kill(-1)`.
    Everybody,
    /// The kernel did it while the sender did something else: wrote to `cgroup.kill`, let go of its terminal.
    NoCall,
    /// The kernel did it because the sender ended.
    Ending,
    /// The kernel did it because one thread of the sender ended.
    ThreadEnding,
    /// The kernel did it because the sender ended, and with it its pid namespace.
    NamespaceEnding,
}

impl Aim {
    fn is_untold(&self) -> bool {
        *self == Self::Untold
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    pub id: ProcessId,
    pub comm: String,
    #[serde(default)]
    pub uid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomKill {
    pub scope: OomScope,
    /// Nobody told the scope: a cgroup was at its limit, as one full of page cache always is.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub is_scope_guessed: bool,
    /// The task whose allocation found no memory; often not the victim.
    pub trigger: Party,
    /// Memory cgroup that hit its limit (path if known) and its numbers at kill time, in bytes.
    #[serde(default)]
    pub memcg: String,
    #[serde(default)]
    pub usage: u64,
    #[serde(default)]
    pub limit: u64,
}

impl OomKill {
    /// A container runtime tells that there was one, and no more.
    pub fn untold() -> Self {
        Self {
            scope: OomScope::Unknown,
            is_scope_guessed: false,
            trigger: Party::default(),
            memcg: String::new(),
            usage: 0,
            limit: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OomScope {
    Memcg,
    Global,
    Unknown,
}

/// The kernel tells it again and again, as long as it lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskHung {
    pub tid: u32,
    /// Thread that holds the kernel lock which it waits for; 0 unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub holder: u32,
    /// It is a thread of the kernel.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub is_kernel: bool,
}

/// What a supervisor says of itself. The process of the signal is its child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub name: String,
    pub supervisor: ProcessId,
    /// Key of the last order it carried out: a repeated order is answered, not repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_key: Option<String>,
    /// The child is dead and the supervisor waits for an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Exit>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Ports of the question that nobody of the workload listens on; empty = all are back.
    NotListening(Vec<String>),
    Alive(bool),
    /// By the annotation of the question. None: the API server has not told.
    Paused(Option<bool>),
    /// The file system of the question. None: it is mounted nowhere in sight.
    ReadOnly(Option<bool>),
}

#[cfg(test)]
mod tests;
