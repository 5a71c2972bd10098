//! Once a second: does work wait for the tracked processes, and do they get to do it?
//!
//! Nothing tracked: nothing is read. Nothing waits: one dump of the sockets of each namespace in which a tracked
//! process has any, and one line of pressure. Threads are looked at only where somebody waits or lacks the CPU.

mod asking;
mod cpu_users;
mod ledger;
mod limits;
mod member;
mod namespaces;

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::{
    clock,
    engine::time::BootTime,
    identity::process::{Process, ProcessId},
    sense::poll::cpu::{Kept, pressure_total_us},
    signal::work::{Hope, Life, Unanswered, Unseen, Work, WorkSnapshot},
};
use asking::Asking;
use cpu_users::CpuUsers;
use ledger::{UNANSWERED_MIN, WORTH_SAYING, Waiting};
use limits::Limits;
use member::Member;
pub use member::life;
pub(crate) use member::life_by;
use namespaces::Namespaces;

/// Of the time, what some task of the node must have waited for a CPU before anybody can be starved.
const CONTENDED_PERCENT: u32 = 10;
/// A thread that waited so long for a CPU is worth a word.
const DELAY_WORTH_SAYING: Duration = Duration::from_millis(100);

/// A tracked process.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    pub process: Process,
    /// Its probe fails: say how it is in any case.
    pub asked: bool,
}

/// A tracked process and its descendants: what one of them answers, all have answered.
struct Family {
    members: Vec<u32>,
    /// Somebody waits for one of them long enough for a word.
    waits: bool,
    accepted: bool,
    answered: bool,
}

impl Family {
    fn of(members: Vec<u32>, waiting: &BTreeMap<u32, Waiting>) -> Self {
        let any = |is: fn(&Waiting) -> bool| members.iter().filter_map(|pid| waiting.get(pid)).any(is);
        let (waits, accepted) = (any(Waiting::is_worth_saying), any(|one| one.accepted));
        let answered = any(|one| one.answered);
        Self { members, waits, accepted, answered }
    }
}

/// Boot time runs on while the machine sleeps, and then nobody does.
const SUSPENDED: Duration = Duration::from_secs(2);

/// Remembers the look before.
pub struct WorkPoller {
    proc: PathBuf,
    cgroup: PathBuf,
    pressure: Option<Kept>,
    pressed_us: Option<u64>,
    looked: Option<BootTime>,
    suspended: Duration,
    namespaces: Namespaces,
    members: BTreeMap<u32, Member>,
    limits: BTreeMap<ProcessId, Limits>,
    cpu_users: CpuUsers,
}

