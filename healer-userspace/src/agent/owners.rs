//! What systemd and the container runtimes tell of their workloads: identity first, then the same door as any signal.

use super::Agent;
use crate::{
    clock,
    engine::{
        policy::{Protect, choose},
        world::Workload,
    },
    identity::process::{Container, Place, Pod, Process, WorkloadKey},
    runtimes::{Learnt, Owner},
    signal::{Exit, Fact, OomKill, Party, Signal},
};

impl Agent {
    pub(super) fn learnt(&mut self, learnt: Learnt) {
        match learnt {
            Learnt::Named(container, pod) => self.named(*container, pod),
            Learnt::Controlled { uid, controller } => self.identity.control(&uid, &controller),
            Learnt::Nameless { id } => {
                let waited = self.unnamed.nameless(clock::boot(), &id);
                self.let_go(waited);
            }
            Learnt::Ended { id, exit } => self.unnamed.ended(&id, exit),
            Learnt::Runs { owner, pid } => self.runs(&owner, pid),
            Learnt::StopAsked { owner } => self.tell_of(&owner, Fact::StopAsked { signal: libc::SIGTERM }),
            Learnt::MeantToEnd { owner } => self.tell_of(&owner, Fact::MeantToEnd),
            Learnt::Failed { owner, pid, exit } => self.given_up(&owner, pid, &[Fact::Exited(exit)]),
            Learnt::FoundDead { owner, exit, oom_killed } => self.found_dead(&owner, exit, oom_killed),
        }
    }

    /// Asks the owners for what a signal leaves open.
    pub(super) fn consult_owners(&mut self, signal: &Signal) {
        let Some(process) = &signal.process else { return };
        if is_lost_in_a_container(process, &signal.fact) {
            self.owners.look_for_containers();
        }
        if let Some(container) = &process.place.container
            && (container.name.is_empty() || (process.main && matches!(signal.fact, Fact::Exited(_))))
        {
            self.owners.ask_container(container);
            if process.main && matches!(signal.fact, Fact::Exited(_)) {
                self.unnamed.note_end(&container.id);
            }
        }
        if self.is_stopped_by_its_runtime(process, &signal.fact)
            || self.is_stopped_by_its_manager(process, &signal.fact)
        {
            let by = if let Fact::SignalSent(sent) = &signal.fact { sent.signal } else { libc::SIGTERM };
            let fact = Fact::StopAsked { signal: by };
            self.observe(&Signal { at: signal.at, process: Some(process.clone()), fact });
        }
        if let (Some(unit), Fact::Exited(_)) = (&process.place.unit, &signal.fact) {
            self.owners.look_at_unit(unit);
        }
    }

    /// Of the units that a policy names systemd itself tells. Of another, whose program a policy names, the kernel
    /// does: the manager's own hand sent the signal. So it is with any other manager that has it as its child.
    fn is_stopped_by_its_manager(&self, process: &Process, fact: &Fact) -> bool {
        let Fact::SignalSent(sent) = fact else { return false };
        let parent = process.parent.as_ref().map(|parent| parent.pid);
        // A master that lets one of its workers go stops nothing.
        let workload = self.engine.world().get(&process.workload);
        let is_master =
            |pid: u32| workload.is_some_and(|known| known.living.keys().any(|living| living.pid == pid));
        let is_manager = |pid: u32| {
            (pid == 1 && process.place.unit.is_some())
                || (Some(pid) == parent && pid != std::process::id() && !is_master(pid))
        };
        let is_by_manager = sent.sender.as_ref().is_some_and(|sender| is_manager(sender.id.pid));
        let is_named = || match choose::owner(self.engine.policies(), process) {
            choose::Owner::One(policy) => !policy.matches.units.is_empty(),
            choose::Owner::None | choose::Owner::Clash(..) => true,
        };
        process.place.container.is_none()
            && process.place.supervise.is_none()
            && !sent.ignored
            && is_by_manager
            && matches!(sent.signal, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT)
            && self.engine.world().is_living(&process.workload, process.id())
            && !is_named()
    }

