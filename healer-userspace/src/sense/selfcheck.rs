//! Whether the sensors tell the truth: at start a child of healer ends with a known status, another is killed by healer,
//! a connection is refused, and what the records say is compared with what is known.

use std::{path::Path, time::Duration};

use healer_common::event::{
    Event, EventKind, Header, part::TaskRef, process_exit::ProcessExit, signal_sent::SignalSent,
};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, waitid, waitpid};

use super::{refusal::Refusal, rung::Rung};
use crate::{
    engine::time::BootTime,
    identity::{
        process::TICK_NS,
        procfs::{ProcDir, Stat},
    },
};

/// No program of the system ends with it.
const CODE: u8 = 23;
/// Records of the dead that have not come so long after both have ended will not come.
const PATIENCE: Duration = Duration::from_secs(1);
/// Children that have not ended by then get no CPU, and are waited for no longer.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(30);
/// If healer is killed in between, its child must not stay.
const CHILD_SECONDS: u32 = 5;

/// What a sensor did with the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Truthful,
    /// Who it was: read by the same offsets in every program.
    WrongIdentity(String),
    /// Something that only this sensor says.
    Wrong(String),
}

/// A child of ours, and what must be said of it.
struct Child {
    pid: u32,
    /// What `/proc` says of it; `None` if it is not mounted.
    stat: Option<Stat>,
    wait_status: u32,
}

/// A check under way; dropping it ends and reaps the children.
pub(super) struct SelfCheck {
    began: BootTime,
    /// When both children were first seen dead: on a node that is ill they wait long for a CPU.
    ended: Option<BootTime>,
    /// The thread that sends the signal.
    thread: u32,
    own_tgid: u32,
    exiting: Child,
    killed: Child,
    exits: [Option<ProcessExit>; 2],
    sent: Option<SignalSent>,
    refusal: Option<Refusal>,
}

impl SelfCheck {
    /// Makes the children. `None` if there can be none now.
    pub(super) fn begin(now: BootTime, own_tgid: u32) -> Option<Self> {
        let exiting = Child::fork(u32::from(CODE) << 8, || {
            // The thread's own exit: before 5.17 its status lies elsewhere than that of a killed group.
            loop {
                // SAFETY: takes a number and does not return.
                unsafe { libc::syscall(libc::SYS_exit, libc::c_long::from(CODE)) };
            }
        })?;
        let killed = Child::fork(libc::SIGKILL as u32, || {
            loop {
                // SAFETY: both only take numbers; the alarm ends the child.
                unsafe {
                    libc::alarm(CHILD_SECONDS);
                    libc::pause();
                }
            }
        })?;
        killed.end();
        let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let refusal = Refusal::provoke(thread, own_tgid);
        let (exits, sent) = ([None, None], None);
        Some(Self { began: now, ended: None, thread, own_tgid, exiting, killed, exits, sent, refusal })
    }

    /// Whether `record` is about the children, which is of no interest to anybody else.
    pub(super) fn claims(&mut self, record: &[u8]) -> bool {
        match Event::decode(record) {
            // The header's numbers come from a helper: they are right even if the payload is not.
            Ok((header, Event::ProcessExit(exit))) => self.claims_exit(&header, exit),
            Ok((header, Event::SignalSent(sent))) => {
                let is_ours = header.pid == self.thread && sent.signal == libc::SIGKILL as u32;
                let is_named = sent.target.tgid == self.killed.pid;
                if (is_ours || is_named) && self.sent.is_none() {
                    self.sent = Some(sent);
                }
                is_ours || is_named
            }
            Ok((header, Event::SocketState(state))) => {
                self.refusal.as_mut().is_some_and(|refusal| refusal.claims(&header, &state))
            }
            Ok(_) | Err(_) => false,
        }
    }

    fn claims_exit(&mut self, header: &Header, exit: ProcessExit) -> bool {
        let slot = self.children().iter().position(|pid| *pid == header.tgid);
        let Some(slot) = slot else {
            return false;
        };
        self.exits[slot] = Some(exit);
        true
    }

