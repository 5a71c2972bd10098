//! The last fatal signals and OOM choices, kept until the death that they explain.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::{
    certificate::{Cause, Certificate, Child, called},
    diagnosis::Evidence,
    keyed::Keyed,
    time::BootTime,
};
use crate::{
    identity::process::{Process, ProcessId},
    signal::{
        Aim, Exit, Fact, OomKill, Signal, SignalSent,
        memory::{MemorySnapshot, MemoryUser, RECENT_MS, most_grown},
        syscall_error::{SyscallError, errno_words},
    },
    text,
};

const MAX_REMEMBERED: usize = 4096;
/// A group signal reaches its members within this time of the first.
const GROUP_SPAN: Duration = Duration::from_millis(5);
/// An OOM victim that does not exit (D state, frozen) is reported without its exit.
pub(super) const KEEP: Duration = Duration::from_secs(60);

/// Of one process: a storm of signals to it must not grow without end.
const MAX_SIGNALS: usize = 16;
/// From a signal that was caught to the same one by its own hand: time to clean up.
const HANDED_ON_WITHIN: Duration = Duration::from_secs(50);
const MAX_SENDERS: usize = 256;
const MAX_CGROUPS: usize = 256;
/// Cgroups near their limit are looked at every second at least.
const GROWTH_IS_FRESH: Duration = Duration::from_secs(5);
/// Kept as evidence of a shortage.
const REFUSAL_IS_FRESH: Duration = Duration::from_secs(10);
/// Of the limit, what somebody must have grown by to be the reason.
const GROWN_PART: u64 = 16;
/// Of the limit, what the kernel itself may hold and what moves between two looks.
const UNSEEN_PART: u64 = 12;

#[derive(Debug, Default)]
pub struct Memory {
    about: Keyed<ProcessId, About>,
    /// Whom to forget next, one entry for each process; its `touched` says whether it is still due.
    order: VecDeque<(BootTime, ProcessId)>,
    /// The last blow of each sender.
    striking: BTreeMap<Strike, (BootTime, Blow)>,
    /// How many processes each blow struck; old ones are forgotten.
    blows: BTreeMap<Blow, usize>,
    next_blow: u64,
    /// Records lost, with the time at which the loss was noticed.
    losses: VecDeque<(BootTime, u64)>,
    /// Who grew in cgroups near their limit, at the last look at each.
    growth: BTreeMap<String, Growth>,
}

#[derive(Debug)]
struct Growth {
    seen: BootTime,
    limit: u64,
    anon: u64,
    users: Vec<MemoryUser>,
}

fn is_by(sent: &SignalSent, id: ProcessId) -> bool {
    sent.sender.as_ref().is_some_and(|party| party.id == id)
}

/// The manager of the system or its own parent, by a signal that stops: `systemctl restart`, a service manager, a
/// master that lets a worker go. A hang-up is a reload more often than a stop.
fn is_by_its_manager(process: &Process, sent: &SignalSent) -> bool {
    let parent = process.parent.as_ref().map(|parent| parent.pid);
    let is_manager = |pid: u32| pid == 1 || Some(pid) == parent;
    sent.signal != libc::SIGHUP && sent.sender.as_ref().is_some_and(|sender| is_manager(sender.id.pid))
}

fn refusal(at: BootTime, process: &Process, error: &SyscallError) -> Evidence {
    let (call, errno) = (text::printable(&error.call), errno_words(error.errno));
    let says = format!("{}: {call} fails with {errno}: {} times so far", called(process), error.count);
    Evidence { signal: "syscall_error".to_owned(), at, says }
}

/// Sender, signal, and whom its call named; of a process group its number.
type Strike = (ProcessId, i32, Aim, u32);

/// Signals of one sender that came at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Blow(u64);

/// What may explain the end of one process.
#[derive(Debug, Default)]
struct About {
    signals: VecDeque<(BootTime, SignalSent)>,
    oom: Option<(BootTime, OomKill)>,
    /// The last of its children that ended by a signal.
    child: Option<(BootTime, Child)>,
    struck_by: Option<Blow>,
    /// The last call that failed for want of memory: evidence, and no more, for a limit of its own does that too.
    refused: Option<Box<Evidence>>,
    touched: BootTime,
}