    /// The CRI tells nobody that a stop was asked for, and not every runtime is asked. The kernel tells: the runtime's own
    /// hand sent the signal. Whatever the reason, a rollout or a failed liveness probe, it is the owner's business.
    fn is_stopped_by_its_runtime(&mut self, process: &Process, fact: &Fact) -> bool {
        const STOPS: [i32; 4] = [libc::SIGTERM, libc::SIGKILL, libc::SIGINT, libc::SIGQUIT];
        let Fact::SignalSent(sent) = fact else { return false };
        let Some(sender) = sent.sender.as_ref().filter(|_| process.main && STOPS.contains(&sent.signal))
        else {
            return false;
        };
        process.place.container.is_some() && {
            let known = self.identity.of_id(sender.id);
            is_hand(process, sender, known.as_ref(), &self.engine.policies().protect)
        }
    }

    fn named(&mut self, container: Container, pod: Option<Pod>) {
        let id = container.id.clone();
        let owner = Owner::Container { runtime: container.runtime.clone(), id: id.clone() };
        self.identity.describe(container, pod);
        let waited = self.unnamed.named(&id);
        self.let_go(waited);
        if let Some(exit) = self.unnamed.unseen_end(&id) {
            self.given_up(&owner, 0, &[Fact::Exited(exit)]);
        }
        let of_it = |process: &&Process| {
            process.main && process.place.container.as_ref().is_some_and(|container| container.id == id)
        };
        let mains: Vec<_> = self.identity.processes().filter(of_it).cloned().collect();
        for main in mains {
            self.appears(main);
        }
    }

    /// Of somebody in a container that has no name yet, and whose name is on its way: its life may be shorter than the
    /// question, and what happened to it belongs to what a person calls it.
    pub(super) fn waits_for_its_name(&mut self, signal: &Signal) -> bool {
        let process = signal.process.as_ref();
        let Some(container) = process.and_then(|process| process.place.container.as_ref()) else {
            return false;
        };
        let now = clock::boot();
        container.name.is_empty()
            && !self.unnamed.is_nameless(now, &container.id)
            && self.owners.ask_container(container)
            && self.unnamed.keep(now, &container.id, signal)
    }

    /// Whoever has waited long enough.
    pub(super) fn let_the_late_go(&mut self) {
        let late = self.unnamed.late(clock::boot());
        self.let_go(late);
    }

    fn let_go(&mut self, waited: Vec<Signal>) {
        for mut signal in waited {
            let known = signal.process.as_ref().and_then(|process| self.identity.of_id(process.id()));
            let is_main = signal.process.as_ref().is_some_and(|process| process.main);
            signal.process = known.or(signal.process);
            if let Some(process) = signal.process.as_mut().filter(|_| is_main) {
                process.main = true;
                // Its whole life was over before anybody knew whose it was.
                self.appears(process.clone());
            }
            self.observe(&signal);
        }
    }

    fn runs(&mut self, owner: &Owner, pid: u32) {
        // The owner's word may be older than the kernel's: the dead are no successors of themselves.
        let Some(process) = self.identity.of_living_pid(pid) else { return };
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
        if self.engine.world().is_living(&process.workload, process.id()) {
            self.engine.described(&process);
        } else {
            self.observe(&Signal { at: clock::boot(), process: Some(process), fact: Fact::Execed });
        }
    }

    fn tell_of(&mut self, owner: &Owner, fact: Fact) {
        let Some((_, workload)) = self.workload_of(owner) else { return };
        let Some(process) = somebody(workload).cloned() else { return };
        self.observe(&Signal { at: clock::boot(), process: Some(process), fact });
    }

