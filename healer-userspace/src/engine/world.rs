//! What runs now: tracked workloads, their living main processes, who supervises them.

use core::time::Duration;
use std::collections::BTreeMap;

use super::{
    policy::{PolicySet, choose},
    time::BootTime,
    topology::Topology,
};
use crate::{
    identity::process::{Process, ProcessId, WorkloadKey},
    signal::{Exit, Fact, Registration, Signal},
};

/// Workloads remembered at most: the longest gone is forgotten first.
const MAX_WORKLOADS: usize = 4096;
/// A supervisor passes a signal on at once; on a stopped or starved machine it may take a while.
const PASSED_ON_FOR: Duration = Duration::from_secs(10);
/// Whoever lives that long after it was asked to stop has not taken it for that.
const STOPS_WITHIN: Duration = Duration::from_secs(600);
/// SIGQUIT stops nginx; of a JVM it asks for a list of its threads.
const QUITS_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct World {
    workloads: BTreeMap<WorkloadKey, Workload>,
    /// Where each of the living is: it may be called something else by now.
    homes: BTreeMap<ProcessId, WorkloadKey>,
    topology: Topology,
}

#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// Main processes alive now; empty = down.
    pub living: BTreeMap<ProcessId, Process>,
    pub last_dead: Option<Process>,
    pub supervisor: Option<Registration>,
    /// Since when an end was asked for, and by which signal.
    stop: Option<(BootTime, i32)>,
    /// A signal that the supervisor got and passes on: a stop if the child dies of it, else a reload.
    pub passed_on: Option<(BootTime, i32)>,
    /// Abnormal ends seen so far, of those who lived as its own: a helper that fails is none of them.
    pub abnormal_ends: u32,
    /// Its owner runs it as a job.
    pub is_meant_to_end: bool,
    /// A supervisor may tell again of an end that the kernel has told.
    last_abnormal: Option<ProcessId>,
    pub touched: BootTime,
}

impl Workload {
    fn died_of_what_was_passed_on(&self, at: BootTime, exit: &Exit) -> bool {
        let passed_on = self.passed_on.filter(|(when, _)| at.since(*when) <= PASSED_ON_FOR);
        passed_on.is_some_and(|(_, signal)| exit.signal == Some(signal))
    }

    /// Its end, if it has one, was asked for.
    pub fn is_stopping(&self, now: BootTime) -> bool {
        let is_late = |(at, signal): (BootTime, i32)| {
            let within = if signal == libc::SIGQUIT { QUITS_WITHIN } else { STOPS_WITHIN };
            within <= now.since(at)
        };
        self.stop.is_some_and(|stop| self.living.is_empty() || !is_late(stop))
    }

    /// It is dead, as it was asked to be.
    pub fn was_stopped(&self) -> bool {
        self.living.is_empty() && self.stop.is_some()
    }

    /// It is dead, and was asked to stop only then.
    pub fn was_stopped_since(&self, at: BootTime) -> bool {
        self.living.is_empty() && self.stop.is_some_and(|(when, _)| at <= when)
    }

    pub fn ended_badly(&self, id: ProcessId) -> bool {
        self.last_abnormal == Some(id)
    }

    /// The youngest living main process that is not `except`.
    pub fn successor(&self, except: ProcessId) -> Option<&Process> {
        self.living
            .values()
            .filter(|process| process.id() != except && process.start >= except.start)
            .max_by_key(|process| process.start)
    }
}

/// A pid whose every end, and every start of whose children, the kernel must report, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    Track(ProcessId),
    /// For its children's sake only.
    Watch(ProcessId),
    Untrack(ProcessId),
}

impl World {
    pub fn get(&self, key: &WorkloadKey) -> Option<&Workload> {
        self.workloads.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&WorkloadKey, &Workload)> {
        self.workloads.iter()
    }

    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    pub fn is_living(&self, key: &WorkloadKey, id: ProcessId) -> bool {
        self.get(key).is_some_and(|workload| workload.living.contains_key(&id))
    }

    /// The workload in which it lives, whatever it is called by now.
    pub(super) fn home_of(&self, id: ProcessId) -> Option<&WorkloadKey> {
        self.homes.get(&id)
    }

    pub fn is_main(&self, id: ProcessId) -> bool {
        self.homes.contains_key(&id)
    }

    /// Takes one signal in; says whose ends the kernel must now report.
    pub fn update(&mut self, now: BootTime, signal: &Signal, policies: &PolicySet) -> Option<Tracking> {
        self.topology.follow(signal);
        let process = signal.process.as_ref()?;
        match &signal.fact {
            Fact::Execed => self.appeared(now, process, policies),
            Fact::Registered(registration) => self.registered(now, process, registration),
            Fact::Exited(exit) => {
                let workload = self.workloads.get_mut(&process.workload)?;
                workload.touched = now;
                if !workload.is_stopping(signal.at) {
                    workload.stop = None;
                }
                workload.living.remove(&process.id())?;
                if exit.is_abnormal() && workload.last_abnormal != Some(process.id()) {
                    workload.abnormal_ends += 1;
                    workload.last_abnormal = Some(process.id());
                }
                self.homes.remove(&process.id());
                if workload.died_of_what_was_passed_on(signal.at, exit) {
                    workload.stop = Some((signal.at, libc::SIGTERM));
                }
                workload.last_dead = Some(process.clone());
                Some(Tracking::Untrack(process.id()))
            }
            Fact::StopAsked { signal: by } => {
                self.entry(now, &process.workload).stop = Some((signal.at, *by));
                None
            }
            Fact::MeantToEnd => {
                self.entry(now, &process.workload).is_meant_to_end = true;
                None
            }
            Fact::Deregistered => {
                self.entry(now, &process.workload).supervisor = None;
                None
            }
            Fact::SignalSent(sent) => {
                self.signalled(process.id(), signal.at, sent.signal);
                None
            }
            Fact::OomKilled(_)
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
            | Fact::Lost { .. } => None,
        }
    }