    /// The children's numbers.
    pub(super) fn children(&self) -> [u32; 2] {
        [self.exiting.pid, self.killed.pid]
    }

    /// The port at which healer was refused.
    pub(super) fn refused_port(&self) -> Option<u16> {
        self.refusal.as_ref().map(|refusal| refusal.port)
    }

    /// Whether the sensor of connections may still say something.
    pub(super) fn awaits_refusal(&self, now: BootTime) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| refusal.verdict().is_none()) && !self.is_late(now)
    }

    /// Whether what has not come by now will not come.
    pub(super) fn is_late(&self, now: BootTime) -> bool {
        self.ended.is_some_and(|ended| PATIENCE <= now.since(ended))
    }

    /// Nothing can be said of sensors that had nothing to say.
    pub(super) fn is_hopeless(&self, now: BootTime) -> bool {
        self.ended.is_none() && GIVEN_UP_AFTER <= now.since(self.began)
    }

    /// Looks whether the children have ended.
    pub(super) fn look(&mut self, now: BootTime) {
        if self.ended.is_none() && self.exiting.has_ended() && self.killed.has_ended() {
            self.ended = Some(now);
        }
    }

    /// What the sensor made of it; `None` while it may still say something, and for one that has
    /// nothing to say.
    pub(super) fn verdict(&self, kind: EventKind, rung: Rung, now: BootTime) -> Option<Verdict> {
        let claims_start = rung.reads_structs();
        let verdict = match kind {
            EventKind::ProcessExit => {
                let judge = |exit: &Option<ProcessExit>, child| {
                    exit.as_ref().map(|exit| judge_exit(exit, child, self.own_tgid, claims_start))
                };
                let [exiting, killed] = &self.exits;
                let both = [judge(exiting, &self.exiting), judge(killed, &self.killed)];
                let lie = both.iter().flatten().find(|verdict| **verdict != Verdict::Truthful);
                lie.cloned().or_else(|| both.iter().all(Option::is_some).then_some(Verdict::Truthful))
            }
            EventKind::SignalSent => self.sent.as_ref().map(|sent| self.judge_signal(sent, claims_start)),
            EventKind::SocketState => return self.refusal.as_ref().and_then(Refusal::verdict),
            EventKind::ProcessExec
            | EventKind::OomKill
            | EventKind::TcpRetransmit
            | EventKind::SyscallError
            | EventKind::ReclaimStall
            | EventKind::TaskHung => return None,
        };
        let silence = || Verdict::Wrong("of a child of healer that ended it said nothing".to_owned());
        verdict.or_else(|| self.is_late(now).then(silence))
    }

    fn judge_signal(&self, sent: &SignalSent, claims_start: bool) -> Verdict {
        if let Some(wrong) = misnamed(&sent.target, &self.killed, claims_start) {
            return wrong;
        }
        if sent.sender.tgid != self.own_tgid {
            return Verdict::WrongIdentity(format!(
                "of a signal that healer sent it said that {} sent it",
                sent.sender.tgid
            ));
        }
        if sent.si_code != 0 || sent.result != SignalSent::DELIVERED {
            return Verdict::Wrong(format!(
                "of a delivered kill(2) it said code {} and result {}",
                sent.si_code, sent.result
            ));
        }
        Verdict::Truthful
    }
}

fn judge_exit(exit: &ProcessExit, child: &Child, own_tgid: u32, claims_start: bool) -> Verdict {
    let truth = child.wait_status;
    if let Some(wrong) = misnamed(&exit.task, child, claims_start) {
        return wrong;
    }
    let is_unknown = exit.flags & ProcessExit::NO_STATUS != 0;
    if exit.wait_status != truth && !is_unknown {
        let said = exit.wait_status;
        return Verdict::Wrong(format!(
            "of a child that ended with wait status {truth:#x} it said {said:#x}"
        ));
    }
    if exit.parent.tgid != own_tgid {
        return Verdict::Wrong(format!(
            "of a child of healer it said that its parent is {}",
            exit.parent.tgid
        ));
    }
    Verdict::Truthful
}

