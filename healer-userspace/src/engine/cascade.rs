//! Whose fault it is in the end: from a workload that fails along what it uses to the deepest one that fails too.

use core::time::Duration;

use super::{
    Engine,
    class::{Certainty, Class},
    command::Command,
    detect::Subject,
    diagnosis::Diagnosis,
    incident::{Incident, Plan},
    policy::{
        Policy,
        choose::{self, Owner},
        depends::DependsOn,
    },
    safety,
    time::BootTime,
    world::Workload,
};
use crate::{
    identity::process::{Process, WorkloadKey},
    text,
};

/// Longer chains are no chains.
const DEPTH_MAX: usize = 16;

/// Two who fail of the same are not diagnosed in the same moment.
const SETTLES: Duration = Duration::from_secs(5);

/// Who uses whom does not change while an act is considered.
const FRESH: Duration = Duration::from_secs(1);

/// Why a workload fails that is itself in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The deepest failing workload of this node; `None`: it lies elsewhere.
    pub workload: Option<WorkloadKey>,
    pub says: String,
}

/// An edge that a policy draws.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    pub workload: WorkloadKey,
    pub on: DependsOn,
    /// `None`: nobody of that name is known here.
    pub server: Option<WorkloadKey>,
}

impl Engine {
    /// What `incident`'s workload fails for, beside itself. The incident that asks is out of the book meanwhile.
    pub(super) fn root_of(&self, now: BootTime, incident: &Incident) -> Option<Root> {
        if self.is_node_cut_off() {
            let says = "the whole node is cut off: no workload can be healed here".to_owned();
            return Some(Root { workload: None, says });
        }
        if self.is_cut_off(incident) {
            let says = format!("{} is cut off from its peers", text::printable(&incident.workload.0));
            return Some(Root { workload: None, says });
        }
        let path = self.path_from(now, incident)?;
        let end = path.last()?;
        let chain = path.iter().map(|key| text::printable(&key.0)).collect::<Vec<_>>().join(" uses ");
        let peer = self.dead_peer(end, incident);
        if path.len() == 1 {
            let says = format!("{chain} uses {}", peer?);
            return Some(Root { workload: None, says });
        }
        let says = match peer {
            Some(peer) => format!("{chain} uses {peer}"),
            None => format!("{chain}, which fails itself"),
        };
        Some(Root { workload: Some(end.clone()), says })
    }

    /// The kernel's counts of connections are read now and then only; before somebody is judged by them they are read
    /// anew. True: that comes first.
    pub(super) fn asks_who_uses_whom(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        plan: &mut Plan,
    ) -> bool {
        let is_fresh = incident.peers_asked.is_some_and(|at| now.since(at) < FRESH);
        if is_fresh || !safety::may_be_anothers_fault(plan.class) {
            return false;
        }
        incident.peers_asked = Some(now);
        self.out.commands.push_back(Command::LookAtPeers);
        plan.wake(now);
        true
    }

    /// The workload, and those below it that fail, down to the deepest. `None`: it is the root of a circle itself.
    fn path_from(&self, now: BootTime, incident: &Incident) -> Option<Vec<WorkloadKey>> {
        let mut path = vec![incident.workload.clone()];
        let is_young = now.since(incident.detected_at) < SETTLES;
        while let Some(last) = path.last().filter(|_| path.len() < DEPTH_MAX) {
            let used = self.used_by(last);
            let failing = used.iter().filter_map(|key| Some((self.failing_since(key)?, key)));
            let (inside, below): (Vec<_>, Vec<_>) = failing.partition(|(_, key)| path.contains(key));
            if let Some((_, next)) = below.iter().min() {
                path.push((*next).clone());
                continue;
            }
            if let Some(next) = used.iter().find(|key| is_young && self.uses_a_failing_one(key, &path)) {
                path.push(next.clone());
                continue;
            }
            let circle = inside.iter().filter_map(|(_, key)| path.iter().position(|one| one == *key)).min();
            let Some(from) = circle.filter(|from| *from + 1 < path.len()) else { break };
            let since = |key: &WorkloadKey| match *key == incident.workload {
                true => Some(incident.fault_at),
                false => self.failing_since(key),
            };
            let first = path[from..].iter().min_by_key(|key| since(key))?.clone();
            if first == incident.workload {
                return None;
            }
            path.truncate(from);
            path.push(first);
            break;
        }
        Some(path)
    }

    /// Its own failure may be a moment from being diagnosed.
    fn uses_a_failing_one(&self, workload: &WorkloadKey, path: &[WorkloadKey]) -> bool {
        let fails = |key: &WorkloadKey| !path.contains(key) && self.failing_since(key).is_some();
        !path.contains(workload) && self.used_by(workload).iter().any(fails)
    }

    /// By its connections, and by what its policy says.
    fn used_by(&self, workload: &WorkloadKey) -> Vec<WorkloadKey> {
        let seen = self.world.topology().servers_of(workload);
        let mut used: Vec<_> = seen.map(|(_, server)| server.workload.clone()).collect();
        used.extend(self.declared_by(workload).filter_map(|(_, server)| server));
        used.retain(|key| key != workload);
        used.sort_unstable();
        used.dedup();
        used
    }

