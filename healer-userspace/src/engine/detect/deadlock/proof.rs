//! What proves a deadlock: the lock graph of its core, as `detail.proof` and as a sentence.

use core::{cmp::Reverse, time::Duration};
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    cores::in_order,
    graph::{Grade, Graph},
};
use crate::{
    engine::{
        certificate::of_whom,
        class::{Certainty, Class},
        policy::{PolicySet, choose},
        time::{BootTime, Human},
    },
    identity::process::{Process, ProcessId},
    signal::waits::{Owner, Source, Task, Wait, WaitKind, WaitingProcess},
    text,
};

/// Threads named in a sentence at most.
const MAX_NAMED: usize = 5;

/// The threads of one core in the order in which they wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub certainty: Certainty,
    pub shape: Shape,
    pub threads: Vec<Link>,
    /// Threads outside the core that wait for it, directly or not.
    pub behind: u32,
    pub processes: Vec<WaitingProcess>,
}

/// A thread and the wait that keeps it in the core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub task: Task,
    pub wait: Wait,
    /// Each of them alone explains the wait.
    pub sources: BTreeSet<Source>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Threads that wait for each other.
    Cycle,
    /// A thread that waits for itself.
    SelfLock,
    /// The holder has exited.
    OrphanedLock,
    /// Every thread of a process is parked, and nobody else can wake one.
    ClosedWorld,
}

impl Shape {
    /// As in a diagnosis's `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cycle => "cycle",
            Self::SelfLock => "self_lock",
            Self::OrphanedLock => "orphaned_lock",
            Self::ClosedWorld => "closed_world",
        }
    }
}

impl Proof {
    pub fn new(
        graph: &Graph<'_>,
        core: &BTreeSet<u32>,
        dead: &BTreeSet<u32>,
        proved: &BTreeSet<u32>,
    ) -> Self {
        let link = |tid: u32| {
            let (task, wait) = (graph.task(tid)?, graph.chosen(tid, core)?);
            Some(Link { task: task.clone(), wait: wait.clone(), sources: graph.sources(tid, dead) })
        };
        let threads: Vec<Link> = in_order(graph, core).into_iter().filter_map(link).collect();
        let tgids: BTreeSet<u32> = threads.iter().map(|link| link.task.tgid).collect();
        Self {
            certainty: if core.is_subset(proved) { Certainty::Proved } else { Certainty::Probable },
            shape: shape(&threads),
            behind: behind(graph, core, dead),
            processes: tgids.iter().filter_map(|tgid| graph.process(*tgid).cloned()).collect(),
            threads,
        }
    }

    /// Same threads, same locks, same owners, and nobody has run: two equal ones confirm each other.
    pub fn is_same_moment_as(&self, other: &Self) -> bool {
        let key = |link: &Link| {
            let Link { task, wait, .. } = link;
            (task.tid, task.start, task.switches, wait.lock.clone(), wait.word, wait.owners.clone())
        };
        self.threads.iter().map(key).eq(other.threads.iter().map(key))
    }

    /// How long the last of the threads has waited.
    pub fn waited(&self) -> Duration {
        let youngest = self.threads.iter().map(|link| link.task.waited_ms).min();
        Duration::from_millis(youngest.unwrap_or(0))
    }

    pub fn sources(&self) -> BTreeSet<Source> {
        self.threads.iter().flat_map(|link| link.sources.iter().copied()).collect()
    }

    /// The process whose end costs least: of those that the policies let be healed, one that comes back by itself, then
    /// the youngest.
    pub fn cheapest(&self, policies: &PolicySet) -> Option<&Process> {
        let cost = |process: &&Process| {
            let ready = choose::readiness(policies, process, Class::Deadlock);
            (Reverse(ready), process.place.is_empty(), Reverse(process.start))
        };
        self.processes.iter().map(|one| &one.process).min_by_key(cost)
    }

    /// Names threads by tid and start, so that a later proof can be compared.
    pub fn members(&self) -> BTreeSet<(u32, BootTime)> {
        self.threads.iter().map(|link| (link.task.tid, link.task.start)).collect()
    }

    /// Processes of the core, by pid and start.
    pub fn ids(&self) -> Vec<ProcessId> {
        self.processes.iter().map(|one| one.process.id()).collect()
    }

    /// One line with numbers.
    pub fn sentence(&self, target: &Process) -> String {
        let subject = of_whom(target);
        let head = match (self.shape, self.threads.len()) {
            (Shape::ClosedWorld, _) => return format!("{subject}: {}{}", self.closed_world(), self.rest()),
            (Shape::SelfLock | Shape::OrphanedLock, _) => String::new(),
            (Shape::Cycle, count) => format!("{count} threads wait for each other: "),
        };
        let mut says = String::new();
        for (index, link) in self.threads.iter().take(MAX_NAMED).enumerate() {
            let by = self.owner_of(index);
            let wait = &link.wait;
            let waited = Human(Duration::from_millis(link.task.waited_ms));
            let thread = if index == 0 { name(&link.task) } else { ", which".to_owned() };
            let what = [wait.kind.phrase(), wait.lock.as_str(), by.as_str()];
            let what: Vec<&str> = what.into_iter().filter(|word| !word.is_empty()).collect();
            says += &format!("{thread} waits {waited} {}", what.join(" "));
        }
        if self.threads.len() > MAX_NAMED {
            says += &format!(", and so on through {} more", self.threads.len() - MAX_NAMED);
        }
        format!("{subject}: {head}{says}{}", self.rest())
    }

