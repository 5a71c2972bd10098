//! Who runs and who does not, by `/proc`: for what the kernel's records could not say.

use core::time::Duration;

use super::Agent;
use crate::{
    clock,
    engine::{
        policy::{PolicySet, choose},
        time::BootTime,
        world::World,
    },
    identity::{
        Identity,
        process::{Process, ProcessId, TICK_NS},
    },
    signal::{Exit, Fact, SeenBy, Signal},
    text::printable,
};

/// By then a record that was on its way has come.
const LOOKS_AFTER: Duration = Duration::from_secs(1);
const DOUBTS_MAX: usize = 1024;

/// What `/proc` is to be asked for a second later.
#[derive(Default)]
pub(super) struct Doubts {
    /// An end with status 0 before the kernel knew that it is tracked was not told.
    tracked: Vec<(BootTime, ProcessId)>,
    /// Ended well: it may have left a child to go on in its place, and a fork is not told.
    left: Vec<(BootTime, Process)>,
    /// Were gone a look ago. Their records may have lain unread then, and have been read since.
    gone: Vec<ProcessId>,
}

impl Doubts {
    pub(super) fn tracked(&mut self, now: BootTime, id: ProcessId) {
        if self.tracked.len() < DOUBTS_MAX {
            self.tracked.push((now, id));
        }
    }

    fn left(&mut self, now: BootTime, process: &Process) {
        if self.left.len() < DOUBTS_MAX {
            self.left.push((now, process.clone()));
        }
    }
}

fn take_due<T>(from: &mut Vec<(BootTime, T)>, now: BootTime) -> Vec<T> {
    let due = from.extract_if(.., |(at, _)| LOOKS_AFTER <= now.since(*at));
    due.map(|(_, what)| what).collect()
}

impl Agent {
    /// Whoever runs and is tracked by the policies in force is known to the engine from now on, as if it had just
    /// begun.
    pub(super) fn meet_everybody(&mut self) {
        let now = clock::boot();
        self.identity.scan(now);
        let newcomers = newcomers(&self.identity, self.engine.policies(), self.engine.world());
        self.introduce(now, newcomers);
    }

    /// The records of their ends are lost: a dead main process must not pass for a living one. False if the end of
    /// some is known and not told yet.
    pub(super) fn bury_the_gone(&mut self, now: BootTime) -> bool {
        let mut missing = self.identity.missing();
        // Not all are lost: of whoever is gone by now the record is in the rings, if there is one.
        self.read_records();
        let is_awaited = |id: &ProcessId| self.sense.awaits_end_of(id.pid) || self.unnamed.holds_end_of(*id);
        let is_over = missing.extract_if(.., |id| is_awaited(id)).count() == 0;
        let gone = gone(&self.identity, self.engine.world());
        self.bury(now, gone.into_iter().filter(|process| missing.contains(&process.id())).collect());
        missing.into_iter().for_each(|id| self.identity.bury(id));
        is_over
    }

    pub(super) fn doubt(&mut self, signal: &Signal) {
        if let (Fact::Exited(exit), Some(process)) = (&signal.fact, &signal.process)
            && may_leave_a_child(process, exit)
            && choose::tracked(self.engine.policies(), process)
        {
            self.doubts.left(clock::boot(), process);
        }
    }

    /// What was in doubt a second ago.
    pub(super) fn look_again(&mut self, now: BootTime) {
        let tracked = take_due(&mut self.doubts.tracked, now);
        let before = core::mem::take(&mut self.doubts.gone);
        if !tracked.is_empty() || !before.is_empty() {
            let gone = gone(&self.identity, self.engine.world());
            let just_now = gone.iter().map(Process::id).filter(|id| tracked.contains(id));
            self.doubts.gone = just_now.collect();
            self.bury(now, gone.into_iter().filter(|process| before.contains(&process.id())).collect());
        }
        let mut left = take_due(&mut self.doubts.left, now);
        left.retain(|dead| is_missed(self.engine.world(), dead));
        if !left.is_empty() {
            self.identity.scan(now);
            let newcomers = newcomers(&self.identity, self.engine.policies(), self.engine.world());
            self.introduce(now, those_left(&left, newcomers));
        }
    }

    /// `server[17] is running under policy web`; nothing of whom no policy owns.
    pub(super) fn who_lives(&mut self, pid: u32) -> Option<String> {
        let process = self.identity.of_pid(pid)?;
        let under = match choose::owner(self.engine.policies(), &process) {
            choose::Owner::One(policy) => format!("policy {}", policy.name),
            choose::Owner::Clash(one, other) => {
                format!("policies {} and {}, of which neither may act", one.name, other.name)
            }
            choose::Owner::None => return None,
        };
        Some(format!("{}[{pid}] is running under {under}", printable(&process.comm)))
    }

    fn introduce(&mut self, now: BootTime, newcomers: Vec<Process>) {
        for process in newcomers {
            self.observe(&Signal { at: now, process: Some(process), fact: Fact::Execed });
        }
    }

    fn bury(&mut self, now: BootTime, gone: Vec<Process>) {
        for process in gone {
            self.identity.bury(process.id());
            let exit = Exit { seen_by: SeenBy::NoStatus, ..Exit::default() };
            self.observe(&Signal { at: now, process: Some(process), fact: Fact::Exited(exit) });
        }
    }
}

/// Of those that nobody tracked, the ends with status 0 were not told: who is known need not be alive. A server's
/// workers do not stand for it: they live on for a while when it is killed, and end when it reloads.
fn newcomers(identity: &Identity, policies: &PolicySet, world: &World) -> Vec<Process> {
    let is_news = |process: &&Process| {
        choose::tracked(policies, process)
            && !world.is_living(&process.workload, process.id())
            && identity.is_running(process.id())
            && (process.main || !identity.is_worker(process))
    };
    identity.processes().filter(is_news).cloned().collect()
}

/// Main processes of the engine's that do not run.
fn gone(identity: &Identity, world: &World) -> Vec<Process> {
    let living = world.iter().flat_map(|(_, workload)| workload.living.values());
    living.filter(|process| !identity.is_running(process.id())).cloned().collect()
}

/// A daemon's first process forks and ends with status 0. Who was killed leaves workers, which are no successors.
fn may_leave_a_child(process: &Process, exit: &Exit) -> bool {
    !process.main && !exit.is_abnormal()
}

/// Its workload has nobody in its place.
fn is_missed(world: &World, dead: &Process) -> bool {
    let is_last = |last: &Process| last.id() == dead.id();
    world.iter().any(|(_, one)| one.living.is_empty() && one.last_dead.as_ref().is_some_and(is_last))
}

/// Those that may be what the dead have left: the same program, and no older.
fn those_left(dead: &[Process], newcomers: Vec<Process>) -> Vec<Process> {
    let tick = |process: &Process| process.start.0 / TICK_NS;
    let by_whom = |mut process: Process| {
        let before = dead.iter().find(|dead| dead.exe == process.exe && tick(dead) <= tick(&process))?;
        if tick(before) == tick(&process) {
            // `/proc` has whole ticks, rounded down; a child is younger than its parent.
            process.start = process.start.max(before.start + Duration::from_nanos(1));
        }
        Some(process)
    };
    newcomers.into_iter().filter_map(by_whom).collect()
}

#[cfg(test)]
pub(super) mod tests;
