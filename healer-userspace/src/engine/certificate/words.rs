//! A certificate in words.

use core::{fmt::Write as _, time::Duration};

use super::{Asked, Cause, Certificate, Child, CpuLimit, Leaker};
use crate::{
    engine::{
        diagnosis::Evidence,
        memory::Memory,
        time::{BootTime, Human},
    },
    identity::process::Process,
    signal::{Aim, CpuUsed, OomKill, OomScope, Party, SeenBy, SignalSent},
    text,
};

impl Certificate {
    /// `killed by SIGKILL from bash[4242] (uid 0) after 3.2s`
    pub fn sentence(&self) -> String {
        let mut says = String::with_capacity(96);
        self.tell(&mut says);
        says
    }

    /// The sentence, after what `says` says.
    pub(in crate::engine) fn tell(&self, says: &mut String) {
        // Writing to a String cannot fail. Most ends say no more, and a node has many: they take no String of their own.
        if self.is_plain() {
            write!(says, "exited with status {}", self.exit.code).ok();
        } else {
            says.push_str(&self.what());
        }
        if self.uptime.is_zero() {
            // Nobody met it before its end.
            says.truncate(says.trim_end_matches(',').len());
        } else {
            write!(says, " after {}", Human(self.uptime)).ok();
        }
        says.push_str(if self.exit.core { ", core dumped" } else { "" });
        says.push_str(&again(self.ordinal));
    }

    fn is_plain(&self) -> bool {
        let has_reason = self.asked.is_some() || self.child.is_some();
        self.exit.signal.is_none() && self.exit.seen_by != SeenBy::NoStatus && !has_reason
    }

    /// Neither when nor how often.
    pub(in crate::engine) fn what(&self) -> String {
        match (&self.cause, self.exit.signal) {
            (_, None) if self.exit.seen_by == SeenBy::NoStatus => "ended, nobody saw how,".to_owned(),
            (_, None) => match (&self.asked, &self.child) {
                (Some(asked), _) => format!("exited with status {}, {}", self.exit.code, asked.says()),
                (None, Some(child)) => {
                    format!("exited with status {}: {},", self.exit.code, child.sentence())
                }
                (None, None) => format!("exited with status {}", self.exit.code),
            },
            (Cause::OomKill(oom), Some(_)) => {
                format!("{}{}", oom_sentence(oom), self.leaker.as_ref().map_or(String::new(), Leaker::says))
            }
            (Cause::Crashed { fault_address, by_seccomp: true, call }, Some(signal)) => format!(
                "ended by {}: seccomp forbids {} that it made at {fault_address:#x}",
                signal_name(signal),
                call.as_deref().map_or_else(|| "a system call".to_owned(), |call| format!("the call {call}"))
            ),
            (Cause::Crashed { fault_address: 0, .. }, Some(signal)) => {
                format!("crashed with {}", signal_name(signal))
            }
            (Cause::Crashed { fault_address, .. }, Some(signal)) => {
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
            (Cause::ParentEnded { parent, only_thread }, Some(signal)) => format!(
                "ended by {}, which it had asked for at its parent's end: {}{} ended",
                signal_name(signal),
                if *only_thread { "the thread that had started it, of " } else { "" },
                party(parent)
            ),
            (Cause::NamespaceEnded { first }, Some(signal)) => format!(
                "ended by {} from the kernel, as the first process of its pid namespace, {}, had ended",
                signal_name(signal),
                party(first)
            ),
            (Cause::CgroupKill { by }, Some(_)) => {
                format!("killed by cgroup.kill, written by {}", party(by))
            }
            (Cause::Exited, Some(signal)) => format!("ended itself with {}", signal_name(signal)),
            (Cause::Kernel, Some(signal)) => {
                let why = self.cpu_limit.map_or_else(|| what_for(signal).to_owned(), CpuLimit::says);
                format!("ended by {} from the kernel{why}", signal_name(signal))
            }
            (Cause::Unseen, Some(signal)) => {
                format!("ended by {}, whose sender was not seen", signal_name(signal))
            }
        }
    }

    /// What the kernel told before the end.
    pub fn causes(&self, memory: &Memory, process: &Process) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        if let Some((when, oom)) = memory.oom(process.id()) {
            evidence.push(Evidence { signal: "oom_kill".into(), at: *when, says: oom_sentence(oom) });
        }
        let number = self.exit.signal.or(self.asked.as_ref().map(|asked| asked.signal));
        let last = number.and_then(|number| memory.signal(process.id(), number));
        let caught = number.and_then(|number| memory.caught_before(process.id(), number));
        for (when, sent) in caught.into_iter().chain(last) {
            evidence.push(Evidence { signal: "signal_sent".into(), at: *when, says: sent_sentence(sent) });
        }
        evidence
    }

