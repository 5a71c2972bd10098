//! The death certificate: why a process ended, who did it, in one sentence.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    diagnosis::Evidence,
    memory::Memory,
    time::{BootTime, Human},
};
use crate::{
    identity::process::Process,
    signal::{Aim, Exit, OomKill, OomScope, Party, SeenBy, SignalSent},
    text,
};

/// `kill(2)` and friends, as opposed to a signal that the process raised for itself or the kernel forced.
const SI_USER: i32 = 0;
const SI_TKILL: i32 = -6;
/// A service that still finishes its work after SIGTERM is gone by then, or somebody has sent SIGKILL.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub exit: Exit,
    pub cause: Cause,
    pub uptime: Duration,
    /// How many abnormal ends of the workload this one makes.
    pub ordinal: u32,
    /// Key of our own act that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<String>,
    /// It exited by itself, but soon after it was asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Of an OOM kill: whose growth took the memory, the dead itself or a neighbour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaker: Option<Leaker>,
}

/// Who had grown most in a cgroup that ran out of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaker {
    pub party: Party,
    /// Bytes.
    pub grown: u64,
    pub over: Duration,
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
        fault_address: u64,
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
    },
    OomKill(OomKill),
    /// A signal of the kernel that was no fault and no OOM kill (a limit, a terminal, seccomp).
    Kernel,
    /// The signal was not seen: it was sent before the agent started, or records were lost.
    Unseen,
}