/// The record's name against the child's own; only who reads structs claims to know the start.
fn misnamed(task: &TaskRef, child: &Child, claims_start: bool) -> Option<Verdict> {
    let pid = child.pid;
    let wrong = |what: String| Some(Verdict::WrongIdentity(format!("of the child {pid} it said {what}")));
    if task.tgid != pid {
        return wrong(format!("the pid {}", task.tgid));
    }
    let stat = child.stat.as_ref()?;
    let (said, start) = (task.start_boot_ns, stat.start.0);
    if (claims_start || said != 0) && (said / TICK_NS).abs_diff(start / TICK_NS) > 1 {
        return wrong(format!("that it started at {said} ns after boot, when it was {start}"));
    }
    if task.comm() != stat.comm.as_bytes() {
        return wrong("another name than its own".to_owned());
    }
    None
}

impl Child {
    /// A child that runs `body` and nothing else.
    fn fork(wait_status: u32, body: fn() -> !) -> Option<Self> {
        // SAFETY: the child of a program with threads may only make calls that are safe in a signal
        // handler (fork(2)): `body` is a system call, and never returns.
        let pid = unsafe { libc::fork() };
        match pid {
            0 => body(),
            1.. => {
                let pid = pid as u32;
                let stat = ProcDir::open(Path::new("/proc"), pid).and_then(|dir| dir.stat());
                Some(Self { pid, stat, wait_status })
            }
            _ => None,
        }
    }

    /// It stays to be reaped.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Pid::from_raw(self.pid as i32)
            .is_none_or(|pid| !matches!(waitid(WaitId::Pid(pid), options), Ok(None)))
    }

    fn end(&self) {
        if let Some(pid) = Pid::from_raw(self.pid as i32) {
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Not reaped yet, so the number is still the child's.
        self.end();
        let Some(pid) = Pid::from_raw(self.pid as i32) else { return };
        let reap = move |options| waitpid(Some(pid), options);
        if matches!(reap(WaitOptions::NOHANG), Ok(None)) {
            // It needs a CPU to die, for which nobody here should wait.
            let name = "healer-reaper".to_owned();
            std::thread::Builder::new().name(name).spawn(move || reap(WaitOptions::empty()).ok()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use healer_common::event::wire::Wire as _;

    use super::*;
    use crate::clock;

    #[test]
    fn silence_is_a_lie_only_of_children_that_have_ended() {
        const BY: Rung = Rung::TpBtf { program: "process_exit" };
        let began = clock::boot();
        let mut check = SelfCheck::begin(began, std::process::id()).unwrap();
        let late = began + GIVEN_UP_AFTER;
        assert_eq!(
            check.verdict(EventKind::ProcessExit, BY, late),
            None,
            "nobody has looked whether they ended"
        );
        assert!(check.is_hopeless(late) && !check.is_hopeless(began));
        let deadline = began + GIVEN_UP_AFTER;
        while check.ended.is_none() && clock::boot() < deadline {
            check.look(clock::boot());
        }
        let ended = check.ended.unwrap();
        assert!(!check.is_hopeless(late));
        assert_eq!(check.verdict(EventKind::ProcessExit, BY, ended), None);
        let said = check.verdict(EventKind::ProcessExit, BY, ended + PATIENCE);
        assert!(matches!(said, Some(Verdict::Wrong(_))), "{said:?}");
    }

    #[test]
    fn only_who_reads_no_structs_may_leave_the_start_out() {
        let stat = ProcDir::open(Path::new("/proc"), std::process::id()).and_then(|dir| dir.stat()).unwrap();
        let mut task = TaskRef { tgid: 7, ..TaskRef::ZERO };
        task.comm[..stat.comm.len()].copy_from_slice(stat.comm.as_bytes());
        let child = Child { pid: 7, stat: Some(stat), wait_status: 0 };
        assert_eq!(misnamed(&task, &child, false), None);
        assert!(misnamed(&task, &child, true).is_some());
        // Nobody's child: nothing to be reaped.
        std::mem::forget(child);
    }
}
