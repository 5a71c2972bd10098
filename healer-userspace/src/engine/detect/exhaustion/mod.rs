//! Something runs out. What fails of it is proof; how fast it goes is a forecast. Both are kept by resource, so that
//! a hundred processes that fail of one thing are one incident.

pub(super) mod disk_full;
pub(super) mod fd_exhaustion;
mod forecast;
pub(super) mod io_error;
pub(super) mod pid_exhaustion;
pub(super) mod port_exhaustion;
mod words;
pub(super) mod zombie_children;

use core::{net::SocketAddr, time::Duration};
use std::collections::BTreeMap;

use super::{Context, Detector, Finding, Subject};
use crate::{
    engine::{
        certificate::called,
        class::{Certainty, Class},
        diagnosis::{Detail, Diagnosis, Evidence},
        time::{BootTime, Human},
    },
    identity::process::{Process, ProcessId},
    signal::{
        Fact, Signal,
        levels::{Level, LevelSnapshot, Resource},
        syscall_error::SyscallError,
    },
};
use forecast::Forecast;

/// A limit that is used so far refuses.
const FULL_PERCENT: u64 = 95;
/// Without a look at the limit, so many failures say that something is used up.
const MANY: u64 = 10;
/// So long without a failure, and below the limit again.
const QUIET: Duration = Duration::from_secs(5);
/// Looks that no longer tell of it.
const LOOKS_TO_CLEAR: u32 = 3;
/// Resources remembered at most.
const KEPT_MAX: usize = 1024;

/// What one class makes of it.
trait Kind: Send {
    const CLASS: Class;
    /// Of the limit, what must be used before anything is foretold.
    const FORETOLD_PERCENT: u64 = 90;
    /// Whether a level is one of this class.
    fn is_of(resource: &Resource) -> bool;
    /// What a failed call says of which resource; `None`: nothing.
    fn failed(error: &SyscallError, fullest: Option<&Level>) -> Option<Failed>;
    /// What is said to be over.
    fn over() -> &'static str;

    /// So much of it, as a person reads it.
    fn rate(amount: u64) -> String {
        amount.to_string()
    }
}

/// A failure, and of what.
struct Failed {
    resource: Resource,
    /// It is used up: seen, not concluded.
    is_seen: bool,
    level: Option<Level>,
}

/// Watches the resources of one class.
struct Exhaustion<K> {
    kept: BTreeMap<Resource, Scarce>,
    kind: core::marker::PhantomData<K>,
}

impl<K> Default for Exhaustion<K> {
    fn default() -> Self {
        Self { kept: BTreeMap::new(), kind: core::marker::PhantomData }
    }
}

#[derive(Default)]
struct Scarce {
    forecast: Forecast,
    level: Option<Level>,
    /// Looks in a row that did not tell of it.
    missing: u32,
    failed: Option<Failing>,
    raised: Option<Raised>,
    /// Of what was raised last, also once it is over: how full it is goes on being told.
    subject: Option<Subject>,
}

struct Failing {
    at: BootTime,
    error: SyscallError,
}

struct Raised {
    subject: Subject,
    certainty: Certainty,
    called: String,
}

impl<K: Kind> Detector for Exhaustion<K> {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        match (&signal.fact, &signal.process) {
            (Fact::SyscallError(error), Some(process)) => {
                self.call_failed(context, signal.at, process, error, found);
            }
            (Fact::Levels(snapshot), _) => self.looked(context, signal.at, snapshot, found),
            (Fact::Exited(_), Some(process)) => self.ended(process.id(), found),
            _ => {}
        }
    }
}

