//! The death certificate: why a process ended, who did it, in one sentence.

mod words;

use core::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::words::{called, mebibytes, of_whom, party, signal_name};
use super::{memory::Memory, time::BootTime};
use crate::{
    identity::process::{Process, ProcessId},
    signal::{Aim, CpuUsed, Exit, OomKill, Party, SYS_SECCOMP, SeenBy, SignalSent},
};

/// `kill(2)` and friends, as opposed to a signal that the process raised for itself or the kernel forced.
const SI_USER: i32 = 0;
const SI_TKILL: i32 = -6;
/// A service that still finishes its work after SIGTERM is gone by then, or somebody has sent SIGKILL.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// A wrapper ends as soon as its child has.
const RELAYED_WITHIN: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub exit: Exit,
    pub cause: Cause,
    pub uptime: Duration,
    /// The how-manieth abnormal end of its workload this is; of a program that nobody named, of the command that this
    /// parent starts.
    pub ordinal: u32,
    /// Key of our own act that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<String>,
    /// It exited by itself, but soon after it was asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Its status is 128 and the signal of which its child had just died, as shells hand it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<Child>,
    /// Of an OOM kill: whose growth took the memory, the dead itself or a neighbour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaker: Option<Leaker>,
    /// Of a SIGKILL by the kernel: the hard limit of CPU time that explains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<CpuLimit>,
}

/// `RLIMIT_CPU` (getrlimit(2)): SIGXCPU every second from the soft limit on, SIGKILL at the hard one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuLimit {
    Met(CpuUsed),
    /// Its numbers were gone with the process; so long before it was warned.
    Warned(Duration),
}

/// Who had grown most in a cgroup that ran out of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaker {
    pub party: Party,
    /// Bytes.
    pub grown: u64,
    pub over: Duration,
}

/// A child that ended by a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    pub id: ProcessId,
    pub comm: String,
    pub signal: i32,
    /// Why, as its own certificate has it.
    pub says: String,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub oom_killed: bool,
}

/// A request to stop that the process handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub signal: i32,
    /// None: the kernel, as for a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Party>,
    /// From the signal to the end.
    pub before: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It returned or called exit.
    Exited,
    /// A fault of its own, or `abort()`.
    Crashed {
        /// Of a forbidden system call: where it was made.
        fault_address: u64,
        /// A filter forbade a system call (seccomp(2)), and not an emulator that knows no such call.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        by_seccomp: bool,
        /// `ptrace (101)`, if the kernel told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<String>,
    },
    /// Somebody else sent the signal to this process.
    Killed {
        by: Party,
    },
    /// Somebody struck several processes with one blow: a whole process group, or everybody.
    GroupSignal {
        by: Party,
        /// How many of them were heard of by the time of this end.
        members: usize,
        #[serde(default)]
        aim: Aim,
        /// 0: not known, or everybody.
        #[serde(default)]
        process_group: u32,
    },
    /// Somebody wrote to `cgroup.kill`.
    CgroupKill {
        by: Party,
    },
    /// It had asked for this signal at its parent's end (`PR_SET_PDEATHSIG`), and the parent ended.
    ParentEnded {
        parent: Party,
        /// Only the thread that had forked it did: that is the parent that prctl(2) means.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        only_thread: bool,
    },
    /// The first process of its pid namespace ended, and the kernel killed whoever was left in there
    /// (pid_namespaces(7)).
    NamespaceEnded {
        first: Party,
    },
    OomKill(OomKill),
    /// A signal of the kernel that was no fault and no OOM kill (a limit, a terminal, seccomp).
    Kernel,
    /// The signal was not seen: it was sent before the agent started, or records were lost.
    Unseen,
}

impl Certificate {
    /// As a stop may leave a program behind, and nobody saw who wanted that, or that nobody did.
    pub fn is_as_of_a_stop(&self) -> bool {
        let Exit { code, signal, seen_by, .. } = self.exit;
        if self.own.is_some() {
            return false;
        }
        match (seen_by, signal) {
            (SeenBy::NoStatus, _) => true,
            (SeenBy::Kernel, None) => false,
            (SeenBy::Supervisor | SeenBy::Poll | SeenBy::Connector | SeenBy::Inferred, None) => {
                // Shells, and runtimes, say so of a signal.
                let is_of_signal = (129..=192).contains(&code) && !is_fault(code - 128);
                let memory_ran_out = self.child.as_ref().is_some_and(|child| child.oom_killed);
                code == 0 || is_of_signal && !memory_ran_out
            }
            (
                SeenBy::Kernel | SeenBy::Supervisor | SeenBy::Poll | SeenBy::Connector | SeenBy::Inferred,
                Some(_),
            ) => self.cause == Cause::Unseen,
        }
    }
}

/// Fills in the certificate of a process that has just ended.
pub fn certify(memory: &Memory, process: &Process, exit: Exit, at: BootTime, ordinal: u32) -> Certificate {
    let cause = cause(memory, process, exit);
    Certificate {
        exit,
        leaker: leaker(memory, process, &cause),
        cpu_limit: cpu_limit(memory, process, exit, &cause),
        cause,
        uptime: at.since(process.start),
        ordinal,
        own: None,
        asked: if exit.signal.is_none() { asked(memory, process, at) } else { None },
        child: relayed(memory, process, exit, at),
    }
}

fn leaker(memory: &Memory, process: &Process, cause: &Cause) -> Option<Leaker> {
    let Cause::OomKill(oom) = cause else {
        return None;
    };
    let (killed_at, _) = memory.oom(process.id())?;
    let user = memory.leaker(*killed_at, &oom.memcg)?;
    let of = &user.process;
    Some(Leaker {
        party: Party {
            id: of.id(),
            comm: of.comm.clone(),
            uid: of.uid,
            exe: of.exe.clone(),
            workload: Some(of.workload.0.clone()),
        },
        grown: user.grown,
        over: Duration::from_millis(user.watched_ms),
    })
}