    /// What policies say of who uses whom, with the workloads of this node that are meant.
    pub fn declared(&self) -> Vec<Declared> {
        if self.policies.policies.iter().all(|policy| policy.expect.depends_on.is_empty()) {
            return Vec::new();
        }
        let all = self.world.iter().map(|(workload, _)| workload);
        let edges = all.flat_map(|workload| {
            let of_it =
                self.declared_by(workload).filter(move |(_, server)| server.as_ref() != Some(workload));
            of_it.map(|(on, server)| Declared { workload: workload.clone(), on: on.clone(), server })
        });
        edges.collect()
    }

    /// Each with every workload that is meant; with `None` if there is none.
    fn declared_by(&self, workload: &WorkloadKey) -> impl Iterator<Item = (&DependsOn, Option<WorkloadKey>)> {
        let on = self.policy_of(workload).map(|policy| &policy.expect.depends_on);
        on.into_iter().flatten().flat_map(|on| {
            let meant = self.world.iter().map(|(key, _)| key).filter(|key| self.is_meant(on, key));
            let mut meant: Vec<_> = meant.map(|key| (on, Some(key.clone()))).collect();
            if meant.is_empty() {
                meant.push((on, None));
            }
            meant
        })
    }

    fn policy_of(&self, workload: &WorkloadKey) -> Option<&Policy> {
        let known = self.world.get(workload)?;
        let process = known.living.values().next().or(known.last_dead.as_ref())?;
        match choose::owner(&self.policies, process) {
            Owner::One(policy) => Some(policy),
            Owner::None | Owner::Clash(..) => None,
        }
    }

    fn is_meant(&self, on: &DependsOn, workload: &WorkloadKey) -> bool {
        let listens = |port| self.world.topology().listens_on(workload, port);
        on.is(workload) && on.port.and_then(listens) != Some(false)
    }

    /// Since when it is down, or something else is wrong with it than the way to it.
    pub(super) fn failing_since(&self, workload: &WorkloadKey) -> Option<BootTime> {
        let is_dead = self.world.get(workload).filter(|known| self.is_missed(known));
        let wrong = self.incidents.of(workload).filter(|one| one.active.values().any(counts));
        let since = wrong.map(|one| one.fault_at);
        since.chain(is_dead.map(|known| known.touched)).min()
    }

    /// Workloads that run now, or should.
    pub(super) fn followed(&self) -> usize {
        let is_followed = |workload: &Workload| !workload.living.is_empty() || self.is_missed(workload);
        self.world.iter().filter(|(_, workload)| is_followed(workload)).count()
    }

    /// Dead, and not because it had done its work.
    fn is_missed(&self, workload: &Workload) -> bool {
        let should_have_lived =
            |dead: &Process| workload.ended_badly(dead.id()) || choose::should_run(&self.policies, dead);
        workload.living.is_empty()
            && !workload.was_stopped()
            && workload.last_dead.as_ref().is_some_and(should_have_lived)
    }

    /// A peer of it that is down, in words.
    fn dead_peer(&self, workload: &WorkloadKey, asking: &Incident) -> Option<String> {
        let own = (asking.workload == *workload).then_some(asking);
        self.incidents.of(workload).chain(own).find_map(|one| {
            let Subject::Peer(_, _, address) = &one.subject else { return None };
            let diagnosis = one.active.get(&Class::DependencyFailure)?;
            // Its own clients suffer from it; it does not suffer from itself.
            let is_itself = diagnosis.related.iter().any(|server| server.workload == *workload);
            (is_about_the_peer(diagnosis) && !is_itself).then(|| {
                format!("{address}, which {}", diagnosis.detail.kind.as_deref().unwrap_or("is down"))
            })
        })
    }

    /// A restart mends no network. What answers the isolation itself is another thing.
    fn is_cut_off(&self, asking: &Incident) -> bool {
        let found = |one: &Incident| one.active.get(&Class::NetworkIsolation).is_some_and(counts);
        !found(asking) && self.incidents.of(&asking.workload).any(found)
    }

    /// All are held by it: a suspicion does not suffice.
    fn is_node_cut_off(&self) -> bool {
        self.incidents.values().any(|one| {
            let found = one.active.get(&Class::NetworkIsolation);
            found.is_some_and(|found| counts(found) && found.detail.kind.as_deref() == Some("node"))
        })
    }
}

/// Dead connections to a peer that is well are the client's own affair.
fn is_about_the_peer(diagnosis: &Diagnosis) -> bool {
    diagnosis.detail.kind.as_deref() != Some("stale")
}

/// Something that keeps it from serving others, and more than a suspicion.
fn counts(diagnosis: &Diagnosis) -> bool {
    let serves_all_the_same = matches!(diagnosis.class, Class::DegradedPath | Class::ZombieChildren);
    !serves_all_the_same && Certainty::Probable <= diagnosis.certainty
}
