//! `rules`: conditions that can come true, ladders that can be climbed.

use core::time::Duration;

use super::{
    super::{
        key::{At, Items, Key},
        kind::KindName,
        policy as shape,
        problem::{Fault, Place},
    },
    Findings, capture, count, period, required, terms,
};
use crate::engine::{
    class::{Certainty, Class},
    policy::{ActionName, Condition, Exits, Rule, Rung, Scope, Terms},
};

/// A forecast this far ahead may be wrong: only what can be undone may follow it.
const FORECAST_FOR_DESTRUCTIVE: Duration = Duration::from_secs(20);

pub(super) fn read(rules: &Key<Items<shape::Rule>>, findings: &mut Findings<'_>) -> Vec<Rule> {
    let mut read: Vec<Rule> = Vec::new();
    for at in rules.value().iter().flat_map(|rules| &rules.0) {
        let rule = rule(at, findings);
        if !rule.name.is_empty() && read.iter().any(|other| other.name == rule.name) {
            let message = format!("rule name {:?} is given twice in this policy", rule.name);
            findings.faults.push(Fault::new(at.place, message));
        }
        read.push(rule);
    }
    read
}

fn rule(at: &At<shape::Rule>, findings: &mut Findings<'_>) -> Rule {
    let shape = &at.value;
    let capture = shape.capture.given().map(|given| capture::read(&given.value, &mut findings.faults));
    let mut escalate = ladder(&shape.escalate, at.place, findings);
    for rung in escalate.iter_mut().filter(|rung| rung.action == ActionName::Capture) {
        rung.terms.wanted = capture;
    }
    let faults = &mut findings.faults;
    let name = required(&shape.name, "name", "a rule", at.place, faults);
    let when = required(&shape.when, "when", "a rule", at.place, faults);
    if let Some(when) = when.filter(|when| when.value.0.is_empty()) {
        faults.push(Fault::new(when.place, "when: an empty list never matches"));
    }
    let items = when.iter().flat_map(|when| &when.value.0);
    let when = items.filter_map(|item| condition(item, &escalate, findings)).collect();
    let unless = shape.unless.value().iter().flat_map(|words| &words.0).map(|word| word.value.0).collect();
    let name = name.map(|name| name.value.0.clone()).unwrap_or_default();
    Rule { name, when, unless, capture, escalate }
}

fn condition(at: &At<shape::When>, ladder: &[Rung], findings: &mut Findings<'_>) -> Option<Condition> {
    let shape = &at.value;
    let faults = &mut findings.faults;
    let class = required(&shape.class, "class", "a condition", at.place, faults)?;
    strikes_in_vain(class, ladder, faults);
    if !(findings.supported)(class.value) {
        let message = format!("no sensor for class {} yet: this condition never matches", class.value);
        findings.warnings.push(Fault::new(class.place, message));
    }
    let destructive = ladder.iter().find(|rung| rung.action.is_destructive());
    if let (Class::MemoryLeak, None, Some(rung)) = (class.value, shape.time_to_limit.given(), destructive) {
        let message = format!(
            "memory_leak is a forecast: before {} it must be said how near the limit is, timeToLimit: {{under: 15s}}",
            rung.action.name()
        );
        faults.push(Fault::new(class.place, message));
    }
    Some(Condition {
        class: class.value,
        certainty: shape.certainty.value().copied().unwrap_or(default_certainty(class.value)),
        hold: shape.r#for.value().map(|period| period.0),
        exits: exits(&shape.exits, class.value, faults),
        min_evidence: shape
            .min_evidence
            .given()
            .map(|_| count(&shape.min_evidence, "minEvidence", 1, faults)),
        time_to_limit_under: forecast(&shape.time_to_limit, class.value, ladder, faults),
        kind: kind(&shape.kind, class.value, faults),
    })
}

/// Another blow at what takes none only hides that a person is needed.
fn strikes_in_vain(class: &At<Class>, ladder: &[Rung], faults: &mut Vec<Fault>) {
    let strikes = |rung: &&Rung| rung.action.is_destructive() && rung.action != ActionName::RunHook;
    if let Some(rung) = ladder.iter().find(strikes).filter(|_| class.value == Class::Unkillable) {
        let message = format!("no signal ends what is unkillable: {} would be in vain", rung.action.name());
        faults.push(Fault::new(class.place, message));
    }
}