    /// The end was lost, or came before healer did: told now as what the owner says it was.
    fn given_up(&mut self, owner: &Owner, pid: u32, facts: &[Fact]) {
        if matches!(owner, Owner::Container { id, .. } if self.unnamed.is_over(id)) {
            return;
        }
        let at = clock::boot();
        let gone = match self.workload_of(owner) {
            // Its word may be about the one before: who runs has not ended.
            Some((_, workload)) => {
                let living = workload.living.values();
                living.filter(|one| !self.identity.is_running(one.id())).cloned().collect()
            }
            // It has never run: there is no death to tell of.
            None if pid == 0 && matches!(owner, Owner::Unit(_)) => Vec::new(),
            None => {
                let stranger = self.stranger(owner, pid);
                self.observe(&Signal { at, process: Some(stranger.clone()), fact: Fact::Execed });
                vec![stranger]
            }
        };
        for process in gone {
            for fact in facts {
                self.observe(&Signal { at, process: Some(process.clone()), fact: fact.clone() });
            }
        }
    }

    /// The dead of long ago lie on many a machine: only those that a policy wants to run are anybody's business.
    fn found_dead(&mut self, owner: &Owner, exit: Exit, oom_killed: bool) {
        let is_wanted = || choose::should_run(self.engine.policies(), &self.stranger(owner, 0));
        if self.workload_of(owner).is_none() && !is_wanted() {
            return;
        }
        let killed = oom_killed.then(|| Fact::OomKilled(OomKill::untold()));
        let facts: Vec<Fact> = killed.into_iter().chain([Fact::Exited(exit)]).collect();
        self.given_up(owner, 0, &facts);
    }

    fn stranger(&self, owner: &Owner, pid: u32) -> Process {
        match owner {
            Owner::Unit(unit) => stranger(unit, pid, Place { unit: Some(unit.clone()), ..Place::default() }),
            Owner::Container { runtime, id } => {
                let nameless = Container { runtime: runtime.clone(), id: id.clone(), ..Container::default() };
                let (container, pod) = self.identity.container(id).unwrap_or((nameless, None));
                let name = if container.name.is_empty() { id.clone() } else { container.name.clone() };
                stranger(&name, pid, Place { container: Some(container), pod, ..Place::default() })
            }
        }
    }

    fn workload_of(&self, owner: &Owner) -> Option<(&WorkloadKey, &Workload)> {
        let is_it =
            |workload: &Workload| somebody(workload).is_some_and(|process| is_of(owner, &process.place));
        self.engine.world().iter().find(|(_, workload)| is_it(workload))
    }
}

/// Its cgroup is removed some 15 ms after PID 1: whose it was only the runtime can tell.
fn is_lost_in_a_container(process: &Process, fact: &Fact) -> bool {
    const SHIMS: [&str; 2] = ["containerd-shim", "conmon"];
    let is_shim = |comm: &str| SHIMS.iter().any(|shim| comm.starts_with(shim));
    process.cgroup.is_empty()
        && matches!(fact, Fact::Exited(exit) if exit.is_abnormal())
        && process.parent.as_ref().is_some_and(|parent| is_shim(&parent.comm))
}

