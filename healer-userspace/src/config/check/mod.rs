//! A policy's shape becomes an `engine::policy::Policy`, or faults that say where and why not.

mod capture;
mod depends;
pub(super) mod maintenance;
mod probe;
mod rules;
mod terms;
pub(super) mod who;

use core::time::Duration;

use super::{
    key::{At, Key},
    policy::{self as shape, HealPolicy},
    problem::{Fault, Place},
    read,
    source::Node,
    value::{Percent, Period},
};
use crate::engine::{
    class::Class,
    policy::{Backoff, Breaker, Budget, Canary, Expect, Match, Mode, Policy, Rung, Safety, Verify},
};

pub(super) const API_VERSION: &str = "healer.dev/v1alpha1";

/// What a check says beside its result.
pub(super) struct Findings<'a> {
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
    /// Rungs that not every machine can do, and where they stand.
    pub(super) demanding: Vec<(Place, Rung)>,
    /// Is there a detector for this class?
    pub(super) supported: &'a dyn Fn(Class) -> bool,
}

/// A policy as far as it could be read (use it only if there are no faults), and where its match stands.
pub(super) fn policy(node: &Node, findings: &mut Findings<'_>) -> Option<(Policy, Place)> {
    let file: HealPolicy = read::shape(node, "HealPolicy", &mut findings.faults)?;
    let faults = &mut findings.faults;
    header(&file.api_version, node.place, faults);
    let metadata = required(&file.metadata, "metadata", "the policy", node.place, faults);
    let name = metadata
        .and_then(|metadata| required(&metadata.value.name, "name", "metadata", metadata.place, faults));
    let spec = required(&file.spec, "spec", "the policy", node.place, faults)?;
    let mode = spec.value.mode.value().copied().unwrap_or_default();
    let (matches, avoid) = who::read(&spec.value.r#match, faults);
    let who = &spec.value.r#match;
    let place = who.given().map_or(spec.place, |at| at.place);
    if mode == Mode::Enforce && matches == Match::default() && faults.is_empty() {
        let place = spec.value.mode.given().map_or(place, |at| at.place);
        let message = "enforce needs a match: without one the policy owns every process";
        faults.push(Fault::new(place, message));
    }
    if let Some(expect) = spec.value.expect.given()
        && who::may_know_nobody(&matches)
    {
        let message = "expect: of what only cgroup or comm match, healer knows no main process, unless it is the first of \
                       a container: name its unit or exe";
        findings.warnings.push(Fault::new(expect.place, message));
    }
    let faults = &mut findings.faults;
    let policy = Policy {
        name: name.map(|name| name.value.0.clone()).unwrap_or_default(),
        mode,
        matches,
        avoid,
        expect: expect(&spec.value.expect, faults),
        safety: safety(&spec.value.safety, faults),
        verify: verify(&spec.value.verify, faults),
        rules: rules::read(&spec.value.rules, findings),
    };
    Some((policy, place))
}

pub(super) fn header(api_version: &Key<String>, place: Place, faults: &mut Vec<Fault>) {
    if let Some(given) = required(api_version, "apiVersion", "the document", place, faults)
        && given.value != API_VERSION
    {
        let message = format!("apiVersion {:?} is not known: this healer reads {API_VERSION}", given.value);
        faults.push(Fault::new(given.place, message));
    }
}

/// The key's value; a fault if it is absent.
fn required<'a, T>(
    key: &'a Key<T>,
    name: &str,
    inside: &str,
    place: Place,
    faults: &mut Vec<Fault>,
) -> Option<&'a At<T>> {
    if key.is_absent() {
        faults.push(Fault::new(place, format!("key \"{name}\" is missing in {inside}")));
    }
    key.given()
}

fn expect(shape: &Key<shape::Expect>, faults: &mut Vec<Fault>) -> Expect {
    let Some(shape) = shape.value() else {
        return Expect::default();
    };
    let mut listen: Vec<_> =
        shape.listen.value().iter().flat_map(|ports| &ports.0).map(|at| at.value.0).collect();
    listen.sort();
    listen.dedup();
    let probe = shape.probe.given().and_then(|given| probe::read(given, faults));
    let depends_on = depends::read(&shape.depends_on, faults);
    Expect { running: shape.running.value().copied(), listen, probe, depends_on }
}

