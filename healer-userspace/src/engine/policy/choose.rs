//! Which policy owns a process: the most specific match, or nobody where two are equally specific.

use std::collections::BTreeMap;

use super::{Match, Mode, Policy, PolicySet, glob};
use crate::{engine::class::Class, identity::process::Process};

/// Whose policy a process is under.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Owner<'a> {
    One(&'a Policy),
    None,
    /// Equally specific: nothing is done, and both are named.
    Clash(&'a Policy, &'a Policy),
}

/// Finds the owner by the most specific key that matches (supervise name, pod selector, container, unit,
/// exe, cgroup, comm), then by the next; in one key an exact name outranks a glob.
pub fn owner<'a>(set: &'a PolicySet, process: &Process) -> Owner<'a> {
    let mut best = Owner::None;
    let mut best_rank = None;
    for policy in &set.policies {
        let Some(rank) = rank(policy, process) else {
            continue;
        };
        if best_rank.is_none_or(|best| rank > best) {
            (best, best_rank) = (Owner::One(policy), Some(rank));
        } else if best_rank == Some(rank)
            && let Owner::One(first) = best
        {
            best = Owner::Clash(first, policy);
        }
    }
    best
}

/// The main process of a workload, or one whose exact executable a policy names.
pub fn tracked(set: &PolicySet, process: &Process) -> bool {
    let named = |policy: &Policy| {
        let exe = process.exe.as_ref();
        exe.is_some_and(|exe| policy.matches.exes.contains(exe)) && rank(policy, process).is_some()
    };
    process.main || set.policies.iter().any(named)
}

/// Is a living process the desired state? `healer supervise` implies it, unless the policy says otherwise.
pub fn expects_running(policy: &Policy, process: &Process) -> bool {
    policy.expect.running.unwrap_or(process.place.supervise.is_some())
}

/// By the policy that owns it, if one does.
pub fn should_run(policies: &PolicySet, process: &Process) -> bool {
    match owner(policies, process) {
        Owner::One(policy) => expects_running(policy, process),
        Owner::None | Owner::Clash(..) => process.place.supervise.is_some(),
    }
}

/// A unit's or container's main process whose policy speaks of `down` without saying which of them should run: until
/// it ended, it did. What a pod wants of its containers is the kubelet's to know.
pub fn was_to_run_on(policies: &PolicySet, process: &Process) -> bool {
    let place = &process.place;
    let is_owned = process.main && place.pod.is_none() && (place.unit.is_some() || place.container.is_some());
    let is_denied =
        matches!(owner(policies, process), Owner::One(policy) if policy.expect.running == Some(false));
    is_owned && !is_denied && readiness(policies, process, Class::Down).is_some()
}

/// How far healing may go when `class` is found of this process: the mode of the policy that owns it, if a rule of
/// its speaks of the class; `None` if nobody would do anything.
pub fn readiness(set: &PolicySet, process: &Process, class: Class) -> Option<Mode> {
    let Owner::One(policy) = owner(set, process) else {
        return None;
    };
    let is_protected = set.protect.covers(process);
    let speaks = policy.rules.iter().flat_map(|rule| &rule.when).any(|condition| condition.class == class);
    (speaks && !is_protected).then(|| effective_mode(policy, set.mode_cap))
}

/// The policy's mode under the administrator's cap.
pub fn effective_mode(policy: &Policy, cap: Option<Mode>) -> Mode {
    cap.map_or(policy.mode, |cap| policy.mode.min(cap))
}

/// One number for each key, most specific key first; 0 where the match does not use the key.
type Rank = [u8; 7];

/// None if the policy does not cover the process.
fn rank(policy: &Policy, process: &Process) -> Option<Rank> {
    let rank = rank_of(&policy.matches, process)?;
    let avoided = policy.avoid.iter().any(|avoid| rank_of(avoid, process).is_some());
    (!avoided).then_some(rank)
}

fn rank_of(matches: &Match, process: &Process) -> Option<Rank> {
    let place = &process.place;
    let (pod, container) = (place.pod.as_ref(), place.container.as_ref());
    let namespace = named(&matches.namespaces, pod.map(|pod| pod.namespace.as_str()))?;
    let pod_labels = labelled(&matches.pod_labels, pod.map(|pod| &pod.labels))?;
    let container_labels = labelled(&matches.container_labels, container.map(|container| &container.labels))?;
    let container = named(&matches.containers, container.map(|container| container.name.as_str()))?;
    Some([
        named(&matches.supervise, place.supervise.as_deref())?,
        LABELS * pod_labels + namespace,
        LABELS * container_labels + container,
        named(&matches.units, place.unit.as_deref())?,
        exactly(&matches.exes, process.exe.as_deref())?,
        named(&matches.cgroups, Some(&process.cgroup))?,
        named(&matches.comms, Some(&process.comm))?,
    ])
}

const UNUSED: u8 = 0;
const BY_GLOB: u8 = 1;
const EXACT: u8 = 2;
/// Labels outweigh a name beside them in the same rank.
const LABELS: u8 = 3;

fn named(patterns: &[String], name: Option<&str>) -> Option<u8> {
    if patterns.is_empty() {
        return Some(UNUSED);
    }
    let name = name.filter(|name| !name.is_empty())?;
    let hit = |pattern: &String| match glob::is_glob(pattern) {
        true => glob::matches(pattern, name).then_some(BY_GLOB),
        false => (pattern == name).then_some(EXACT),
    };
    patterns.iter().filter_map(hit).max()
}

fn exactly(names: &[String], name: Option<&str>) -> Option<u8> {
    if names.is_empty() {
        return Some(UNUSED);
    }
    names.iter().any(|known| Some(known.as_str()) == name).then_some(EXACT)
}

fn labelled(wanted: &[(String, String)], labels: Option<&BTreeMap<String, String>>) -> Option<u8> {
    if wanted.is_empty() {
        return Some(UNUSED);
    }
    let labels = labels?;
    let all = wanted.iter().all(|(label, value)| labels.get(label) == Some(value));
    all.then_some(1)
}

#[cfg(test)]
mod tests;
