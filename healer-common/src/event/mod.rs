//! Events the kernel half can send. To add one: write its payload in
//! `event/<name>.rs` and one entry of the table below; the compiler and the
//! object test name the places that are still missing.

pub mod part;
mod table;
pub mod wire;

use table::events;
use wire::{Wire, wire};

events! {
    /// A process is gone, by itself or by a signal.
    ProcessExit = 1, process_exit from sched:sched_process_exit;
    /// A process that healer waits for runs another program now.
    ProcessExec = 2, process_exec from sched:sched_process_exec;
    /// A signal that can end its target was generated.
    SignalSent = 3, signal_sent from signal:signal_generate;
    /// The kernel chose a victim because memory ran out.
    OomKill = 4, oom_kill from oom:mark_victim;
    /// A connection failed, or a listener came or went.
    SocketState = 5, socket_state from sock:inet_sock_set_state;
    /// A connection gets no answer: a segment was sent again after a time-out.
    TcpRetransmit = 6, tcp_retransmit from tcp:tcp_retransmit_skb;
    /// System calls of a process fail because something ran out, or broke.
    SyscallError = 7, syscall_error from raw_syscalls:sys_exit;
    /// A task had to look for memory itself, for long or in vain.
    ReclaimStall = 8, reclaim_stall from vmscan:mm_vmscan_memcg_reclaim_end;
    /// A thread has been in uninterruptible sleep for very long.
    TaskHung = 9, task_hung from sched:sched_process_hang;
}

/// No record is longer than this, header included.
pub const RECORD_MAX: usize = 512;

wire! {
    /// First bytes of every record. "Current" is the task in whose context the program ran.
    pub struct Header: 32 bytes {
        /// `CLOCK_BOOTTIME`, ns (`bpf_ktime_get_boot_ns`).
        pub at_ns: u64,
        /// A number of [`EventKind`].
        pub kind: u32,
        /// Current's thread group.
        pub tgid: u32,
        /// Current's cgroup: see [`part::CgroupRef::id`].
        pub cgroup_id: u64,
        /// See [`part::CgroupRef::hierarchy`].
        pub cgroup_hierarchy: u32,
        /// Current's thread.
        pub pid: u32,
    }
}

/// One whole record: header, then payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Record<T> {
    pub header: Header,
    pub payload: T,
}

/// A payload that may cross a ring buffer.
pub trait Payload: Wire {
    /// A record may end after so many bytes of the payload; the others are zero.
    const MAY_END_AT: Option<usize> = None;

    /// Refuses values that no program of ours writes.
    ///
    /// # Errors
    /// [`Invalid`] names the field.
    fn check(&self) -> Result<(), Invalid>;
}

/// A payload's place in the table; [`events!`] implements it.
pub trait Kinded: Payload {
    const KIND: EventKind;
}

/// The field that has a value it cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid(pub &'static str);

/// An event's kernel hook. Its program is named after the event; variants for
/// kernels without the best hook add a suffix (`_raw`, `_tp`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub kind: EventKind,
    pub program: &'static str,
    pub category: &'static str,
    pub tracepoint: &'static str,
}

/// Hooks that an event needs besides its own, each with a program of the same variants.
pub const COMPANIONS: &[Probe] = &[
    reclaim("reclaim_stall_begin", "mm_vmscan_memcg_reclaim_begin"),
    reclaim("reclaim_stall_direct_begin", "mm_vmscan_direct_reclaim_begin"),
    reclaim("reclaim_stall_direct_end", "mm_vmscan_direct_reclaim_end"),
];

const fn reclaim(program: &'static str, tracepoint: &'static str) -> Probe {
    Probe { kind: EventKind::ReclaimStall, program, category: "vmscan", tracepoint }
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than the header or than the kind's payload.
    TooShort { got: usize },
    /// Bytes are left after the payload.
    TooLong { kind: u32, extra: usize },
    /// The table has no such kind.
    UnknownKind(u32),
    /// A field has a value that no program writes.
    Malformed { kind: u32, field: &'static str },
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooShort { got } => write!(f, "record of {got} bytes is too short"),
            Self::TooLong { kind, extra } => {
                write!(f, "record of kind {kind} has {extra} bytes too many")
            }
            Self::UnknownKind(kind) => write!(f, "record of unknown kind {kind}"),
            Self::Malformed { kind, field } => {
                write!(f, "record of kind {kind} has an impossible {field}")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

fn split_header(mut bytes: &[u8]) -> Result<(Header, &[u8]), DecodeError> {
    let got = bytes.len();
    let header = Header::take(&mut bytes).ok_or(DecodeError::TooShort { got })?;
    Ok((header, bytes))
}

fn read<T: Payload>(kind: u32, mut bytes: &[u8]) -> Result<T, DecodeError> {
    let got = size_of::<Header>() + bytes.len();
    let payload = if T::MAY_END_AT == Some(bytes.len()) {
        completed(core::mem::take(&mut bytes))
    } else {
        T::take(&mut bytes)
    };
    let payload: T = payload.ok_or(DecodeError::TooShort { got })?;
    if !bytes.is_empty() {
        let extra = bytes.len();
        return Err(DecodeError::TooLong { kind, extra });
    }
    match payload.check() {
        Ok(()) => Ok(payload),
        Err(Invalid(field)) => Err(DecodeError::Malformed { kind, field }),
    }
}

fn completed<T: Payload>(begin: &[u8]) -> Option<T> {
    let mut whole = [0; RECORD_MAX];
    whole.get_mut(..begin.len())?.copy_from_slice(begin);
    T::take(&mut whole.get(..size_of::<T>())?)
}

#[cfg(test)]
mod tests;