fn safety(shape: &Key<shape::Safety>, faults: &mut Vec<Fault>) -> Safety {
    let default = Safety::default();
    let Some(shape) = shape.value() else {
        return default;
    };
    Safety {
        budget: shape.budget.value().map_or(default.budget, |given| budget(given, default.budget, faults)),
        backoff: shape
            .backoff
            .given()
            .map_or(default.backoff, |given| backoff(given, default.backoff, faults)),
        breaker: shape
            .breaker
            .value()
            .map_or(default.breaker, |given| breaker(given, default.breaker, faults)),
        maintenance: maintenance::read(&shape.maintenance, faults),
        pause: shape.pause.given().and_then(|given| pause(given, faults)),
        canary: shape.canary.value().map(|given| Canary {
            instances: count(&given.instances, "instances", 1, faults),
            soak: period(&given.soak, "soak", Duration::from_secs(60), faults),
        }),
    }
}

/// `PREFIX/NAME`, as Kubernetes takes them.
fn pause(given: &At<shape::Pause>, faults: &mut Vec<Fault>) -> Option<String> {
    const MOST: usize = 317;
    let key = required(&given.value.annotation, "annotation", "safety.pause", given.place, faults)?;
    let is_name = |part: &str| {
        let is_end = |at: Option<char>| at.is_some_and(|c| c.is_ascii_alphanumeric());
        is_end(part.chars().next())
            && is_end(part.chars().next_back())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let parts: Vec<&str> = key.value.split('/').collect();
    if parts.len() <= 2 && parts.iter().all(|part| is_name(part)) && key.value.len() <= MOST {
        return Some(key.value.clone());
    }
    let message = "annotation: no key of an annotation, such as healer.dev/pause".to_owned();
    faults.push(Fault::new(key.place, message));
    None
}

pub(super) fn budget(shape: &shape::Budget, default: Budget, faults: &mut Vec<Fault>) -> Budget {
    Budget {
        max: count(&shape.max, "max", default.max, faults),
        per: period(&shape.per, "per", default.per, faults),
    }
}

fn backoff(given: &At<shape::Backoff>, default: Backoff, faults: &mut Vec<Fault>) -> Backoff {
    let shape = &given.value;
    if let Some(factor) = shape.factor.given()
        && !(1.0..=100.0).contains(&factor.value)
    {
        let message = format!("factor: {} is not between 1 and 100", factor.value);
        faults.push(Fault::new(factor.place, message));
    }
    let backoff = Backoff {
        initial: period(&shape.initial, "initial", default.initial, faults),
        factor: shape.factor.value().copied().unwrap_or(default.factor),
        max: period(&shape.max, "max", default.max, faults),
        reset_after: period(&shape.reset_after, "resetAfter", default.reset_after, faults),
    };
    if backoff.max < backoff.initial {
        let message = format!("backoff: max {:?} is shorter than initial {:?}", backoff.max, backoff.initial);
        faults.push(Fault::new(given.place, message));
    }
    backoff
}

pub(super) fn breaker(shape: &shape::Breaker, default: Breaker, faults: &mut Vec<Fault>) -> Breaker {
    Breaker {
        trip_after: count(&shape.trip_after, "tripAfter", default.trip_after, faults),
        within: period(&shape.within, "within", default.within, faults),
        probe_after: period(&shape.probe_after, "probeAfter", default.probe_after, faults),
    }
}

fn verify(shape: &Key<shape::Verify>, faults: &mut Vec<Fault>) -> Verify {
    let default = Verify::default();
    let Some(shape) = shape.value() else {
        return default;
    };
    Verify {
        within: period(&shape.within, "within", default.within, faults),
        alive: shape.alive.value().copied().unwrap_or(default.alive),
        listen: shape.listen.value().copied().unwrap_or(default.listen),
        signal_below: shape.signal_below.given().map(|given| below(given, faults)),
        stable_for: shape.stable_for.value().map_or(default.stable_for, |period| period.0),
    }
}

fn below(given: &At<Percent>, faults: &mut Vec<Fault>) -> u32 {
    let Percent(percent) = given.value;
    if !(1..=100).contains(&percent) {
        let message = format!("signalBelow: {percent}% is not between 1% and 100%");
        faults.push(Fault::new(given.place, message));
    }
    percent
}

/// A length of time that cannot be zero.
pub(super) fn period(key: &Key<Period>, name: &str, default: Duration, faults: &mut Vec<Fault>) -> Duration {
    let Some(given) = key.given() else {
        return default;
    };
    if given.value.0.is_zero() {
        faults.push(Fault::new(given.place, format!("{name}: cannot be zero")));
    }
    given.value.0
}

/// A number that cannot be zero.
pub(super) fn count(key: &Key<u32>, name: &str, default: u32, faults: &mut Vec<Fault>) -> u32 {
    let Some(given) = key.given() else {
        return default;
    };
    if given.value == 0 {
        faults.push(Fault::new(given.place, format!("{name}: cannot be 0")));
    }
    given.value
}