/// Outside of the container, and the parent of its first process or a child of that one: a shim, or who sends signals
/// for it. Or a runtime by its file. Who is gone before it can be looked up has to be known by root's word for its name.
/// Containers of one pod have one shim, and init's children are anybody's: neither makes a neighbour the runtime.
fn is_hand(process: &Process, sender: &Party, known: Option<&Process>, protect: &Protect) -> bool {
    /// Low-level runtimes; they live short, and run from a sealed copy.
    const HANDS: [&str; 5] = ["runc", "crun", "youki", "runsc", "containerd-shim"];
    let id = |process: &Process| process.place.container.as_ref().map(|container| container.id.clone());
    let by_name = || sender.uid == 0 && HANDS.iter().any(|hand| sender.comm.starts_with(hand));
    let Some(known) = known else {
        return by_name();
    };
    let shim = process.parent.as_ref().map(|parent| parent.pid);
    let parent = known.parent.as_ref().map(|parent| parent.pid).filter(|parent| *parent != 1);
    let is_of_shim = Some(known.pid) == shim || (parent.is_some() && parent == shim);
    let encloses = |outer: &String| process.cgroup.contains(outer.as_str());
    let is_outside = id(known) != id(process) && id(known).as_ref().is_none_or(encloses);
    let is_shims_hand = shim.is_some() && is_of_shim && sender.uid == 0;
    let is_runtime = known.exe.as_ref().is_some_and(|exe| protect.exes.contains(exe));
    is_outside && (is_shims_hand || (id(known).is_none() && (by_name() || is_runtime)))
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
fn stranger(name: &str, pid: u32, place: Place) -> Process {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::process::Parent;

    /// Started by 5, in the container of that id.
    fn process(pid: u32, id: Option<&str>) -> Process {
        let container = id.map(|id| Container { id: id.to_owned(), ..Container::default() });
        let parent = Some(Parent { pid: 5, ..Parent::default() });
        Process { pid, parent, place: Place { container, ..Place::default() }, ..Process::default() }
    }

    fn by(uid: u32, comm: &str) -> Party {
        Party { uid, comm: comm.to_owned(), ..Party::default() }
    }

    #[test]
    fn who_dies_with_its_container_is_lost_in_it() {
        let lost = |comm: &str, cgroup: &str, code| {
            let parent = Some(Parent { pid: 5, comm: comm.to_owned(), ..Parent::default() });
            let dead = Process { parent, cgroup: cgroup.to_owned(), ..process(7, None) };
            is_lost_in_a_container(&dead, &Fact::Exited(Exit { code, ..Exit::default() }))
        };
        assert!(lost("containerd-shim", "", 3) && lost("conmon", "", 3));
        assert!(!lost("containerd-shim", "/kubepods/a", 3), "its group is known");
        assert!(!lost("containerd-shim", "", 0), "it has not failed");
        assert!(!lost("make", "", 3), "in no container");
    }

    #[test]
    fn the_hand_of_a_runtime_is_known_by_where_it_stands() {
        let protect = Protect { units: Vec::new(), exes: vec!["/usr/bin/dockerd".to_owned()] };
        let web = process(7, Some("web"));
        let is_hand = |sender: &Party, known: Option<&Process>| is_hand(&web, sender, known, &protect);
        let stranger =
            |id| Process { parent: Some(Parent { pid: 1, ..Parent::default() }), ..process(9, id) };

        assert!(is_hand(&by(0, "runc:[1:CHILD]"), None), "root's word, nothing else is left of it");
        assert!(is_hand(&by(0, "any"), Some(&process(9, None))), "the shim started it too");
        let inner = Process { cgroup: "/docker/outer/docker/web".to_owned(), ..web.clone() };
        let outer = process(9, Some("outer"));
        assert!(super::is_hand(&inner, &by(0, "any"), Some(&outer), &protect), "a runtime in a container");
        assert!(is_hand(&by(0, "conmon"), Some(&Process { pid: 5, ..stranger(None) })), "the parent itself");
        assert!(is_hand(&by(0, "crun"), Some(&stranger(None))));
        let dockerd = Process { exe: Some("/usr/bin/dockerd".to_owned()), ..stranger(None) };
        assert!(is_hand(&by(0, "dockerd"), Some(&dockerd)));

        assert!(!is_hand(&by(0, "runc"), Some(&process(9, Some("web")))), "its own root, by docker exec");
        assert!(!is_hand(&by(0, "runc"), Some(&stranger(Some("other")))), "a neighbour that imitates");
        assert!(!is_hand(&by(0, "any"), Some(&process(9, Some("sidecar")))), "of the same pod, and shim");
        let orphan = Process { parent: Some(Parent { pid: 1, ..Parent::default() }), ..web.clone() };
        let daemon = stranger(None);
        assert!(!super::is_hand(&orphan, &by(0, "any"), Some(&daemon), &protect), "init has many children");
        assert!(!is_hand(&by(1000, "runc"), None), "not root");
        assert!(!is_hand(&by(1000, "any"), Some(&process(9, None))));
        assert!(!is_hand(&by(0, "bash"), Some(&stranger(None))), "somebody on the node");
        assert!(!is_hand(&by(0, "bash"), None));
    }
}