fn cpu_limit(memory: &Memory, process: &Process, exit: Exit, cause: &Cause) -> Option<CpuLimit> {
    if *cause != Cause::Kernel || exit.signal != Some(libc::SIGKILL) {
        return None;
    }
    let (killed_at, sent) = memory.signal(process.id(), libc::SIGKILL)?;
    if let Some(used) = sent.cpu {
        return used.is_over().then_some(CpuLimit::Met(used));
    }
    let (warned_at, warning) = memory.signal(process.id(), libc::SIGXCPU)?;
    warning.sender.is_none().then(|| CpuLimit::Warned(killed_at.since(*warned_at)))
}

/// `128 + n`, where the last child died of `n`.
fn relayed(memory: &Memory, process: &Process, exit: Exit, at: BootTime) -> Option<Child> {
    let (when, child) = memory.last_child(process.id())?;
    let is_its = exit.signal.is_none() && exit.code == 128 + child.signal;
    (is_its && at.since(*when) <= RELAYED_WITHIN).then(|| child.clone())
}

fn asked(memory: &Memory, process: &Process, at: BootTime) -> Option<Asked> {
    let (when, sent) = memory.asked_to_stop(process.id())?;
    let before = at.since(*when);
    (before <= ANSWERS_WITHIN).then(|| Asked { signal: sent.signal, by: sent.sender.clone(), before })
}

fn cause(memory: &Memory, process: &Process, exit: Exit) -> Cause {
    let Some(number) = exit.signal else {
        return Cause::Exited;
    };
    let killer = memory.signal(process.id(), number);
    if number == libc::SIGKILL
        && let Some((marked_at, oom)) = memory.oom(process.id())
        // Who is dying already is marked without a blow (`task_will_free_mem`, mm/oom_kill.c).
        && !killer.is_some_and(|(at, sent)| sent.sender.is_some() && !sent.ignored && at < marked_at)
    {
        return Cause::OomKill(oom.clone());
    }
    match killer {
        None if is_fault(number) => Cause::Crashed { fault_address: 0, by_seccomp: false, call: None },
        None => Cause::Unseen,
        Some((_, sent)) => sent_cause(memory, process, handed_on(memory, process, sent)),
    }
}

/// Python, Ruby, node and timeout(1) catch a signal, clean up, and then die of the same one by their own hand, so that
/// their parent sees what ended them: the first one did.
fn handed_on<'a>(memory: &'a Memory, process: &Process, sent: &'a SignalSent) -> &'a SignalSent {
    let is_own = sent.sender.as_ref().is_some_and(|party| party.id == process.id());
    let caught = if is_own { memory.caught_before(process.id(), sent.signal) } else { None };
    caught.map_or(sent, |(_, caught)| caught)
}

fn sent_cause(memory: &Memory, process: &Process, sent: &SignalSent) -> Cause {
    let foreign = sent.sender.as_ref().filter(|party| party.id != process.id());
    match foreign {
        Some(first) if sent.aim == Aim::NamespaceEnding => Cause::NamespaceEnded { first: first.clone() },
        Some(by) if sent.si_code <= SI_USER => by_somebody(memory, process, sent, by.clone()),
        _ if is_fault(sent.signal) => Cause::Crashed {
            fault_address: sent.fault_address,
            by_seccomp: sent.signal == libc::SIGSYS && sent.si_code == SYS_SECCOMP,
            call: sent.forbidden_call.clone(),
        },
        // SIGPIPE and SIGXFSZ: the kernel has its own code for neither. Who writes the cgroup.kill of its own cgroup is
        // struck without a call of kill(2), too.
        _ if sent.aim == Aim::NoCall && sent.signal != libc::SIGKILL => Cause::Kernel,
        _ if sent.si_code == SI_USER || sent.si_code == SI_TKILL => Cause::Exited,
        _ => Cause::Kernel,
    }
}

fn by_somebody(memory: &Memory, process: &Process, sent: &SignalSent, by: Party) -> Cause {
    let aim = sent.aim;
    // `__cgroup_kill` signals as if one thread were meant (kernel/cgroup/cgroup.c).
    let may_be_cgroup_kill = sent.signal == libc::SIGKILL && !sent.group && sent.si_code == SI_USER;
    match aim {
        Aim::NoCall | Aim::Untold if may_be_cgroup_kill => Cause::CgroupKill { by },
        // `forget_original_parent` (kernel/exit.c). By then the child has another parent.
        Aim::Ending => Cause::ParentEnded { parent: by, only_thread: false },
        Aim::ThreadEnding => Cause::ParentEnded { parent: by, only_thread: true },
        Aim::NoCall => Cause::Kernel,
        Aim::NamespaceEnding => Cause::NamespaceEnded { first: by },
        Aim::One => Cause::Killed { by },
        Aim::ProcessGroup | Aim::Everybody => {
            let members = memory.struck_together(process.id());
            let process_group = if aim == Aim::Everybody { 0 } else { sent.process_group };
            Cause::GroupSignal { by, members, aim, process_group }
        }
        Aim::Untold if sent.group && sent.si_code == SI_USER => match memory.struck_together(process.id()) {
            members @ 2.. => Cause::GroupSignal { by, members, aim, process_group: sent.process_group },
            _ => Cause::Killed { by },
        },
        Aim::Untold => Cause::Killed { by },
    }
}

/// Signals whose default action is to dump core because the program did something wrong.
pub fn is_fault(signal: i32) -> bool {
    use libc::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
    [SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGTRAP].contains(&signal)
}
