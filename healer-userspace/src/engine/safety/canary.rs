//! Of many instances with one fault, one is healed first, verified and soaked; then the rest.
//! The instances are the workloads of one policy. Breakers that probe do so one after the other, too.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, Proposal, Ruling, ledger::BreakerState};
use crate::{
    engine::{
        class::Class,
        command::IncidentId,
        policy::{Breaker, Canary, Mode},
        time::{BootTime, Human},
    },
    identity::process::WorkloadKey,
};

const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Who went first, and how that went. An earlier life's canaries are forgotten: another one goes first then.
#[derive(Debug, Default)]
pub struct Canaries {
    flights: BTreeMap<Group, BTreeMap<WorkloadKey, Flight>>,
    /// Who was not tried yet and is held for one that was.
    waiting: BTreeMap<Group, BTreeSet<IncidentId>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    pub policy: String,
    pub class: Class,
    pub mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    /// With what it failed by before.
    UnderWay(IncidentId, Option<Failed>),
    Well(BootTime),
    NotHealed(Failed),
}

/// Others wait from the first failure on: one that never gets well does not hold them for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failed {
    first: BootTime,
    last: BootTime,
}

impl Canaries {
    pub fn acts(&mut self, group: Group, workload: &WorkloadKey, incident: IncidentId) {
        let flights = self.flights.entry(group).or_default();
        let failed = flights.get(workload).and_then(|flight| flight.failed());
        flights.insert(workload.clone(), Flight::UnderWay(incident, failed));
    }

    /// The incident of an instance is over, or nothing more is tried by that rule. None: nothing was done after all.
    pub fn ended(&mut self, now: BootTime, incident: IncidentId, healed: Option<bool>) {
        self.waits_no_more(incident);
        for flights in self.flights.values_mut() {
            flights.retain(|_, flight| {
                let Flight::UnderWay(of, before) = *flight else { return true };
                if of != incident {
                    return true;
                }
                let again = Failed { first: before.map_or(now, |before| before.first), last: now };
                let after = match healed {
                    Some(true) => Some(Flight::Well(now)),
                    Some(false) => Some(Flight::NotHealed(again)),
                    None => before.map(Flight::NotHealed),
                };
                *flight = after.unwrap_or(*flight);
                after.is_some()
            });
        }
    }

    /// An instance has the fault: if it was still being watched, it was not healed; if not, this is another round.
    pub fn fell(
        &mut self,
        now: BootTime,
        group: &Group,
        workload: &WorkloadKey,
        soak: Duration,
        breaker: &Breaker,
    ) {
        let Some(flights) = self.flights.get_mut(group) else { return };
        match flights.get(workload).copied() {
            Some(Flight::Well(at)) if now.since(at) < soak => {
                flights.insert(workload.clone(), Flight::NotHealed(Failed { first: now, last: now }));
            }
            Some(Flight::Well(_)) => drop(flights.remove(workload)),
            Some(Flight::NotHealed(failed)) if breaker.memory() <= now.since(failed.last) => {
                flights.remove(workload);
            }
            Some(Flight::NotHealed(_) | Flight::UnderWay(..)) | None => {}
        }
    }

    /// It is held for the canary, and was none itself.
    pub fn waits(&mut self, group: &Group, workload: &WorkloadKey, incident: IncidentId) {
        if self.flights.get(group).is_none_or(|flights| !flights.contains_key(workload)) {
            self.waiting.entry(group.clone()).or_default().insert(incident);
        }
    }

    #[cfg(test)]
    pub fn is_flying(&self, incident: IncidentId) -> bool {
        let mut flights = self.flights.values().flat_map(BTreeMap::values);
        flights.any(|flight| matches!(flight, Flight::UnderWay(of, _) if *of == incident))
    }

    pub fn waits_no_more(&mut self, incident: IncidentId) {
        self.waiting.retain(|_, incidents| {
            incidents.remove(&incident);
            !incidents.is_empty()
        });
    }
}

