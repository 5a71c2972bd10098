//! Successors of programs that a policy names by their executable.
//!
//! The key of such a workload holds its parent's name, and a successor may have another parent: healer, a shell. It
//! is of the workload all the same, or the dead one would stay down for ever.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    policy::{
        PolicySet,
        choose::{self, Owner},
    },
    world::{Workload, World},
};
use crate::{
    identity::process::{Process, ProcessId, WorkloadKey},
    signal::{Fact, Signal},
};

const REMEMBERED: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Adopted(BTreeMap<ProcessId, WorkloadKey>);

impl Adopted {
    /// The signal as the engine is to see it: whoever was adopted has the workload of the one it follows.
    pub(super) fn name<'a>(
        &mut self,
        signal: &'a Signal,
        world: &World,
        policies: &PolicySet,
    ) -> Cow<'a, Signal> {
        let Some(process) = &signal.process else {
            return Cow::Borrowed(signal);
        };
        if matches!(signal.fact, Fact::Execed)
            && let Some(workload) = followed(process, world, policies)
            && self.0.len() < REMEMBERED
        {
            self.0.insert(process.id(), workload);
        }
        let mut known = self.0.get(&process.id()).cloned();
        if known.is_none() && matches!(signal.fact, Fact::Exited(_)) {
            // Its supervisor is gone, or somebody has moved it to another cgroup, since it appeared.
            known = world.home_of(process.id()).filter(|home| **home != process.workload).cloned();
        }
        if matches!(signal.fact, Fact::Exited(_)) {
            self.0.remove(&process.id());
        }
        let Some(workload) = known else {
            return Cow::Borrowed(signal);
        };
        let process = Some(Process { workload, ..process.clone() });
        Cow::Owned(Signal { process, ..signal.clone() })
    }
}

/// The workload without a living process whose last one ran the same executable under the same policy.
fn followed(process: &Process, world: &World, policies: &PolicySet) -> Option<WorkloadKey> {
    let is_its_own = |workload: &Workload| !workload.living.is_empty() || workload.last_dead.is_some();
    if process.main || world.get(&process.workload).is_some_and(is_its_own) {
        return None;
    }
    let Owner::One(policy) = choose::owner(policies, process) else {
        return None;
    };
    if policy.matches.exes.is_empty() {
        return None;
    }
    let is_followed = |dead: &Process| {
        !dead.main
            // Who has a unit or a container of its own is followed there.
            && WorkloadKey::named(&dead.place).is_none()
            && dead.exe == process.exe
            && dead.start < process.start
            && choose::owner(policies, dead) == Owner::One(policy)
    };
    let mut orphans = world.iter().filter(|(_, workload)| {
        workload.living.is_empty() && workload.last_dead.as_ref().is_some_and(is_followed)
    });
    orphans.next().map(|(key, _)| key.clone())
}