fn kind(key: &Key<KindName>, class: Class, faults: &mut Vec<Fault>) -> Option<String> {
    let given = key.given()?;
    if let Some(message) = given.value.unless_of(class) {
        faults.push(Fault::new(given.place, message));
    }
    Some(given.value.name().to_owned())
}

fn default_certainty(class: Class) -> Certainty {
    if class == Class::Deadlock { Certainty::Proved } else { Certainty::Probable }
}

fn exits(key: &Key<shape::Exits>, class: Class, faults: &mut Vec<Fault>) -> Option<Exits> {
    const DEFAULT_MIN: u32 = 3;
    const DEFAULT_WITHIN: Duration = Duration::from_secs(300);
    let given = key.given()?;
    if class != Class::CrashLoop {
        let message = format!("exits: counts the ends of a crash_loop, not of class {class}");
        faults.push(Fault::new(given.place, message));
    }
    let codes = given.value.codes.value().and_then(|codes| codes.not_in.value());
    for code in codes.iter().flat_map(|codes| &codes.0).filter(|code| !(0..=255).contains(&code.value)) {
        faults.push(Fault::new(code.place, format!("notIn: {} is no exit code (0 to 255)", code.value)));
    }
    Some(Exits {
        min: count(&given.value.min, "min", DEFAULT_MIN, faults),
        within: period(&given.value.within, "within", DEFAULT_WITHIN, faults),
        codes_not_in: codes.iter().flat_map(|codes| &codes.0).map(|code| code.value).collect(),
    })
}

fn forecast(
    key: &Key<shape::TimeToLimit>,
    class: Class,
    ladder: &[Rung],
    faults: &mut Vec<Fault>,
) -> Option<Duration> {
    let given = key.given()?;
    if !is_forecast(class) {
        let message = format!("timeToLimit: class {class} does not approach a limit");
        faults.push(Fault::new(given.place, message));
    }
    let key = &given.value.under;
    let place = required(key, "under", "timeToLimit", given.place, faults)?.place;
    let under = period(key, "under", Duration::ZERO, faults);
    let destructive = ladder.iter().find(|rung| rung.action.is_destructive());
    if let Some(rung) = destructive.filter(|_| under > FORECAST_FOR_DESTRUCTIVE) {
        let message = format!(
            "under: a forecast more than 20s ahead may only be followed by what can be undone, and {} cannot",
            rung.action.name()
        );
        faults.push(Fault::new(place, message));
    }
    Some(under)
}

fn is_forecast(class: Class) -> bool {
    match class {
        Class::MemoryPressure
        | Class::MemoryLeak
        | Class::FdExhaustion
        | Class::PidExhaustion
        | Class::DiskFull
        | Class::PortExhaustion => true,
        Class::Down
        | Class::Crash
        | Class::CrashLoop
        | Class::OomKill
        | Class::Deadlock
        | Class::Hang
        | Class::Starved
        | Class::CpuThrottled
        | Class::NetworkIsolation
        | Class::DependencyFailure
        | Class::DegradedPath
        | Class::ListenOverflow
        | Class::IoError
        | Class::Unkillable
        | Class::ZombieChildren
        | Class::ProbeFailed => false,
    }
}

/// The rungs as written, and a notification at the end if there is none.
fn ladder(key: &Key<Items<shape::Rung>>, rule: Place, findings: &mut Findings<'_>) -> Vec<Rung> {
    let Findings { faults, demanding, .. } = findings;
    let Some(given) = required(key, "escalate", "a rule", rule, faults) else {
        return Vec::new();
    };
    if given.value.0.is_empty() {
        faults.push(Fault::new(given.place, "escalate: an empty ladder does nothing: use `do: notify`"));
    }
    let placed = given.value.0.iter().filter_map(|at| Some((at.place, rung(at, faults)?)));
    let placed: Vec<(Place, Rung)> = placed.collect();
    let is_demanding = |rung: &Rung| rung.action.is_lease() || rung.action.is_of_the_cluster();
    demanding.extend(placed.iter().filter(|(_, rung)| is_demanding(rung)).cloned());
    let mut rungs: Vec<Rung> = placed.into_iter().map(|(_, rung)| rung).collect();
    if rungs.last().is_some_and(|last| last.action != ActionName::Notify) {
        rungs.push(notification());
    }
    rungs
}

