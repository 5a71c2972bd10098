//! What a reversible rung turns: only its own keys, and bounds that make sense.

use super::{
    super::{
        key::{At, Key},
        policy as shape,
        problem::Fault,
        value::{Percent, Quantity},
    },
    period,
};
use crate::engine::policy::{ActionName, Terms};

const LONGEST: core::time::Duration = core::time::Duration::from_secs(24 * 3600);

pub(super) fn read(at: &At<shape::Rung>, action: ActionName, faults: &mut Vec<Fault>) -> Terms {
    let shape = &at.value;
    keys(shape, action, faults);
    let terms = Terms {
        undo_after: shape.undo_after.given().map(|_| undo_after(shape, faults)),
        memory_high: percent(&shape.memory_high, "memoryHigh", 1..=99, faults),
        cpu: percent(&shape.cpu, "cpu", 1..=100_000, faults),
        cpu_weight: number(&shape.cpu_weight, "cpuWeight", 1..=10_000, faults),
        by: percent(&shape.by, "by", 1..=1000, faults),
        memory_max: shape.memory_max.value().map(|Quantity(bytes)| *bytes),
        pids_max: number(&shape.pids_max, "pidsMax", 1..=4_194_304, faults).map(u64::from),
        open_files: number(&shape.open_files, "openFiles", 1..=1_073_741_816, faults).map(u64::from),
        oom_score_adj: number(&shape.oom_score_adj, "oomScoreAdj", -999..=1000, faults),
        condition: shape.condition.given().map(|given| condition(given, faults)),
        taint: shape.taint.given().map(|given| taint(given, faults)),
        past_budget: shape.respect_pdb.value() == Some(&false),
        without_controller: shape.without_controller.value() == Some(&true),
        wanted: None,
    };
    let extent = terms.cpu.or(terms.cpu_weight).or(terms.memory_high);
    let bound = terms.memory_max.or(terms.pids_max).or(terms.open_files);
    let missing = if action == ActionName::Throttle && extent.is_none() {
        Some("throttle needs one of cpu, cpuWeight and memoryHigh: how far it goes is the policy's to say")
    } else if action == ActionName::RaiseLimit && bound.is_none() {
        Some("raise_limit needs one of memoryMax, pidsMax and openFiles: a bound that it never exceeds")
    } else if action == ActionName::Condition && shape.condition.is_absent() {
        Some("condition needs the type of the condition, such as condition: WorkloadStuck")
    } else {
        None
    };
    if let Some(missing) = missing.filter(|_| is_silent(shape)) {
        faults.push(Fault::new(at.place, missing));
    }
    terms
}

/// What could not be read is told already.
fn is_silent(shape: &shape::Rung) -> bool {
    let shape::Rung { cpu, cpu_weight, memory_high, memory_max, pids_max, open_files, .. } = shape;
    cpu.is_absent()
        && cpu_weight.is_absent()
        && memory_high.is_absent()
        && memory_max.is_absent()
        && pids_max.is_absent()
        && open_files.is_absent()
}

fn keys(shape: &shape::Rung, action: ActionName, faults: &mut Vec<Fault>) {
    use ActionName::{Condition, Cordon, Evict, Freeze, Protect, RaiseLimit, Taint, Throttle};
    let mut only = |given: Option<_>, name: &str, takers: &[ActionName]| {
        if let Some(place) = given.filter(|_| !takers.contains(&action)) {
            let takers: Vec<_> = takers.iter().map(|taker| taker.name()).collect();
            let message = format!("{name}: {} takes none, only {}", action.name(), takers.join(" and "));
            faults.push(Fault::new(place, message));
        }
    };
    let leases = [Freeze, Throttle, RaiseLimit, Protect, Cordon, Taint, Condition];
    only(place(&shape.undo_after), "undoAfter", &leases);
    only(place(&shape.memory_high), "memoryHigh", &[Throttle]);
    only(place(&shape.cpu), "cpu", &[Throttle]);
    only(place(&shape.cpu_weight), "cpuWeight", &[Throttle]);
    only(place(&shape.by), "by", &[RaiseLimit]);
    only(place(&shape.memory_max), "memoryMax", &[RaiseLimit]);
    only(place(&shape.pids_max), "pidsMax", &[RaiseLimit]);
    only(place(&shape.open_files), "openFiles", &[RaiseLimit]);
    only(place(&shape.oom_score_adj), "oomScoreAdj", &[Protect]);
    only(place(&shape.respect_pdb), "respectPDB", &[Evict]);
    only(place(&shape.without_controller), "withoutController", &[Evict]);
    only(place(&shape.condition), "condition", &[Condition]);
    only(place(&shape.taint), "taint", &[Taint]);
}

