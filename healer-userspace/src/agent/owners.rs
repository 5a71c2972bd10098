//! What systemd and Docker tell of their workloads: identity first, then the same door as any signal.

use super::Agent;
use crate::{
    clock,
    engine::world::Workload,
    identity::process::{Container, Place, Process, WorkloadKey},
    runtimes::{Learnt, Owner},
    signal::{Exit, Fact, Signal},
};

impl Agent {
    pub(super) fn learnt(&mut self, learnt: Learnt) {
        match learnt {
            Learnt::Named(container) => self.named(container),
            Learnt::Runs { owner, pid } => self.runs(&owner, pid),
            Learnt::StopAsked { owner } => self.stop_asked(&owner),
            Learnt::Failed { owner, pid, exit } => self.given_up(&owner, pid, exit),
        }
    }

    /// Asks the owners for what a signal leaves open.
    pub(super) fn consult_owners(&self, signal: &Signal) {
        let Some(process) = &signal.process else { return };
        if let Some(container) =
            process.place.container.as_ref().filter(|container| container.name.is_empty())
        {
            self.owners.ask_container(container);
        }
        if let (Some(unit), Fact::Exited(_)) = (&process.place.unit, &signal.fact) {
            self.owners.look_at_unit(unit);
        }
    }

    fn named(&mut self, container: Container) {
        let id = container.id.clone();
        self.identity.describe(container, None);
        let of_it = |process: &&Process| {
            process.main && process.place.container.as_ref().is_some_and(|container| container.id == id)
        };
        let mains: Vec<_> = self.identity.processes().filter(of_it).cloned().collect();
        for main in mains {
            self.appears(main);
        }
    }

    fn runs(&mut self, owner: &Owner, pid: u32) {
        let Some(process) = self.identity.of_pid(pid) else { return };
        if !is_of(owner, &process.place) {
            tracing::debug!("pid {pid} is not in {owner:?}, as its owner says");
            return;
        }
        self.identity.set_main(process.id());
        if let Some(process) = self.identity.of_id(process.id()) {
            self.appears(process);
        }
    }

    /// The engine hears of a main process once under each name.
    fn appears(&mut self, process: Process) {
        if !self.engine.world().is_living(&process.workload, process.id()) {
            self.observe(&Signal { at: clock::boot(), process: Some(process), fact: Fact::Execed });
        }
    }

    fn stop_asked(&mut self, owner: &Owner) {
        let Some((_, workload)) = self.workload_of(owner) else { return };
        let Some(process) = somebody(workload).cloned() else { return };
        let fact = Fact::StopAsked { signal: libc::SIGTERM };
        self.observe(&Signal { at: clock::boot(), process: Some(process), fact });
    }

    /// The end was lost, or came before healer did: told now as what the owner says it was.
    fn given_up(&mut self, owner: &Owner, pid: u32, exit: Exit) {
        let at = clock::boot();
        let gone = match self.workload_of(owner) {
            Some((_, workload)) => workload.living.values().cloned().collect(),
            // It has never run: there is no death to tell of.
            None if pid == 0 => Vec::new(),
            None => {
                let stranger = stranger(owner, pid);
                self.observe(&Signal { at, process: Some(stranger.clone()), fact: Fact::Execed });
                vec![stranger]
            }
        };
        for process in gone {
            self.observe(&Signal { at, process: Some(process), fact: Fact::Exited(exit) });
        }
    }

    fn workload_of(&self, owner: &Owner) -> Option<(&WorkloadKey, &Workload)> {
        let is_it =
            |workload: &Workload| somebody(workload).is_some_and(|process| is_of(owner, &process.place));
        self.engine.world().iter().find(|(_, workload)| is_it(workload))
    }
}

fn somebody(workload: &Workload) -> Option<&Process> {
    workload.living.values().next().or(workload.last_dead.as_ref())
}

fn is_of(owner: &Owner, place: &Place) -> bool {
    match owner {
        Owner::Unit(unit) => place.unit.as_ref() == Some(unit),
        Owner::Container { id, .. } => place.container.as_ref().is_some_and(|container| container.id == *id),
    }
}

/// Dead before it was ever seen: all that is known is what the owner says. It starts now, so that its pid here,
/// if anybody has it, is somebody else.
fn stranger(owner: &Owner, pid: u32) -> Process {
    let (name, place) = match owner {
        Owner::Unit(unit) => (unit, Place { unit: Some(unit.clone()), ..Place::default() }),
        Owner::Container { runtime, id } => {
            let container = Container { runtime: runtime.clone(), id: id.clone(), ..Container::default() };
            (id, Place { container: Some(container), ..Place::default() })
        }
    };
    Process {
        pid,
        start: clock::boot(),
        comm: name.chars().take(15).collect(),
        workload: WorkloadKey::of(&place, name, "", ""),
        main: true,
        place,
        ..Process::default()
    }
}