fn notification() -> Rung {
    Rung {
        action: ActionName::Notify,
        scope: Scope::Process,
        grace: None,
        timeout: None,
        signal: None,
        command: Vec::new(),
        terms: Terms::default(),
    }
}

/// Throttle and raise_limit are of the cgroup by nature.
const SCOPED: &[ActionName] =
    &[ActionName::Stop, ActionName::Kill, ActionName::Freeze, ActionName::Thaw, ActionName::Protect];

fn rung(at: &At<shape::Rung>, faults: &mut Vec<Fault>) -> Option<Rung> {
    let shape = &at.value;
    let mut action = required(&shape.r#do, "do", "a rung", at.place, faults)?.value;
    if action == ActionName::Notify && !shape.condition.is_absent() {
        // The notification itself follows: it ends every ladder.
        action = ActionName::Condition;
    }
    only_for(&shape.scope, "scope", SCOPED, action, faults);
    only_for(&shape.signal, "signal", &[ActionName::Stop], action, faults);
    only_for(
        &shape.grace,
        "grace",
        &[ActionName::Stop, ActionName::Restart, ActionName::Evict],
        action,
        faults,
    );
    only_for(&shape.command, "command", &[ActionName::Restart, ActionName::RunHook], action, faults);
    let rung = Rung {
        action,
        scope: scope(&shape.scope, action, faults),
        grace: shape.grace.value().map(|grace| grace.0),
        timeout: timeout(&shape.timeout, action, faults),
        signal: shape.signal.value().map(|signal| signal.0),
        command: command(&shape.command, action, at.place, faults),
        terms: terms::read(at, action, faults),
    };
    grace_ends_in_time(&rung, at.place, faults);
    Some(rung)
}

/// A PodDisruptionBudget may let a pod go only when others have come back.
const EVICTS_WITHIN: Duration = Duration::from_secs(600);

fn timeout(
    key: &Key<super::super::value::Period>,
    action: ActionName,
    faults: &mut Vec<Fault>,
) -> Option<Duration> {
    let default = (action == ActionName::Evict).then_some(EVICTS_WITHIN);
    key.given().map(|_| period(key, "timeout", Duration::ZERO, faults)).or(default)
}

fn only_for<T>(key: &Key<T>, name: &str, takers: &[ActionName], action: ActionName, faults: &mut Vec<Fault>) {
    if let Some(given) = key.given().filter(|_| !takers.contains(&action)) {
        let takers: Vec<_> = takers.iter().map(|taker| taker.name()).collect();
        let message = format!("{name}: {} takes none, only {}", action.name(), takers.join(" and "));
        faults.push(Fault::new(given.place, message));
    }
}

fn scope(key: &Key<Scope>, action: ActionName, faults: &mut Vec<Fault>) -> Scope {
    let Some(given) = key.given() else {
        return Scope::default();
    };
    if given.value == Scope::Pod && !matches!(action, ActionName::Stop | ActionName::Kill) {
        faults.push(Fault::new(given.place, "scope: pod is for stop and kill alone".to_owned()));
    }
    given.value
}

fn command(
    key: &Key<Items<String>>,
    action: ActionName,
    rung: Place,
    faults: &mut Vec<Fault>,
) -> Vec<String> {
    if action == ActionName::RunHook && key.is_absent() {
        faults.push(Fault::new(rung, "run_hook needs a command: [program, argument, …]"));
    }
    let Some(given) = key.given() else {
        return Vec::new();
    };
    let words: Vec<String> = given.value.0.iter().map(|at| at.value.clone()).collect();
    if words.first().is_none_or(String::is_empty) {
        faults.push(Fault::new(given.place, "command: names no program"));
    }
    if words.iter().any(|word| word.contains('\0')) {
        faults.push(Fault::new(given.place, "command: an argument cannot have a NUL byte"));
    }
    words
}

fn grace_ends_in_time(rung: &Rung, place: Place, faults: &mut Vec<Fault>) {
    const DEFAULT_GRACE: Duration = Duration::from_secs(10);
    const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
    if rung.grace.is_none() && (rung.timeout.is_none() || rung.action != ActionName::Stop) {
        return;
    }
    let (grace, timeout) = (rung.grace.unwrap_or(DEFAULT_GRACE), rung.timeout.unwrap_or(DEFAULT_TIMEOUT));
    if grace >= timeout {
        let message = format!("the grace of {grace:?} does not end before the timeout of {timeout:?}");
        faults.push(Fault::new(place, message));
    }
}