/// Fills in the certificate of a process that has just ended.
pub fn certify(memory: &Memory, process: &Process, exit: Exit, at: BootTime, ordinal: u32) -> Certificate {
    let cause = cause(memory, process, exit);
    Certificate {
        exit,
        leaker: leaker(memory, process, &cause),
        cause,
        uptime: at.since(process.start),
        ordinal,
        own: None,
        asked: if exit.signal.is_none() { asked(memory, process, at) } else { None },
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

fn asked(memory: &Memory, process: &Process, at: BootTime) -> Option<Asked> {
    let (when, sent) = memory.asked_to_stop(process.id())?;
    let before = at.since(*when);
    (before <= ANSWERS_WITHIN).then(|| Asked { signal: sent.signal, by: sent.sender.clone(), before })
}

fn cause(memory: &Memory, process: &Process, exit: Exit) -> Cause {
    let Some(number) = exit.signal else {
        return Cause::Exited;
    };
    if number == libc::SIGKILL
        && let Some((_, oom)) = memory.oom(process.id())
    {
        return Cause::OomKill(oom.clone());
    }
    match memory.signal(process.id(), number) {
        None if is_fault(number) => Cause::Crashed { fault_address: 0 },
        None => Cause::Unseen,
        Some((_, sent)) => sent_cause(memory, process, sent),
    }
}

fn sent_cause(memory: &Memory, process: &Process, sent: &SignalSent) -> Cause {
    let foreign = sent.sender.as_ref().filter(|party| party.id != process.id());
    match foreign {
        Some(by) if sent.si_code <= SI_USER => by_somebody(memory, process, sent, by.clone()),
        _ if is_fault(sent.signal) => Cause::Crashed { fault_address: sent.fault_address },
        _ if sent.si_code == SI_USER || sent.si_code == SI_TKILL => Cause::Exited,
        _ => Cause::Kernel,
    }
}

fn by_somebody(memory: &Memory, process: &Process, sent: &SignalSent, by: Party) -> Cause {
    let aim = sent.aim;
    // `__cgroup_kill` signals as if one thread were meant (kernel/cgroup/cgroup.c).
    let may_be_cgroup_kill = sent.signal == libc::SIGKILL && !sent.group && sent.si_code == SI_USER;
    let is_parent = process.parent.as_ref().is_some_and(|parent| parent.pid == by.id.pid);
    match aim {
        Aim::NoCall | Aim::Untold if may_be_cgroup_kill => Cause::CgroupKill { by },
        // `reparent_leader` (kernel/exit.c); the kernel's own hang-ups come without a siginfo too.
        Aim::NoCall if sent.group && is_parent => Cause::ParentEnded { parent: by },
        Aim::NoCall => Cause::Kernel,
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

impl Certificate {
    /// `killed by SIGKILL from bash[4242] (uid 0) after 3.2s`
    pub fn sentence(&self) -> String {
        let up = Human(self.uptime);
        let what = match (&self.cause, self.exit.signal) {
            (_, None) if self.exit.seen_by == SeenBy::NoStatus => "ended, nobody saw how,".to_owned(),
            (_, None) => match &self.asked {
                None => format!("exited with status {}", self.exit.code),
                Some(asked) => format!("exited with status {}, {}", self.exit.code, asked.says()),
            },
            (Cause::OomKill(oom), Some(_)) => {
                format!("{}{}", oom_sentence(oom), self.leaker.as_ref().map_or(String::new(), Leaker::says))
            }
            (Cause::Crashed { fault_address: 0 }, Some(signal)) => {
                format!("crashed with {}", signal_name(signal))
            }
            (Cause::Crashed { fault_address }, Some(signal)) => {
                format!("crashed with {} at address {fault_address:#x}", signal_name(signal))
            }
            (Cause::Killed { by }, Some(signal)) => {
                format!("killed by {} from {}", signal_name(signal), party(by))
            }
            (Cause::GroupSignal { by, members, aim, process_group }, Some(signal)) => format!(
                "killed by {} that {} sent to {}",
                signal_name(signal),
                party(by),
                struck(*aim, *process_group, *members)
            ),
            (Cause::ParentEnded { parent }, Some(signal)) => format!(
                "ended by {}, which it had asked for at its parent's end: {} ended",
                signal_name(signal),
                party(parent)
            ),
            (Cause::CgroupKill { by }, Some(_)) => {
                format!("killed by cgroup.kill, written by {}", party(by))
            }
            (Cause::Exited, Some(signal)) => format!("ended itself with {}", signal_name(signal)),
            (Cause::Kernel, Some(signal)) => {
                format!("ended by {} from the kernel", signal_name(signal))
            }
            (Cause::Unseen, Some(signal)) => {
                format!("ended by {}, whose sender was not seen", signal_name(signal))
            }
        };
        let core = if self.exit.core { ", core dumped" } else { "" };
        if self.uptime.is_zero() {
            // Nobody met it before its end.
            return format!("{}{core}", what.trim_end_matches(','));
        }
        format!("{what} after {up}{core}")
    }

    pub fn evidence(&self, memory: &Memory, process: &Process, at: BootTime) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        if let Some((when, oom)) = memory.oom(process.id()) {
            evidence.push(Evidence { signal: "oom_kill".into(), at: *when, says: oom_sentence(oom) });
        }
        let number = self.exit.signal.or(self.asked.as_ref().map(|asked| asked.signal));
        if let Some((when, sent)) = number.and_then(|number| memory.signal(process.id(), number)) {
            evidence.push(Evidence { signal: "signal_sent".into(), at: *when, says: sent_sentence(sent) });
        }
        let seen = match self.exit.seen_by {
            SeenBy::Kernel | SeenBy::Inferred | SeenBy::NoStatus => "process_exit",
            SeenBy::Connector => "process_connector",
            SeenBy::Supervisor => "supervisor",
            SeenBy::Poll => "poll",
        };
        evidence.push(Evidence {
            signal: seen.into(),
            at,
            says: format!("{}[{}] {}", text::printable(&process.comm), process.pid, self.sentence()),
        });
        evidence
    }
}

impl Leaker {
    /// `; leaky[17] (uid 0) had grown by 64.0 MiB in 31.0s`
    fn says(&self) -> String {
        format!("; {} had grown by {} in {}", party(&self.party), mebibytes(self.grown), Human(self.over))
    }
}

impl Asked {
    /// `12ms after SIGTERM from bash[4242] (uid 0),`
    fn says(&self) -> String {
        let from = self.by.as_ref().map_or_else(|| "the kernel".to_owned(), party);
        format!("{} after {} from {from},", Human(self.before), signal_name(self.signal))
    }
}

fn oom_sentence(oom: &OomKill) -> String {
    let numbers = match oom.limit {
        0 => String::new(),
        limit => format!(" ({} of {} used)", mebibytes(oom.usage), mebibytes(limit)),
    };
    let asker = party(&oom.trigger);
    let scope = match oom.scope {
        OomScope::Memcg | OomScope::Global if oom.is_scope_guessed => {
            return format!(
                "OOM-killed (whether for its cgroup or for the node was not told) when {asker} asked for more \
                 and its memory cgroup was at its limit{numbers}"
            );
        }
        OomScope::Memcg => "its memory cgroup",
        OomScope::Global => "the whole node",
        OomScope::Unknown => "memory (scope not told by this kernel)",
    };
    format!("OOM-killed because {scope}{numbers} ran out when {asker} asked for more")
}

fn sent_sentence(sent: &SignalSent) -> String {
    let from = sent.sender.as_ref().map_or_else(|| "the kernel".to_owned(), party);
    let ignored = if sent.ignored { "; the target ignores it" } else { "" };
    format!("{} (si_code {}) from {from}{ignored}", signal_name(sent.signal), sent.si_code)
}

pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// `process group 4242 (3 processes)`
fn struck(aim: Aim, process_group: u32, members: usize) -> String {
    let many = match members {
        0 | 1 => String::new(),
        members => format!(" ({members} processes)"),
    };
    match (aim, process_group) {
        (Aim::Everybody, _) => format!("everybody{many}"),
        (Aim::ProcessGroup, 0) => format!("its process group{many}"),
        (Aim::ProcessGroup, group) => format!("process group {group}{many}"),
        (Aim::Untold | Aim::One | Aim::NoCall, _) => format!("{members} processes at once"),
    }
}

/// `nginx[17] of web`; who started it, for a program that nobody named.
pub fn called(process: &Process) -> String {
    let name = of_whom(process);
    match &process.parent {
        Some(parent) if process.workload.given_name().is_none() => {
            format!("{name}, started by {}[{}],", text::printable(&parent.comm), parent.pid)
        }
        Some(_) | None => name,
    }
}

/// `nginx[17] of web`, or `nginx[17]`
pub fn of_whom(process: &Process) -> String {
    let comm = if process.comm.is_empty() { "a process that nobody met" } else { &process.comm };
    let name = format!("{}[{}]", text::printable(comm), process.pid);
    let given = process.workload.given_name();
    given.map_or_else(|| name.clone(), |given| format!("{name} of {}", text::printable(given)))
}

/// `bash[4242] (uid 0)`
pub fn party(party: &Party) -> String {
    format!("{}[{}] (uid {})", text::printable(&party.comm), party.id.pid, party.uid)
}

/// `SIGSEGV`, or `signal 35` for those without a name.
pub fn signal_name(number: i32) -> String {
    let name = match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}
