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

/// As `systemctl` has it: a name without a suffix is a service.
fn unit(name: String) -> String {
    if name.contains('.') || name.ends_with('*') {
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