    pub fn evidence(&self, memory: &Memory, process: &Process, at: BootTime) -> Vec<Evidence> {
        let mut evidence = self.causes(memory, process);
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

impl Child {
    /// `its child sleep[17] was killed by SIGKILL from bash[4242] (uid 0)`
    fn sentence(&self) -> String {
        let was = if self.says.starts_with("crashed") || self.says.starts_with("ended itself") {
            ""
        } else {
            "was "
        };
        format!("its child {}[{}] {was}{}", text::printable(&self.comm), self.id.pid, self.says)
    }
}

/// ` (3rd end)`; of the first nothing.
fn again(ordinal: u32) -> String {
    let th = match (ordinal % 10, ordinal % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    if ordinal < 2 { String::new() } else { format!(" ({ordinal}{th} end)") }
}

impl Leaker {
    /// `; leaky[17] (uid 0) had grown by 64.0 MiB in 31.0s`
    fn says(&self) -> String {
        format!("; {} had grown by {} in {}", party(&self.party), mebibytes(self.grown), Human(self.over))
    }
}

impl CpuLimit {
    /// ` (its hard limit of 2 s of CPU time, of which it had used 2.0s)`
    fn says(self) -> String {
        match self {
            Self::Met(CpuUsed { used_ms, limit_s }) => format!(
                " (its hard limit of {limit_s} s of CPU time, of which it had used {})",
                Human(Duration::from_millis(used_ms))
            ),
            Self::Warned(before) => format!(
                " (its hard limit of CPU time, as it seems: SIGXCPU, for the soft one, came {} before)",
                Human(before)
            ),
        }
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
        limit if oom.scope == OomScope::Global => format!(" ({})", mebibytes(limit)),
        // Found out afterwards.
        limit if oom.usage == 0 => format!(" (limit {})", mebibytes(limit)),
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
        OomScope::Unknown if oom.trigger.id.pid == 0 => {
            return "OOM-killed (which memory ran out, and who asked for more, was not told)".to_owned();
        }
        OomScope::Memcg if oom.limit == 0 => "its memory cgroup or one above, which was not told,",
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

/// What the kernel sends it for, where there is but one reason (signal(7)).
fn what_for(signal: i32) -> &'static str {
    match signal {
        libc::SIGPIPE => " (nobody reads what it writes)",
        libc::SIGXCPU => " (a limit of its CPU time)",
        libc::SIGXFSZ => " (its limit of a file's size)",
        libc::SIGALRM => " (its own timer)",
        _other => "",
    }
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
        (
            Aim::Untold | Aim::One | Aim::NoCall | Aim::Ending | Aim::ThreadEnding | Aim::NamespaceEnding,
            _,
        ) => format!("{members} processes at once"),
    }
}

/// `nginx[17] of web`; who started it, for a program that nobody named.
pub fn called(process: &Process) -> String {
    let mut name = of_whom(process);
    if let Some(parent) = process.parent.as_ref().filter(|_| process.workload.given_name().is_none()) {
        // Writing to a String cannot fail.
        write!(name, ", started by {}[{}],", text::printable(&parent.comm), parent.pid).ok();
    }
    name
}

/// `nginx[17] of web`, or `nginx[17]`
pub fn of_whom(process: &Process) -> String {
    let comm = if process.comm.is_empty() { "a process that nobody met" } else { &process.comm };
    // Room for most: every abnormal end of a node has its sentence.
    let mut name = String::with_capacity(128);
    name.push_str(&text::printable(comm));
    write!(name, "[{}]", process.pid).ok();
    if let Some(given) = process.workload.given_name() {
        name.push_str(" of ");
        name.push_str(&text::printable(given));
    }
    name
}

/// `bash[4242] (uid 0)`
pub fn party(party: &Party) -> String {
    format!("{}[{}] (uid {})", text::printable(&party.comm), party.id.pid, party.uid)
}

/// The C library keeps 32 and 33 for itself (signal(7)).
const FIRST_REAL_TIME: i32 = 34;

/// `SIGSEGV`, `SIGRTMIN+1` as the C library counts it, or `signal 33` for those without a name.
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
        libc::SIGSTKFLT => "SIGSTKFLT",
        libc::SIGVTALRM => "SIGVTALRM",
        libc::SIGPROF => "SIGPROF",
        libc::SIGIO => "SIGIO",
        libc::SIGPWR => "SIGPWR",
        real_time @ FIRST_REAL_TIME..=64 => return format!("SIGRTMIN+{}", real_time - FIRST_REAL_TIME),
        other => return format!("signal {other}"),
    };
    name.to_owned()
}