impl Memory {
    pub fn note(&mut self, now: BootTime, signal: &Signal) {
        if let Fact::Lost { count, .. } = signal.fact {
            self.losses.push_back((now, count));
            while self.losses.len() > MAX_REMEMBERED {
                self.losses.pop_front();
            }
        }
        if let Fact::Memory(snapshot) = &signal.fact {
            self.note_growth(signal.at, snapshot);
        }
        let Some(process) = &signal.process else {
            return;
        };
        match &signal.fact {
            Fact::SignalSent(sent) => {
                let blow = self.blow(signal.at, process.id(), sent);
                let about = self.about(now, process.id());
                about.struck_by = blow.or(about.struck_by);
                let signals = &mut about.signals;
                if signals.len() == MAX_SIGNALS {
                    // The first may be the one that killed; what comes often must not push out what came once.
                    let same = signals.iter().skip(1).position(|(_, old)| old.signal == sent.signal);
                    signals.remove(1 + same.unwrap_or(0));
                }
                signals.push_back((signal.at, sent.clone()));
            }
            Fact::SyscallError(error) if matches!(error.errno, libc::ENOMEM | libc::ENOBUFS) => {
                self.about(now, process.id()).refused = Some(Box::new(refusal(signal.at, process, error)));
            }
            Fact::OomKilled(oom) => self.about(now, process.id()).oom = Some((signal.at, oom.clone())),
            Fact::Exited(_)
            | Fact::Execed
            | Fact::Registered(_)
            | Fact::Deregistered
            | Fact::StopAsked { .. }
            | Fact::MeantToEnd
            | Fact::Answered { .. }
            | Fact::Waits(_)
            | Fact::Work(_)
            | Fact::Probed(_)
            | Fact::ConnectionFailed(_)
            | Fact::Retransmitted(_)
            | Fact::SyscallError(_)
            | Fact::Levels(_)
            | Fact::Listens(_)
            | Fact::NoRoute(_)
            | Fact::Memory(_)
            | Fact::ReclaimStalled(_)
            | Fact::TaskHung(_)
            | Fact::Flows(_)
            | Fact::Peers(_)
            | Fact::Lost { .. } => {}
        }
        self.forget_old(now);
    }

    /// The parent may hand on how its child has ended.
    pub fn note_end(&mut self, at: BootTime, process: &Process, certificate: &Certificate) {
        if let (Some(parent), Some(signal)) = (&process.parent, certificate.exit.signal) {
            let parent = ProcessId { pid: parent.pid, start: parent.start };
            let (id, comm, says) = (process.id(), process.comm.clone(), certificate.what());
            let oom_killed = matches!(certificate.cause, Cause::OomKill(_));
            let child = Child { id, comm, signal, says, oom_killed };
            self.about(at, parent).child = Some((at, child));
        }
    }

    /// The last child of `id` that ended by a signal.
    pub fn last_child(&self, id: ProcessId) -> Option<&(BootTime, Child)> {
        self.about.get(&id)?.child.as_ref()
    }

    fn about(&mut self, now: BootTime, id: ProcessId) -> &mut About {
        let about = self.about.get_or_insert_with(id, || {
            self.order.push_back((now, id));
            About::default()
        });
        about.touched = now;
        about
    }

    fn note_growth(&mut self, at: BootTime, snapshot: &MemorySnapshot) {
        self.growth.retain(|_, growth| at.since(growth.seen) < KEEP);
        for memory in snapshot.cgroups.iter().filter(|memory| !memory.users.is_empty()) {
            if self.growth.len() < MAX_CGROUPS || self.growth.contains_key(&memory.cgroup) {
                let (limit, anon, users) = (memory.limit, memory.anon, memory.users.clone());
                self.growth.insert(memory.cgroup.clone(), Growth { seen: at, limit, anon, users });
            }
        }
    }

    /// Whose growth of late took the memory of a cgroup that is full now, if anybody's was seen. Who took what was left
    /// since the last look was not.
    pub fn leaker(&self, now: BootTime, cgroup: &str) -> Option<&MemoryUser> {
        let growth = self.growth.get(cgroup)?;
        let most = most_grown(&growth.users, MemoryUser::grown_of_late)?;
        let since = now.since(growth.seen);
        let watched = most.watched_ms.clamp(1, RECENT_MS);
        let pace = u128::from(most.grown_lately) * since.as_millis() / u128::from(watched);
        let left = growth.limit.saturating_sub(growth.anon);
        let is_its = u128::from(left) <= 2 * pace + u128::from(growth.limit / UNSEEN_PART);
        let is_much = growth.limit / GROWN_PART <= most.grown_of_late();
        (since < GROWTH_IS_FRESH && is_much && is_its).then_some(most)
    }

    /// What `id` could not have for want of memory, shortly before.
    pub fn refused(&self, now: BootTime, id: ProcessId) -> Option<&Evidence> {
        let refused = self.about.get(&id)?.refused.as_deref();
        refused.filter(|evidence| now.since(evidence.at) <= REFUSAL_IS_FRESH)
    }

    /// The OOM choice that ended `id`, if one did.
    pub fn oom(&self, id: ProcessId) -> Option<&(BootTime, OomKill)> {
        self.about.get(&id)?.oom.as_ref()
    }

    /// The signal `number` that counts for `id`: the first SIGKILL, for nobody survives one; of others the last that
    /// was not ignored, as all are that come after a fatal one (`prepare_signal`, kernel/signal.c).
    pub fn signal(&self, id: ProcessId, number: i32) -> Option<&(BootTime, SignalSent)> {
        if number == libc::SIGKILL {
            return self.signals(id, number).next();
        }
        let last = self.signals(id, number).rfind(|(_, sent)| !sent.ignored);
        last.or_else(|| self.signals(id, number).next_back())
    }

