//! Of many instances with one fault, one is healed first, verified and soaked; then the rest.
//! The instances are the workloads of one policy. Breakers that probe do so one after the other, too.

use core::time::Duration;
use std::collections::BTreeMap;

use super::{Facts, Proposal, Ruling, ledger::BreakerState};
use crate::{
    engine::{
        class::Class,
        policy::{Canary, Mode},
        time::{BootTime, Human},
    },
    identity::process::WorkloadKey,
};

const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Who went first, and how that went. An earlier life's canaries are forgotten: another one goes first then.
#[derive(Debug, Default)]
pub struct Canaries {
    flights: BTreeMap<Group, BTreeMap<WorkloadKey, Flight>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    pub policy: String,
    pub class: Class,
    pub mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    UnderWay,
    Well(BootTime),
    NotHealed(BootTime),
}

impl Canaries {
    pub fn acts(&mut self, group: Group, workload: &WorkloadKey) {
        self.flights.entry(group).or_default().insert(workload.clone(), Flight::UnderWay);
    }

    /// The incident of an instance is over. None: nothing was done after all.
    pub fn ended(&mut self, now: BootTime, group: &Group, workload: &WorkloadKey, healed: Option<bool>) {
        let Some(flights) = self.flights.get_mut(group) else { return };
        let Some(flight) = flights.get_mut(workload).filter(|flight| **flight == Flight::UnderWay) else {
            return;
        };
        match healed {
            Some(true) => *flight = Flight::Well(now),
            Some(false) => *flight = Flight::NotHealed(now),
            None => drop(flights.remove(workload)),
        }
    }

    /// An instance has the fault: if it was still being watched, it was not healed; if not, this is another round.
    pub fn fell(&mut self, now: BootTime, group: &Group, workload: &WorkloadKey, soak: Duration) {
        let Some(flights) = self.flights.get_mut(group) else { return };
        if let Some(Flight::Well(at)) = flights.get(workload).copied() {
            if now.since(at) < soak {
                flights.insert(workload.clone(), Flight::NotHealed(now));
            } else {
                flights.remove(workload);
            }
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
    if flights.contains_key(proposal.workload) {
        return goes_first();
    }
    let breaker = &proposal.policy.safety.breaker;
    let now = proposal.now;
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
        Some((who, Flight::UnderWay | Flight::NotHealed(_))) => {
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
        Flight::NotHealed(at) => Some((who, *at)),
        Flight::UnderWay | Flight::Well(_) => None,
    });
    failed.max_by_key(|(_, at)| *at)
}

/// Well for long enough, and not so long ago that it says nothing about today.
fn is_soaked(flight: Flight, now: BootTime, canary: &Canary, within: Duration) -> bool {
    match flight {
        Flight::Well(at) => canary.soak <= now.since(at) && now.since(at) < within + canary.soak,
        Flight::UnderWay | Flight::NotHealed(_) => false,
    }
}

fn is_flying(flight: Flight, now: BootTime, canary: &Canary) -> bool {
    match flight {
        Flight::UnderWay => true,
        Flight::Well(at) => now.since(at) < canary.soak,
        Flight::NotHealed(_) => false,
    }
}