impl<K: Kind> Exhaustion<K> {
    fn call_failed(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        process: &Process,
        error: &SyscallError,
        found: &mut Vec<Finding>,
    ) {
        let levels = self.kept.values().filter_map(|scarce| scarce.level.as_ref());
        let fullest = levels.max_by_key(|level| level.percent());
        let Some(failed) = K::failed(error, fullest) else {
            return;
        };
        let key = failed.resource.key();
        if KEPT_MAX <= self.kept.len() && !self.kept.contains_key(&key) {
            return;
        }
        let scarce = self.kept.entry(key).or_default();
        scarce.failed = Some(Failing { at, error: error.clone() });
        if let Some(level) = failed.level {
            // A failed call tells how full it is, the looks have seen who fills it.
            let before = scarce.level.take().map(|before| before.users).unwrap_or_default();
            let users = if level.users.is_empty() { before } else { level.users.clone() };
            scarce.level = Some(Level { users, ..level });
        }
        let certainty = if failed.is_seen {
            Certainty::Proved
        } else if MANY <= error.count && !scarce.has_room() {
            Certainty::Probable
        } else {
            return;
        };
        // Whoever is refused first may be the innocent one.
        let maker = scarce.level.as_ref().and_then(|level| level.process.clone());
        let to_blame = maker.filter(|_| K::CLASS == Class::PidExhaustion);
        scarce.raise::<K>(context, at, to_blame.as_ref().unwrap_or(process), certainty, found);
    }

    fn looked(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        snapshot: &LevelSnapshot,
        found: &mut Vec<Finding>,
    ) {
        for scarce in self.kept.values_mut() {
            scarce.missing = scarce.missing.saturating_add(1);
        }
        for level in snapshot.levels.iter().filter(|level| K::is_of(&level.of)) {
            let key = level.of.key();
            if KEPT_MAX <= self.kept.len() && !self.kept.contains_key(&key) {
                continue;
            }
            let scarce = self.kept.entry(key).or_default();
            scarce.missing = 0;
            scarce.forecast.note(at, level.used, level.limit);
            scarce.level = Some(level.clone());
            let is_failing = scarce.failed.as_ref().is_some_and(|failing| at.since(failing.at) <= QUIET);
            let is_full = FULL_PERCENT <= level.percent();
            let owner = level.process.clone();
            let is_refused = is_full && (is_failing || 0 < level.refused);
            if let (true, Some(owner)) = (is_refused, &owner) {
                scarce.raise::<K>(context, at, owner, Certainty::Proved, found);
            } else if let (Some(_), Some(owner)) = (scarce.forecast.time_left(K::FORETOLD_PERCENT), &owner) {
                scarce.raise::<K>(context, at, owner, Certainty::Suspected, found);
            }
        }
        self.clear(at, found);
        for scarce in self.kept.values().filter(|scarce| scarce.missing == 0) {
            scarce.tell::<K>(scarce.level.as_ref().map(Level::share), found);
        }
    }

    fn clear(&mut self, at: BootTime, found: &mut Vec<Finding>) {
        self.kept.retain(|_, scarce| {
            let is_failing = scarce.failed.as_ref().is_some_and(|failing| at.since(failing.at) < QUIET);
            let is_full = scarce.missing == 0
                && scarce.level.as_ref().is_some_and(|level| FULL_PERCENT <= level.percent());
            let is_waning = scarce.missing == 0 && scarce.forecast.time_left(K::FORETOLD_PERCENT).is_some();
            if is_failing || is_full || is_waning {
                return true;
            }
            scarce.lower::<K>("", found);
            let is_seen = scarce.missing < LOOKS_TO_CLEAR;
            if !is_seen {
                scarce.tell::<K>(None, found);
            }
            is_seen
        });
    }

    /// What was its alone went with it.
    fn ended(&mut self, id: ProcessId, found: &mut Vec<Finding>) {
        self.kept.retain(|resource, scarce| {
            let is_its = matches!(resource, Resource::Descriptors { pid } if *pid == id.pid)
                || matches!(&scarce.raised, Some(Raised { subject: Subject::Process(of, _), .. }) if *of == id);
            if is_its {
                scarce.lower::<K>(": it has ended", found);
                scarce.tell::<K>(None, found);
            }
            !is_its
        });
    }
}

impl Scarce {
    /// The last look saw that some was left.
    fn has_room(&self) -> bool {
        let level = self.level.as_ref().filter(|_| self.missing == 0);
        level.is_some_and(|level| level.percent() < FULL_PERCENT)
    }

