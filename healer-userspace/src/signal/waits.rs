//! One scan of the node's stuck threads: what each of them waits for, and who could end the wait.

use serde::{Deserialize, Serialize};

use crate::{engine::time::BootTime, identity::process::Process, text};

/// Stuck threads that wait for somebody in particular, everybody they wait for, and their processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitSnapshot {
    /// Counts up: neighbouring numbers are neighbouring scans.
    pub scan: u64,
    pub tasks: Vec<Task>,
    pub processes: Vec<WaitingProcess>,
    /// Threads that take no signal, not even SIGKILL, and have slept for long or are told to die.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deaf: Vec<Deaf>,
}

impl WaitSnapshot {
    /// There is nobody to tell of.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.deaf.is_empty()
    }
}

/// Sleeps where no signal reaches it: uninterruptibly, or frozen by the v1 freezer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deaf {
    pub task: Task,
    /// Its process was sent SIGKILL, or exits.
    pub dying: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingProcess {
    pub process: Process,
    /// Threads alive, as `/proc/PID/task` lists them.
    pub threads: u32,
    /// Of these, threads that are left out of `tasks` for brevity: only a sibling could wake them.
    #[serde(default)]
    pub parked: u32,
    /// Who besides its threads could wake one of them: caught signals, timers, an `io_uring`, a tracer, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wakers: Vec<String>,
}

/// The waker of a shell or a Python program that catches SIGINT and nothing else, as all do. Whoever else has a handler
/// for it may do nothing but wait for it.
pub const BY_INTERRUPT: &str = "catches signal 2";
/// SIGALRM.
const ALARM: &str = "14";

impl WaitingProcess {
    /// Somebody outside its threads may wake one of them by design: a signal that it waits for, a timer, …
    pub fn may_be_woken(&self) -> bool {
        self.wakers.iter().any(|waker| waker != BY_INTERRUPT)
    }

    /// `alarm(2)`, `flock -w` and their like end a system call when their time is over.
    pub fn may_be_timed_out(&self) -> bool {
        let is_alarm = |waker: &String| {
            let signals = waker.strip_prefix("catches signal ").unwrap_or_default();
            signals.split(", ").any(|signal| signal == ALARM)
        };
        self.wakers.iter().any(|waker| waker.contains("timers") || is_alarm(waker))
    }