impl WorkPoller {
    /// `proc` is `/proc`, `cgroup` is `/sys/fs/cgroup`.
    pub fn new(proc: &Path, cgroup: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            cgroup: cgroup.to_owned(),
            pressure: Kept::open(&proc.join("pressure/cpu")),
            pressed_us: None,
            looked: None,
            suspended: clock::suspended(),
            namespaces: Namespaces::new(proc),
            members: BTreeMap::new(),
            limits: BTreeMap::new(),
            cpu_users: CpuUsers::new(proc),
        }
    }

    /// One look. The first of a process says nothing: there is no look before.
    pub fn look(&mut self, watched: &[Watched]) -> WorkSnapshot {
        let now = clock::boot();
        if self.suspended + SUSPENDED < clock::suspended() {
            // Nobody answered while the machine slept: everybody is met anew.
            *self = Self::new(&self.proc, &self.cgroup);
        }
        let wall = self.looked.replace(now).map_or(Duration::ZERO, |before| now.since(before));
        let is_contended = self.is_contended(wall);
        let sockets = self.namespaces.look(now, watched);
        let mut asking = Asking::new(&self.proc);
        let mut processes = Vec::new();
        let mut looked_at = BTreeSet::new();
        for one in watched {
            let limits = self
                .limits
                .entry(one.process.id())
                .or_insert_with(|| Limits::of(now, &self.proc, &self.cgroup, one.process.pid));
            limits.refresh(now, &self.proc, one.process.pid);
            let throttled = limits.look();
            let family = Family::of(self.namespaces.family(one.process.pid), &sockets.waiting);
            for &pid in &family.members {
                let waits = sockets.waiting.get(&pid).filter(|waiting| family.waits && waiting.is_any());
                if !(is_contended || waits.is_some() || one.asked || throttled.is_some()) {
                    continue;
                }
                looked_at.insert(pid);
                let member = self.members.entry(pid).or_default();
                let Some(look) = member.look(&self.proc, pid, now) else {
                    continue;
                };
                let lacks_cpu = DELAY_WORTH_SAYING <= look.delay;
                if waits.is_none() && !one.asked && !lacks_cpu && throttled.is_none() {
                    continue;
                }
                let mut work = work(&one.process, pid, &look, sockets.waiting.get(&pid));
                if work.runs == 0 && member::is_runnable(&self.proc, pid) {
                    // The kernel counts a wait for the CPU when it is over.
                    work.delay_ms = millis(wall);
                }
                (work.accepted, work.answered) = (family.accepted, family.answered);
                work.throttled.clone_from(&throttled);
                processes.push(self.finish(&mut asking, work));
            }
        }
        self.members.retain(|pid, _| looked_at.contains(pid));
        let kept: BTreeSet<_> = watched.iter().map(|one| one.process.id()).collect();
        self.limits.retain(|id, _| kept.contains(id));
        let lacking =
            processes.iter().any(|work| DELAY_WORTH_SAYING.as_millis() <= u128::from(work.delay_ms));
        let busiest = if lacking { self.cpu_users.look(now) } else { Vec::new() };
        WorkSnapshot { wall_ms: millis(wall), processes, busiest, unseen: unseen(watched, &sockets.trouble) }
    }

    /// Without the numbers of the kernel: always.
    fn is_contended(&mut self, wall: Duration) -> bool {
        let total = self.pressure.as_ref().and_then(Kept::read).as_deref().and_then(pressure_total_us);
        let Some(total) = total else {
            return true;
        };
        let before = self.pressed_us.replace(total).unwrap_or(total);
        let waited = Duration::from_micros(total.saturating_sub(before));
        wall * CONTENDED_PERCENT / 100 < waited
    }

    fn hope(&self, asking: &mut Asking, member: &Member, work: &Work) -> Option<Hope> {
        let unread = work.unread.iter().chain(&work.unix.unread).map(|unread| unread.oldest_ms);
        let mut requests = unread.chain(work.unanswered.iter().map(|some| some.oldest_ms));
        let waits = |tid: u32| asking.waits_for_somebody(work.pid, tid);
        // Who is stopped goes on when somebody lets it.
        let is_free = work.condition == Life::Free;
        if is_free && requests.any(may_have_hope) && member.only_thread().is_some_and(waits) {
            return Some(Hope::Peer);
        }
        let is_late = |some: &Unanswered| UNANSWERED_MIN <= some.sockets && may_have_hope(some.oldest_ms);
        let are_late = work.unanswered.as_ref().is_some_and(is_late);
        (are_late && member.sleeps_for_a_time(&self.proc, work.pid)).then_some(Hope::Timer)
    }

    fn finish(&self, asking: &mut Asking, mut work: Work) -> Work {
        let path = self.proc.join(format!("{}/comm", work.pid));
        work.comm = std::fs::read_to_string(path).unwrap_or_default().trim_end().to_owned();
        if work.runs == 0 {
            work.condition = member::life(&self.proc, &self.cgroup, work.pid);
        }
        let member = self.members.get(&work.pid);
        if work.hope.is_none() && !work.moved {
            work.hope = member.and_then(|member| self.hope(asking, member, &work));
        }
        let late = work.unanswered.as_ref().filter(|some| UNANSWERED_MIN <= some.sockets);
        if let Some(oldest) = late.map(|some| Duration::from_millis(some.oldest_ms))
            && work.unread.is_none()
            && work.condition == Life::Free
        {
            work.at_its_loop =
                member.is_some_and(|member| member.is_at_its_loop(&self.proc, work.pid, oldest));
        }
        work
    }
}

/// A client waits long enough for a word, and not too long for hope.
fn may_have_hope(oldest_ms: u64) -> bool {
    (WORTH_SAYING..=Hope::LASTS).contains(&Duration::from_millis(oldest_ms))
}

fn unseen(watched: &[Watched], trouble: &BTreeMap<u32, String>) -> Vec<Unseen> {
    let unseen = |one: &Watched| {
        let says = trouble.get(&one.process.pid)?;
        Some(Unseen { process: one.process.clone(), says: format!("its sockets: {says}") })
    };
    watched.iter().filter_map(unseen).collect()
}

fn work(process: &Process, pid: u32, look: &member::Look, waiting: Option<&Waiting>) -> Work {
    let waiting = waiting.cloned().unwrap_or_default();
    Work {
        process: process.clone(),
        pid,
        comm: String::new(),
        condition: Life::Free,
        threads: look.threads,
        ran_ms: millis(look.ran),
        runs: look.runs,
        spinning: look.spinning,
        delay_ms: millis(look.delay),
        moved: waiting.moved,
        accepted: waiting.accepted,
        answered: waiting.answered,
        shares: waiting.shares,
        unread: waiting.unread,
        backlog: waiting.backlog,
        unanswered: waiting.unanswered,
        throttled: None,
        rested: look.runs == 0 && look.sees_all,
        unix: waiting.unix,
        hope: waiting.asks.then_some(Hope::Peer),
        at_its_loop: false,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
