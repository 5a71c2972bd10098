//! One look at the tracked processes: did they run, did they get the CPU, and does work wait for them?

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity::process::Process;

/// Only processes of which there is something to say; whoever is missing is well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkSnapshot {
    /// Since the look before.
    pub wall_ms: u64,
    pub processes: Vec<Work>,
    /// Who used most CPU since the look before, heaviest first; empty unless somebody lacks it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub busiest: Vec<Consumer>,
    /// Whose sockets could not be seen this time: nothing is known of their work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<Unseen>,
}

/// A tracked process whose sockets the kernel did not tell of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseen {
    pub process: Process,
    /// What was tried, and the kernel's answer.
    pub says: String,
}

/// A tracked process or a descendant of it. Times and counts are since the look before, where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The tracked process.
    pub process: Process,
    /// Whom the numbers are of: the same pid, or a descendant's.
    pub pid: u32,
    pub comm: String,
    pub condition: Life,
    pub threads: u32,
    /// CPU time of all threads.
    pub ran_ms: u64,
    /// How often one of its threads got the CPU.
    pub runs: u64,
    /// Threads that wanted the CPU all the time and never gave it up of their own accord.
    #[serde(default)]
    pub spinning: u32,
    /// Longest of its threads' times on a run queue without running (`/proc/PID/task/TID/schedstat`).
    #[serde(default)]
    pub delay_ms: u64,
    /// One of its sockets was read from or written to.
    #[serde(default)]
    pub moved: bool,
    /// It, or another of its family, took a connection from a listener.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub accepted: bool,
    /// It, or another of its family, wrote on a connection that it serves.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub answered: bool,
    /// The backlog of a relative's listener waits for it as well: it has inherited the descriptor.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub shares: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<Unread>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<Backlog>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<Unanswered>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled: Option<Throttled>,
    /// All of its threads were looked at, and none ran.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub rested: bool,
    #[serde(default, skip_serializing_if = "UnixWork::is_empty")]
    pub unix: UnixWork,
    /// It may go on without anybody's help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hope: Option<Hope>,
    /// Its first thread waits for whatever comes next (epoll_wait(2)) and has just come round, and no other has run since
    /// the oldest request came: what it has read and not answered it may keep for later, as a server of long polls does.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub at_its_loop: bool,
}

/// What waits at unix sockets with a name. Nobody counts what was read of them: only who did not run has read nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixWork {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<Unread>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<Backlog>,
    /// As [`Work::shares`].
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub shares: bool,
}

impl UnixWork {
    pub fn is_empty(&self) -> bool {
        self.unread.is_none() && self.backlog.is_none() && !self.shares
    }
}

/// What whoever does nothing may be waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hope {
    /// It waits for another process: for the answer to what it asked, or for a child's end.
    Peer,
    /// One of its threads has slept for long, until a time that it has set.
    Timer,
}

impl Hope {
    /// Whoever waits longer for an answer, or for a time that it has set, does not only wait for that.
    pub const LASTS: Duration = Duration::from_secs(60);
}

/// Why a process may not run, as far as it can be seen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    #[default]
    Free,
    Stopped,
    Traced,
    Frozen,
}

/// Bytes that have arrived and that nobody reads, while the socket's own output is not held up by its peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    pub sockets: u32,
    pub bytes: u64,
    /// Since when not one byte was read from the one that waits longest.
    pub oldest_ms: u64,
}

impl Backlog {
    /// The kernel takes one more than `listen(2)` was told (include/net/sock.h `sk_acceptq_is_full`).
    pub fn is_full(&self) -> bool {
        self.limit < self.waiting
    }
}

/// Connections that are complete and not accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// 0: of a unix socket.
    pub port: u16,
    pub waiting: u32,
    /// What `listen` was called with.
    pub limit: u32,
    /// Since when the queue has not shrunk and has not been empty.
    pub oldest_ms: u64,
    /// Answers seen on this port before, the slowest of them, and since the last.
    #[serde(default)]
    pub answered: u64,
    #[serde(default)]
    pub slowest_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_answer_ms: Option<u64>,
}

/// Connections whose request was read and that got not one byte back since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    pub port: u16,
    pub sockets: u32,
    pub oldest_ms: u64,
    /// Answers seen on this port before, and the slowest of them: what is normal here.
    pub answered: u64,
    pub slowest_ms: u64,
    /// Since the last answer on this port; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_answer_ms: Option<u64>,
}

/// From `cpu.stat` of its cgroup, where a limit holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttled {
    pub cgroup: String,
    pub periods: u64,
    pub throttled: u64,
    pub throttled_ms: u64,
}

/// A user of the CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    pub pid: u32,
    pub comm: String,
    pub cgroup: String,
    pub ran_ms: u64,
}

/// Which word of `expect` a question is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    #[default]
    Probe,
    Listen,
}

impl Asked {
    pub const ALL: [Self; 2] = [Self::Probe, Self::Listen];

    fn is_probe(&self) -> bool {
        *self == Self::Probe
    }
}

/// What `expect.probe` found, or a look at the ports of `expect.listen`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    pub ok: bool,
    #[serde(default, skip_serializing_if = "Asked::is_probe")]
    pub asked: Asked,
    /// `http GET 8080/livez`
    pub what: String,
    /// It failed because no answer came in time.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub late: bool,
    /// `status 503`, `no answer in 2s`
    pub says: String,
    pub took_ms: u64,
}