    /// The one before the last of these that `id` sent to itself: it had caught that, and handed it on.
    pub fn caught_before(&self, id: ProcessId, number: i32) -> Option<&(BootTime, SignalSent)> {
        let mut latest = self.signals(id, number).rev();
        let (own, _) = latest.find(|(_, sent)| is_by(sent, id))?;
        let caught = latest.find(|(_, sent)| !is_by(sent, id) && !sent.ignored)?;
        (own.since(caught.0) <= HANDED_ON_WITHIN).then_some(caught)
    }

    fn signals(
        &self,
        id: ProcessId,
        number: i32,
    ) -> impl DoubleEndedIterator<Item = &(BootTime, SignalSent)> {
        let signals = self.about.get(&id).into_iter().flat_map(|about| &about.signals);
        signals.filter(move |(_, sent)| sent.signal == number)
    }

    /// The last signal of somebody else that asked `id` to stop, and was not ignored.
    pub fn asked_to_stop(&self, id: ProcessId) -> Option<&(BootTime, SignalSent)> {
        self.stops(id).find(|(_, sent)| !is_by(sent, id))
    }

    /// Latest first.
    fn stops(&self, id: ProcessId) -> impl Iterator<Item = &(BootTime, SignalSent)> {
        const STOPS: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP];
        let signals = self.about.get(&id).into_iter().flat_map(|about| about.signals.iter().rev());
        signals.filter(|(_, sent)| STOPS.contains(&sent.signal) && !sent.ignored)
    }

    /// It was told to stop, caught that, and ended as shells and init systems expect of it: 128 and the signal. After
    /// the word of whoever manages it, any end but by a fault is what was asked for.
    pub fn obeyed(&self, process: &Process, exit: Exit) -> bool {
        let as_expected = |sent: &SignalSent| exit.signal.is_none() && exit.code == 128 + sent.signal;
        let as_told = |sent: &SignalSent| {
            exit.signal.is_none_or(|signal| signal == sent.signal || signal == libc::SIGKILL)
        };
        // A JVM may stop itself so.
        self.stops(process.id()).next().is_some_and(|(_, sent)| as_expected(sent))
            || self.asked_to_stop(process.id()).is_some_and(|(_, sent)| {
                as_expected(sent) || (as_told(sent) && is_by_its_manager(process, sent))
            })
    }

    /// Whoever manages it has told it to stop, and no later than a stop lasts by default (systemd.service(5),
    /// TimeoutStopSec).
    pub fn is_told_to_stop(&self, now: BootTime, process: &Process) -> bool {
        let asked = self.asked_to_stop(process.id());
        asked.is_some_and(|(at, sent)| now.since(*at) < KEEP && is_by_its_manager(process, sent))
    }

    /// The kernel said that the process ignores this signal.
    pub fn ignores(&self, id: ProcessId, number: i32) -> bool {
        self.signals(id, number).next_back().is_some_and(|(_, sent)| sent.ignored)
    }

    /// How many processes the blow that struck `id` last has struck so far.
    pub fn struck_together(&self, id: ProcessId) -> usize {
        let blow = self.about.get(&id).and_then(|about| about.struck_by);
        blow.and_then(|blow| self.blows.get(&blow)).copied().unwrap_or(1)
    }

    /// Counts a signal that somebody sent to a whole process; one that hits the same process again is no news.
    fn blow(&mut self, at: BootTime, target: ProcessId, sent: &SignalSent) -> Option<Blow> {
        let sender = sent.sender.as_ref().filter(|_| sent.group)?.id;
        let group = if sent.aim == Aim::Everybody { 0 } else { sent.process_group };
        let key = (sender, sent.signal, sent.aim, group);
        let last =
            self.striking.get(&key).filter(|(last, _)| at.since(*last) <= GROUP_SPAN).map(|(_, blow)| *blow);
        let blow = last.unwrap_or_else(|| {
            self.next_blow += 1;
            Blow(self.next_blow)
        });
        if self.about.get(&target).and_then(|about| about.struck_by) != Some(blow) {
            *self.blows.entry(blow).or_default() += 1;
        }
        self.striking.insert(key, (at, blow));
        if self.blows.len() > MAX_REMEMBERED {
            self.blows.pop_first();
        }
        if self.striking.len() > MAX_SENDERS {
            self.striking.retain(|_, (last, _)| at.since(*last) <= GROUP_SPAN);
        }
        Some(blow)
    }

    /// Records lost since `from`.
    pub fn lost_since(&self, from: BootTime) -> u64 {
        self.losses.iter().filter(|(at, _)| *at >= from).map(|(_, count)| count).sum()
    }

    fn forget_old(&mut self, now: BootTime) {
        while let Some(&(at, id)) = self.order.front() {
            let is_full = self.order.len() > MAX_REMEMBERED;
            if now.since(at) < KEEP && !is_full {
                break;
            }
            self.order.pop_front();
            let touched = self.about.get(&id).map_or(at, |about| about.touched);
            if is_full || now.since(touched) >= KEEP {
                self.about.remove(&id);
            } else {
                self.order.push_back((touched, id));
            }
        }
        while self.losses.front().is_some_and(|(at, _)| now.since(*at) > 2 * KEEP) {
            self.losses.pop_front();
        }
    }
}
