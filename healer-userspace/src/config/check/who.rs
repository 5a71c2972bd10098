//! `match` and `avoid`: names in the form in which the engine compares them.

use std::collections::BTreeMap;

use super::super::{
    key::{At, Key, Many},
    policy::{Avoid, Who},
    problem::Fault,
    value::{ExactPath, Pattern},
};
use crate::engine::policy::Match;

/// `comm` is cut by the kernel (TASK_COMM_LEN is 16, with the final NUL).
const COMM_BYTES: usize = 15;

pub(super) fn read(who: &Key<Who>, faults: &mut Vec<Fault>) -> (Match, Vec<Match>) {
    let Some(who) = who.given() else {
        return (Match::default(), Vec::new());
    };
    let matches = of_who(who, faults);
    let avoid = who.value.avoid.value();
    let avoid = avoid.iter().flat_map(|avoid| &avoid.0).map(|at| of_avoid(at, faults)).collect();
    (matches, avoid)
}

/// Whether it may be that nothing says which process of those is the one that is to run.
pub(super) fn may_know_nobody(matches: &Match) -> bool {
    let Match { cgroups, comms, .. } = matches;
    let rest = Match { cgroups: Vec::new(), comms: Vec::new(), ..matches.clone() };
    let is_of_containers =
        |path: &String| ["/kubepods", "/docker", "/**", "**"].iter().any(|root| path.starts_with(root));
    let is_by_these = !cgroups.is_empty() || !comms.is_empty();
    is_by_these && rest == Match::default() && !cgroups.iter().any(is_of_containers)
}

macro_rules! to_match {
    ($function:ident, $shape:ty) => {
        fn $function(at: &At<$shape>, faults: &mut Vec<Fault>) -> Match {
            let shape = &at.value;
            Match {
                supervise: names(&shape.supervise),
                namespaces: names(&shape.namespaces),
                pod_labels: labels(&shape.pod_selector, "podSelector", faults),
                containers: names(&shape.container),
                container_labels: labels(&shape.container_labels, "containerLabels", faults),
                units: names(&shape.unit).into_iter().map(unit).collect(),
                exes: exes(&shape.exe),
                cgroups: cgroups(&shape.cgroup, faults),
                comms: comms(&shape.comm, faults),
            }
        }
    };
}

to_match!(of_who, Who);
to_match!(avoided, Avoid);

fn of_avoid(at: &At<Avoid>, faults: &mut Vec<Fault>) -> Match {
    // After another fault it may be empty only because its key could not be read.
    if at.value == Avoid::default() && faults.is_empty() {
        faults.push(Fault::new(at.place, "avoid: an empty item would leave out everybody"));
    }
    avoided(at, faults)
}

fn names(key: &Key<Many<Pattern>>) -> Vec<String> {
    key.value().iter().flat_map(|many| &many.0).map(|at| at.value.0.clone()).collect()
}

fn exes(key: &Key<Many<ExactPath>>) -> Vec<String> {
    key.value().iter().flat_map(|many| &many.0).map(|at| at.value.0.clone()).collect()
}

/// Types of units that have a cgroup, or whose name a user may give (systemd.unit(5)).
const UNIT_TYPES: [&str; 11] = [
    "service",
    "scope",
    "slice",
    "socket",
    "mount",
    "automount",
    "swap",
    "target",
    "timer",
    "path",
    "device",
];

/// As `systemctl` has it: a name whose end is no type of unit is a service, `php8.2-fpm` too.
pub(in crate::config) fn unit(name: String) -> String {
    let has_type =
        name.rsplit_once('.').is_some_and(|(_, end)| end.contains('*') || UNIT_TYPES.contains(&end));
    if has_type || name.ends_with('*') {
        return name;
    }
    format!("{name}.service")
}

fn cgroups(key: &Key<Many<Pattern>>, faults: &mut Vec<Fault>) -> Vec<String> {
    for at in key.value().iter().flat_map(|many| &many.0) {
        if !at.value.0.starts_with(['/', '*']) {
            let message = format!(
                "cgroup: {:?} starts with neither / nor *: the path below the cgroup mount is meant",
                at.value.0
            );
            faults.push(Fault::new(at.place, message));
        }
    }
    names(key)
}

fn comms(key: &Key<Many<Pattern>>, faults: &mut Vec<Fault>) -> Vec<String> {
    for at in key.value().iter().flat_map(|many| &many.0) {
        let name = &at.value.0;
        if name.len() > COMM_BYTES && !name.contains('*') {
            let cut: String = name
                .char_indices()
                .take_while(|(at, c)| at + c.len_utf8() <= COMM_BYTES)
                .map(|(_, c)| c)
                .collect();
            let message = format!("comm: {name:?} is never seen: the kernel cuts it to 15 bytes, {cut:?}");
            faults.push(Fault::new(at.place, message));
        }
    }
    names(key)
}

fn labels(key: &Key<BTreeMap<String, String>>, name: &str, faults: &mut Vec<Fault>) -> Vec<(String, String)> {
    let Some(given) = key.given() else {
        return Vec::new();
    };
    if given.value.is_empty() {
        faults.push(Fault::new(given.place, format!("{name}: no labels mean nothing: leave the key out")));
    }
    given.value.iter().map(|(label, value)| (label.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::unit;

    #[test]
    fn a_name_without_a_type_is_a_service() {
        for (given, meant) in [
            ("web", "web.service"),
            ("php8.2-fpm", "php8.2-fpm.service"),
            ("web@*", "web@*"),
            ("web.*", "web.*"),
            ("run-1.scope", "run-1.scope"),
            ("postgresql@15-main", "postgresql@15-main.service"),
        ] {
            assert_eq!(unit(given.to_owned()), meant);
        }
    }
}