    fn raise<K: Kind>(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        process: &Process,
        certainty: Certainty,
        found: &mut Vec<Finding>,
    ) {
        if self.raised.as_ref().is_some_and(|raised| certainty <= raised.certainty) {
            return;
        }
        let subject = match &self.raised {
            Some(raised) => raised.subject.clone(),
            // Its own descriptors; the rest outlives whoever met its end first.
            None if K::CLASS == Class::FdExhaustion => Subject::Process(process.id(), K::CLASS),
            None => Subject::Workload(process.workload.clone(), K::CLASS),
        };
        let diagnosis = self.diagnosis::<K>(context, at, process, certainty);
        self.raised = Some(Raised { subject: subject.clone(), certainty, called: called(process) });
        self.subject = Some(subject.clone());
        found.push(Finding::Raised { subject, diagnosis: Box::new(diagnosis) });
    }

    fn lower<K: Kind>(&mut self, why: &str, found: &mut Vec<Finding>) {
        if let Some(raised) = self.raised.take() {
            let says = format!("{} {}{why}", raised.called, K::over());
            found.push(Finding::Cleared { subject: raised.subject, class: K::CLASS, says });
        }
    }

    fn tell<K: Kind>(&self, level: Option<f64>, found: &mut Vec<Finding>) {
        let subject = self.subject.clone();
        found.extend(subject.map(|subject| Finding::Level { subject, class: K::CLASS, level }));
    }

    fn diagnosis<K: Kind>(
        &self,
        context: &Context<'_>,
        at: BootTime,
        process: &Process,
        certainty: Certainty,
    ) -> Diagnosis {
        let failing = self.failed.as_ref().filter(|_| certainty != Certainty::Suspected);
        let level = self.level.as_ref();
        let left = self.forecast.time_left(K::FORETOLD_PERCENT);
        let mut sentence = called(process);
        match (failing, level) {
            (Some(failing), Some(level)) => {
                sentence +=
                    &format!(": {}, and {}", words::amount(level), words::failure(&failing.error, at));
            }
            (Some(failing), None) => sentence += &format!(": {}", words::failure(&failing.error, at)),
            (None, Some(level)) => sentence += &format!(" uses {}", words::amount(level)),
            (None, None) => {}
        }
        if let Some((left, rate)) = left.filter(|_| failing.is_none()) {
            sentence += &format!(" and {} more a second: none is left in {}", K::rate(rate), Human(left));
        }
        let of =
            level.or_else(|| failing.and_then(|failing| failing.error.level.as_ref())).map(|level| &level.of);
        let peer = of.and_then(|of| at_the_other_end(context, of));
        if let Some(peer) = peer {
            sentence += &format!("; {} listens there", called(peer));
        }
        let users = level.map_or(&[][..], |level| &level.users);
        if !users.is_empty() {
            sentence += &format!("; most of it: {}", words::users(users, K::rate));
        }
        let evidence = match failing {
            Some(failing) => Evidence {
                signal: "syscall_error".to_owned(),
                at: failing.at,
                says: words::failure(&failing.error, at),
            },
            None => {
                Evidence { signal: "levels".to_owned(), at, says: level.map_or(String::new(), words::amount) }
            }
        };
        Diagnosis {
            class: K::CLASS,
            certainty,
            target: process.clone(),
            related: peer.into_iter().cloned().collect(),
            fault_at: failing.map_or(at, |failing| failing.error.first),
            detected_at: context.now,
            sentence,
            evidence: vec![evidence],
            lost: 0,
            from_absence: false,
            detail: Detail {
                evidence_count: 1 + u32::from(failing.is_some() && level.is_some()),
                time_to_limit_ms: match (failing, left) {
                    (Some(_), _) => Some(0),
                    (None, _) if level.is_some_and(|level| 0 < level.refused) => Some(0),
                    (None, Some((left, _))) => u64::try_from(left.as_millis()).ok(),
                    (None, None) => None,
                },
                level: level.map(Level::share),
                proof: level.and_then(|level| {
                    let bare = Level { process: None, ..level.clone() };
                    serde_json::to_value(bare).ok()
                }),
                ..Detail::default()
            },
        }
    }
}

/// Who is asked for more connections than there are ports for.
fn at_the_other_end<'a>(context: &Context<'a>, of: &Resource) -> Option<&'a Process> {
    let Resource::Ports { netns, peer, port } = of else { return None };
    context.world.topology().server(u32::try_from(*netns).ok()?, &SocketAddr::new(*peer, *port))
}

#[cfg(test)]
mod tests;