    fn rest(&self) -> String {
        match self.behind {
            0 => String::new(),
            1 => "; 1 more thread waits behind them".to_owned(),
            more => format!("; {more} more threads wait behind them"),
        }
    }

    fn closed_world(&self) -> String {
        let waited = Human(self.waited());
        let processes = self.processes.len();
        let threads: u32 = self.processes.iter().map(|one| one.threads).sum();
        let wakers: BTreeSet<_> = self.processes.iter().flat_map(|one| &one.wakers).cloned().collect();
        let wakers: Vec<_> = wakers.into_iter().collect();
        let but = if wakers.is_empty() { String::new() } else { format!(" (except: {})", wakers.join(", ")) };
        match (threads, processes) {
            (1, _) => format!("its only thread waits {waited} for a wake-up that nobody can give{but}"),
            (_, 1) => {
                format!("all {threads} threads wait, the last for {waited}: nobody is left to wake them{but}")
            }
            _ => format!(
                "all {threads} threads of {processes} processes wait, the last for {waited}: nobody is left to wake them{but}"
            ),
        }
    }

    /// Who holds what the thread at `index` waits for.
    fn owner_of(&self, index: usize) -> String {
        let link = &self.threads[index];
        let next = &self.threads[(index + 1) % self.threads.len()].task;
        match (self.shape, link.wait.owners.first()) {
            (Shape::SelfLock, _) => format!("that {}", ends_it(link.wait.kind)),
            (_, Some(Owner::Gone(tid))) => format!("held by thread {tid}, which has exited"),
            (Shape::Cycle | Shape::OrphanedLock | Shape::ClosedWorld, _) => match link.wait.kind {
                WaitKind::Join | WaitKind::Vfork | WaitKind::Child => name(next),
                WaitKind::PipeWrite | WaitKind::SocketWrite => format!("read by {}", name(next)),
                WaitKind::PipeRead | WaitKind::SocketRead => format!("written by {}", name(next)),
                WaitKind::Lock => format!("apparently held by {}", name(next)),
                WaitKind::Mutex
                | WaitKind::RobustMutex
                | WaitKind::PiMutex
                | WaitKind::Rwlock
                | WaitKind::Wakeup
                | WaitKind::Flock
                | WaitKind::PosixLock
                | WaitKind::OfdLock
                | WaitKind::KernelLock => format!("held by {}", name(next)),
            },
        }
    }
}

fn ends_it(kind: WaitKind) -> &'static str {
    match kind {
        WaitKind::PipeWrite | WaitKind::SocketWrite => "it alone reads",
        WaitKind::PipeRead | WaitKind::SocketRead => "it alone writes",
        WaitKind::Mutex
        | WaitKind::RobustMutex
        | WaitKind::PiMutex
        | WaitKind::Rwlock
        | WaitKind::Lock
        | WaitKind::Wakeup
        | WaitKind::Join
        | WaitKind::Flock
        | WaitKind::PosixLock
        | WaitKind::OfdLock
        | WaitKind::KernelLock
        | WaitKind::Vfork
        | WaitKind::Child => "it holds itself",
    }
}

fn name(task: &Task) -> String {
    format!("{}[{}]", text::printable(&task.comm), task.tid)
}

fn shape(threads: &[Link]) -> Shape {
    let is_closed = |link: &Link| link.wait.source == Source::ClosedWorld;
    let is_gone = |link: &Link| link.wait.owners.iter().any(|owner| matches!(owner, Owner::Gone(_)));
    if threads.iter().any(is_gone) {
        Shape::OrphanedLock
    } else if threads.iter().any(is_closed) {
        Shape::ClosedWorld
    } else if threads.len() == 1 {
        Shape::SelfLock
    } else {
        Shape::Cycle
    }
}

/// Dead threads outside `core` whose chain leads into it; the unlisted ones of its processes as well.
fn behind(graph: &Graph<'_>, core: &BTreeSet<u32>, dead: &BTreeSet<u32>) -> u32 {
    let mut inside = core.clone();
    loop {
        let waits_for_inside = |tid: &&u32| {
            let wait = graph.chosen(**tid, dead);
            let mut owners = wait.iter().flat_map(|wait| &wait.owners);
            owners.any(|owner| graph.threads_of(*owner).iter().any(|thread| inside.contains(thread)))
        };
        let more: Vec<u32> =
            dead.iter().filter(|tid| !inside.contains(tid)).filter(waits_for_inside).copied().collect();
        if more.is_empty() {
            break;
        }
        inside.extend(more);
    }
    (inside.len() - core.len()) as u32
}

/// Every core of the snapshot, the sure ones with certainty `proved`.
pub fn proofs(graph: &Graph<'_>) -> Vec<Proof> {
    let dead = graph.dead(Grade::Any);
    let proved = graph.dead(Grade::Proof);
    super::cores::cores(graph, &dead).iter().map(|core| Proof::new(graph, core, &dead, &proved)).collect()
}