impl Flight {
    fn failed(self) -> Option<Failed> {
        match self {
            Self::UnderWay(_, failed) => failed,
            Self::NotHealed(failed) => Some(failed),
            Self::Well(_) => None,
        }
    }
}

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    let Some(canary) = wanted(proposal, facts) else {
        return Ruling::pass("the policy asks for no canary");
    };
    if proposal.escalating {
        return Ruling::pass("next rung of the same incident");
    }
    let group =
        Group { policy: proposal.policy.name.clone(), class: proposal.diagnosis.class, mode: proposal.mode };
    let none = BTreeMap::new();
    let flights = facts.canaries.flights.get(&group).unwrap_or(&none);
    let goes_first = || Ruling::pass(format!("this one is the canary: {} goes first", proposal.workload));
    let breaker = &proposal.policy.safety.breaker;
    let now = proposal.now;
    let others_wait = facts.canaries.waiting.contains_key(&group);
    match flights.get(proposal.workload) {
        Some(Flight::UnderWay(..) | Flight::Well(_)) => return goes_first(),
        // As long as the others wait for it anyway.
        Some(Flight::NotHealed(failed)) if now < failed.first + breaker.probe_after => return goes_first(),
        Some(Flight::NotHealed(_)) if others_wait => {
            let says = "it was not healed; those that wait for it go before it tries again";
            return Ruling::hold(Some(now + ASK_AGAIN), says);
        }
        Some(Flight::NotHealed(_)) | None => {}
    }
    if let Some((who, at)) = last_failed(flights).filter(|(_, at)| now < *at + breaker.probe_after) {
        let until = at + breaker.probe_after;
        let wait = Human(until.since(now));
        return Ruling::hold(
            Some(until),
            format!("the canary {who} was not healed; another one goes first in {wait}"),
        );
    }
    let soaked = flights.iter().filter(|(_, flight)| is_soaked(**flight, now, &canary, breaker.within));
    let soaked: Vec<_> = soaked.map(|(who, _)| who).collect();
    let instances = canary.instances.max(1) as usize;
    if instances <= soaked.len() {
        return Ruling::pass(format!("{} of the same policy is well again since its act", soaked[0]));
    }
    let flying: Vec<_> = flights.iter().filter(|(_, flight)| is_flying(**flight, now, &canary)).collect();
    match flying.first().filter(|_| instances <= soaked.len() + flying.len()) {
        None => goes_first(),
        Some((who, Flight::Well(at))) => {
            let until = *at + canary.soak;
            let left = Human(until.since(now));
            Ruling::hold(Some(until), format!("the canary {who} is well; it is watched for another {left}"))
        }
        Some((who, Flight::UnderWay(..) | Flight::NotHealed(_))) => {
            Ruling::hold(Some(now + ASK_AGAIN), format!("the canary {who} is being healed"))
        }
    }
}

/// What the policy asks for; of those whose breaker probes, one at a time in any case.
fn wanted(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Option<Canary> {
    let safety = &proposal.policy.safety;
    let class = proposal.diagnosis.class;
    let state = facts.ledger.breaker(proposal.now, proposal.workload, class, proposal.mode, &safety.breaker);
    let probe = Canary { instances: 1, soak: proposal.policy.verify.stable_for };
    safety.canary.or((state == BreakerState::Probing).then_some(probe))
}

fn last_failed(flights: &BTreeMap<WorkloadKey, Flight>) -> Option<(&WorkloadKey, BootTime)> {
    let failed = flights.iter().filter_map(|(who, flight)| match flight {
        Flight::NotHealed(failed) => Some((who, failed.first)),
        Flight::UnderWay(..) | Flight::Well(_) => None,
    });
    failed.max_by_key(|(_, at)| *at)
}

/// Well for long enough, and not so long ago that it says nothing about today.
fn is_soaked(flight: Flight, now: BootTime, canary: &Canary, within: Duration) -> bool {
    match flight {
        Flight::Well(at) => canary.soak <= now.since(at) && now.since(at) < within + canary.soak,
        Flight::UnderWay(..) | Flight::NotHealed(_) => false,
    }
}

fn is_flying(flight: Flight, now: BootTime, canary: &Canary) -> bool {
    match flight {
        Flight::UnderWay(..) => true,
        Flight::Well(at) => now.since(at) < canary.soak,
        Flight::NotHealed(_) => false,
    }
}