    /// Nothing but handlers of signals, those of timers among them.
    pub fn is_woken_by_signals_only(&self) -> bool {
        let is_signal = |waker: &String| waker.starts_with("catches signal ") || waker.contains("timers");
        self.wakers.iter().all(is_signal)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Thread id in the host's pid namespace.
    pub tid: u32,
    /// `task_struct.start_boottime` of the thread itself.
    pub start: BootTime,
    pub tgid: u32,
    /// Chosen by the process itself.
    pub comm: String,
    pub condition: Condition,
    /// Number of the system call that it is in, by the x86-64 table; negative if in none.
    pub syscall: i32,
    #[serde(default)]
    pub args: [u64; 4],
    /// How long it has not run, in ms.
    #[serde(default)]
    pub waited_ms: u64,
    /// Context switches, voluntary and not: unchanged means that it did not run.
    #[serde(default)]
    pub switches: u64,
    /// Each of them alone is true; empty if nobody in particular ends the wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<Wait>,
    /// Of whoever takes no signal: what its system call is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_system: Option<FileSystem>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// Such as `ext4`.
    pub kind: String,
    /// Where its process has it mounted.
    pub point: String,
    /// Whoever wants to write to it waits until somebody thaws it (`fsfreeze -u`).
    pub is_frozen: bool,
}

impl FileSystem {
    /// As in "it sleeps …".
    pub fn says(&self) -> String {
        let frozen = if self.is_frozen { ", which is frozen" } else { "" };
        format!("on {} at {}{frozen}", text::printable(&self.kind), text::printable(&self.point))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Has not run between two scans, and is in the same system call.
    Stuck,
    /// Runs, or ran since the last scan.
    Live,
    /// In uninterruptible sleep.
    Uninterruptible,
    /// By a signal (`SIGSTOP`, `SIGTSTP`, …).
    Stopped,
    /// A debugger has it.
    Traced,
    /// Its cgroup is frozen.
    Frozen,
    Exiting,
    /// A thread of the kernel.
    Kernel,
    /// A 32-bit program: its system calls are not read.
    Compat,
}

impl Condition {
    /// As in "it is …".
    pub fn says(self) -> &'static str {
        match self {
            Self::Stuck => "asleep",
            Self::Live => "running",
            Self::Uninterruptible => "in uninterruptible sleep",
            Self::Stopped => "stopped by a signal",
            Self::Traced => "held by a debugger",
            Self::Frozen => "in a frozen cgroup",
            Self::Exiting => "on its way out",
            Self::Kernel => "a thread of the kernel",
            Self::Compat => "a 32-bit program, whose system calls are not read",
        }
    }
}

/// Ends only by one of the owners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    pub kind: WaitKind,
    /// Address in the waiter's memory, `MAJOR:MINOR:INODE`, or `pipe:[INODE]`.
    pub lock: String,
    pub source: Source,
    /// The futex word as read, between two looks at the same switch count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<u32>,
    /// Whoever of these runs first could end the wait.
    pub owners: Vec<Owner>,
    /// How the owners are known.
    pub says: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// A thread of the snapshot.
    Task(u32),
    /// Every thread of this process.
    Process(u32),
    /// A thread that has exited without giving the lock back.
    Gone(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitKind {
    Mutex,
    RobustMutex,
    PiMutex,
    Rwlock,
    /// A lock that does not say who holds it.
    Lock,
    /// A condition, a semaphore, or a parked thread.
    Wakeup,
    Join,
    Flock,
    PosixLock,
    OfdLock,
    PipeWrite,
    PipeRead,
    SocketWrite,
    SocketRead,
    KernelLock,
    Vfork,
    Child,
}

/// How a wait's owners are known, from the most to the least precise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The kernel's own interface says it.
    Kernel,
    /// The C library's layout, tested on our own locks.
    Layout,
    /// Whose stack points to the lock.
    Stack,
    /// A private futex is woken by a thread of the same process or not at all.
    ClosedWorld,
}

impl Source {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Layout => "layout",
            Self::Stack => "stack",
            Self::ClosedWorld => "closed_world",
        }
    }
}

impl WaitKind {
    /// A system call that a handler of a signal ends (signal(7), `EINTR`), whoever holds what it waits for.
    pub fn ends_by_a_signal(self) -> bool {
        match self {
            Self::Flock | Self::PosixLock | Self::OfdLock | Self::PipeWrite | Self::SocketWrite => true,
            Self::Mutex
            | Self::RobustMutex
            | Self::PiMutex
            | Self::Rwlock
            | Self::Lock
            | Self::Wakeup
            | Self::Join
            | Self::PipeRead
            | Self::SocketRead
            | Self::KernelLock
            | Self::Vfork
            | Self::Child => false,
        }
    }

    /// As in "waits 3s {} 0x7f…": what the thread waits for or tries to do.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Mutex => "for mutex",
            Self::RobustMutex => "for robust mutex",
            Self::PiMutex => "for priority-inheriting mutex",
            Self::Rwlock => "for rwlock",
            Self::Lock => "for lock",
            Self::Wakeup => "for a wake-up at",
            Self::Join => "for the end of thread",
            Self::Flock => "for flock on",
            Self::PosixLock => "for POSIX lock on",
            Self::OfdLock => "for OFD lock on",
            Self::PipeWrite => "to write into full",
            Self::PipeRead => "to read from empty",
            Self::SocketWrite => "to write into full",
            Self::SocketRead => "to read from empty",
            Self::KernelLock => "for kernel lock",
            Self::Vfork => "for the exec of child",
            Self::Child => "for the end of child",
        }
    }
}