    /// The kernel tells of a signal to a supervisor before the child can die of it; the supervisor's own word
    /// comes over a socket and may be late.
    fn signalled(&mut self, target: ProcessId, at: BootTime, signal: i32) {
        let is_theirs = |workload: &&mut Workload| {
            workload.supervisor.as_ref().is_some_and(|registration| registration.supervisor == target)
        };
        for workload in self.workloads.values_mut().filter(is_theirs) {
            match signal {
                libc::SIGTERM | libc::SIGINT => workload.stop = Some((at, signal)),
                libc::SIGHUP | libc::SIGQUIT | libc::SIGUSR1 | libc::SIGUSR2 => {
                    workload.passed_on = Some((at, signal));
                }
                _other => {}
            }
        }
    }

    /// An earlier life of the agent knew that it is dead: whoever follows is its successor.
    pub(super) fn remember_dead(&mut self, now: BootTime, dead: &Process) {
        self.entry(now, &dead.workload).last_dead = Some(dead.clone());
    }

    fn appeared(&mut self, now: BootTime, process: &Process, policies: &PolicySet) -> Option<Tracking> {
        let goes_on = self.get(&process.workload).is_some_and(|known| !known.living.is_empty());
        // A container that was known by its id has a name now: the same process, another workload. Or it has become
        // another program, which nobody cares for.
        self.leaves(process.id());
        if !choose::tracked(policies, process) {
            return None;
        }
        self.homes.insert(process.id(), process.workload.clone());
        let workload = self.entry(now, &process.workload);
        workload.stop = None;
        // A unit may have become another one of that name. A job's second program is the same job.
        workload.is_meant_to_end &= goes_on;
        workload.living.insert(process.id(), process.clone());
        Some(Tracking::Track(process.id()))
    }

    /// Its runtime has told more of the container, such as a name of the image: still the same process and workload.
    pub(super) fn described(&mut self, process: &Process) {
        let home = self.homes.get(&process.id()).and_then(|home| self.workloads.get_mut(home));
        if let Some(living) = home.and_then(|workload| workload.living.get_mut(&process.id())) {
            living.place.container.clone_from(&process.place.container);
        }
    }

    fn leaves(&mut self, id: ProcessId) {
        if let Some(workload) = self.homes.remove(&id).and_then(|home| self.workloads.get_mut(&home)) {
            workload.living.remove(&id);
        }
    }

    fn registered(
        &mut self,
        now: BootTime,
        child: &Process,
        registration: &Registration,
    ) -> Option<Tracking> {
        // The child of a supervisor that was killed may live on: it has lost the name.
        let before = self.get(&child.workload).map(|workload| workload.living.keys().copied().collect());
        let before: Vec<_> = before.unwrap_or_default();
        before.into_iter().for_each(|id| self.leaves(id));
        if registration.waiting.is_none() {
            self.leaves(child.id());
            self.homes.insert(child.id(), child.workload.clone());
        }
        let workload = self.entry(now, &child.workload);
        workload.supervisor = Some(registration.clone());
        if registration.waiting.is_some() {
            workload.last_dead = Some(child.clone());
            return None;
        }
        workload.stop = None;
        workload.passed_on = None;
        workload.living.insert(child.id(), child.clone());
        Some(Tracking::Track(child.id()))
    }

    fn entry(&mut self, now: BootTime, key: &WorkloadKey) -> &mut Workload {
        if !self.workloads.contains_key(key) && self.workloads.len() >= MAX_WORKLOADS {
            self.forget_longest_gone();
        }
        let workload = self.workloads.entry(key.clone()).or_default();
        workload.touched = now;
        workload
    }

    fn forget_longest_gone(&mut self) {
        let gone = self
            .workloads
            .iter()
            .filter(|(_, workload)| workload.living.is_empty() && workload.supervisor.is_none())
            .min_by_key(|(_, workload)| workload.touched)
            .map(|(key, _)| key.clone());
        if let Some(key) = gone {
            self.workloads.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::process::{Container, Place};

    fn of_image(image: &str) -> Process {
        let container = Container { id: "c".to_owned(), image: image.to_owned(), ..Container::default() };
        let place = Place { container: Some(container), ..Place::default() };
        let workload = WorkloadKey::supervise("web");
        Process { pid: 7, start: BootTime(1), main: true, workload, place, ..Process::default() }
    }

    #[test]
    fn whose_image_has_a_name_later_is_the_same_process() {
        let (mut world, named) = (World::default(), of_image("web:1"));
        world.described(&named);
        assert!(!world.is_main(named.id()), "nobody appears by it");
        let at = BootTime(2);
        let execed = Signal { at, process: Some(of_image("sha256:2f1c")), fact: Fact::Execed };
        world.update(at, &execed, &PolicySet::default());
        world.described(&named);
        let living = &world.get(&named.workload).unwrap().living;
        assert_eq!(living.values().collect::<Vec<_>>(), [&named]);
    }
}