/// Conditions by which the kubelet, and others that Kubernetes itself knows, tell of a node.
const TAKEN: &[&str] =
    &["Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable", "OutOfDisk"];

fn condition(given: &At<String>, faults: &mut Vec<Fault>) -> String {
    let name = &given.value;
    let is_plain = name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && name.len() <= 63;
    if !is_plain {
        let message = format!("condition: {name:?} is no type of a condition, such as WorkloadStuck");
        faults.push(Fault::new(given.place, message));
    } else if TAKEN.contains(&name.as_str()) {
        faults.push(Fault::new(given.place, format!("condition: {name} is the kubelet's own")));
    }
    name.clone()
}

/// Of a DNS name (RFC 1123), which a taint's prefix is.
const DOMAIN_MAX: usize = 253;

/// `healer.dev/sick:NoSchedule`. NoExecute would end every pod of the node: `evict` moves the one that is sick.
fn taint(given: &At<String>, faults: &mut Vec<Fault>) -> String {
    let text = &given.value;
    let (key, effect) = text.rsplit_once(':').unwrap_or((text, ""));
    let is_part = |part: &str| {
        let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = part.as_bytes();
        bytes.len() <= 63
            && is_end(bytes.first())
            && is_end(bytes.last())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    let is_lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let (domain, name) = key.split_once('/').unwrap_or(("x", key));
    let is_domain =
        domain.len() <= DOMAIN_MAX && domain.bytes().all(is_lower) && domain.split('.').all(is_part);
    if !(is_domain && is_part(name) && matches!(effect, "NoSchedule" | "PreferNoSchedule")) {
        let message = format!(
            "taint: {text:?} is no key with NoSchedule or PreferNoSchedule, such as healer.dev/sick:NoSchedule"
        );
        faults.push(Fault::new(given.place, message));
    } else if domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") {
        faults.push(Fault::new(given.place, format!("taint: {key} is Kubernetes' own")));
    }
    text.clone()
}

fn place<T>(key: &Key<T>) -> Option<super::super::problem::Place> {
    key.given().map(|given| given.place)
}

fn undo_after(shape: &shape::Rung, faults: &mut Vec<Fault>) -> core::time::Duration {
    let given = period(&shape.undo_after, "undoAfter", LONGEST, faults);
    if let Some(at) = shape.undo_after.given().filter(|_| LONGEST < given) {
        faults.push(Fault::new(at.place, "undoAfter: what is lent for more than a day is no lease"));
    }
    given
}

fn percent(
    key: &Key<Percent>,
    name: &str,
    range: core::ops::RangeInclusive<u32>,
    faults: &mut Vec<Fault>,
) -> Option<u32> {
    let given = key.given()?;
    let Percent(percent) = given.value;
    if !range.contains(&percent) {
        let message = format!("{name}: {percent}% is not between {}% and {}%", range.start(), range.end());
        faults.push(Fault::new(given.place, message));
    }
    Some(percent)
}

fn number<T: Copy + PartialOrd + core::fmt::Display>(
    key: &Key<T>,
    name: &str,
    range: core::ops::RangeInclusive<T>,
    faults: &mut Vec<Fault>,
) -> Option<T> {
    let given = key.given()?;
    if !range.contains(&given.value) {
        let message = format!("{name}: {} is not between {} and {}", given.value, range.start(), range.end());
        faults.push(Fault::new(given.place, message));
    }
    Some(given.value)
}
