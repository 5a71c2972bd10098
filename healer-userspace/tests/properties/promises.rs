//! What was promised, held against what was seen.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use healer_userspace::{
    engine::{
        command::{Act, ActionKey, ActionOutcome, ActionResult, IncidentId, Intent, PastAct},
        lease::Lease,
        policy::{ActionName, Mode, PolicySet},
        report::{Outcome, Report, ReportFact},
        time::BootTime,
    },
    identity::process::WorkloadKey,
};

/// What was seen, to be held against what was promised.
#[derive(Default)]
pub(crate) struct Promises {
    pub(crate) intents: BTreeMap<ActionKey, Intent>,
    pub(crate) on_disk: BTreeSet<ActionKey>,
    pub(crate) results: BTreeMap<ActionKey, ActionOutcome>,
    /// Keys of acts that were started, by the agent's life.
    pub(crate) started: BTreeMap<ActionKey, u32>,
    pub(crate) in_flight: BTreeMap<WorkloadKey, ActionKey>,
    pub(crate) effects: Vec<PastAct>,
    /// As the journal has them.
    pub(crate) leases: BTreeMap<ActionKey, Lease>,
    /// Acts whose effect is on the machine now.
    pub(crate) turned: BTreeSet<ActionKey>,
    pub(crate) closed: BTreeSet<IncidentId>,
    pub(crate) last_incident: u64,
    pub(crate) life: u32,
    /// The hands could not turn something back.
    pub(crate) stuck: bool,
    /// Of the policy with a canary: acted on and not over.
    pub(crate) flying: BTreeMap<IncidentId, WorkloadKey>,
    /// One of them was healed, or a later life of the agent does not know.
    pub(crate) is_fleet_trusted: bool,
}

impl Promises {
    pub(crate) fn intent(&mut self, intent: &Intent, cap: Option<Mode>) {
        let act = &intent.act;
        assert!(self.intents.insert(act.key.clone(), intent.clone()).is_none(), "key {} twice", act.key);
        let allowed = match intent.policy.as_str() {
            "observe" => panic!("an intent under observe: {}", act.key),
            "shadow" | "rest" => Mode::Shadow,
            _ => Mode::Enforce,
        };
        assert!(act.mode <= cap.map_or(allowed, |cap| cap.min(allowed)), "{} in {:?}", act.key, act.mode);
        assert!(act.mode > Mode::Observe, "observe mode intends nothing");
        let target = &act.target;
        let is_guarded = target.place.unit.as_deref() == Some("guarded.service")
            || target.exe.as_deref() == Some("/usr/bin/guarded");
        assert!(!is_guarded, "{} aims at a protected process", act.key);
    }

    pub(crate) fn committed(&mut self, key: &ActionKey) {
        self.on_disk.insert(key.clone());
        self.leases.extend(Lease::of(&self.intents[key]).map(|lease| (key.clone(), lease)));
    }

    pub(crate) fn turned_by(&mut self, act: &Act) {
        if act.mode == Mode::Enforce && act.rung.action.is_lease() {
            assert!(self.leases.contains_key(&act.key), "{} has no undo on disk", act.key);
            self.turned.insert(act.key.clone());
        }
    }

    pub(crate) fn given_back(&mut self, key: &ActionKey) {
        assert!(!self.turned.contains(key), "{key} is said to be undone and is not");
        assert!(self.leases.remove(key).is_some(), "{key} was not lent, or is undone twice");
    }

    pub(crate) fn nothing_is_turned(&self) {
        assert!(self.turned.is_empty(), "still turned: {:?}", self.turned);
    }

    pub(crate) fn nothing_is_lent(&self) {
        self.nothing_is_turned();
        assert!(self.leases.is_empty(), "never undone: {:?}", self.leases);
    }

    pub(crate) fn act(&mut self, act: &Act) {
        self.next_rung_is_clean(act);
        assert!(self.on_disk.contains(&act.key), "{} before its intent was on disk", act.key);
        assert!(!self.results.contains_key(&act.key), "{} after its result", act.key);
        let is_repeatable = act.rung.action == ActionName::Restart && act.target.place.supervise.is_some();
        if let Some(life) = self.started.insert(act.key.clone(), self.life) {
            assert!(life < self.life && is_repeatable, "{} twice", act.key);
        }
        self.one_goes_first(act);
        if act.mode == Mode::Enforce {
            let other = self.in_flight.insert(act.workload.clone(), act.key.clone());
            assert!(other.is_none_or(|other| other == act.key), "two acts on {}", act.workload);
        }
    }

    /// Before one of them is known to be healed, the others wait.
    fn one_goes_first(&mut self, act: &Act) {
        if self.intents[&act.key].policy == "fleet" && act.mode == Mode::Enforce {
            let others = self.flying.values().any(|workload| *workload != act.workload);
            assert!(!others || self.is_fleet_trusted, "{} beside its canary", act.key);
            self.flying.insert(act.incident, act.workload.clone());
        }
    }

    /// As the store keeps it for a later life.
    pub(crate) fn verified(&mut self, key: &ActionKey, outcome: &str) {
        let Some(act) = self.intents.get(key).map(|intent| &intent.act) else { return };
        let is_it = |effect: &&mut PastAct| {
            (effect.class, effect.mode) == (act.class, act.mode) && effect.workload == act.workload
        };
        if let Some(effect) = self.effects.iter_mut().rev().find(is_it) {
            effect.healed = Some(act.mode == Mode::Shadow || outcome == Outcome::Healed.name());
        }
    }

    /// A rung meets the patient as it was: frozen by us it could not even be killed.
    fn next_rung_is_clean(&self, act: &Act) {
        let lent = self.turned.iter().filter_map(|key| self.leases.get(key));
        let of_it = lent.filter(|lease| lease.incident == act.incident && lease.key != act.key).count();
        assert!(of_it == 0 || self.stuck, "{} while something is lent to {}", act.key, act.incident);
    }

    pub(crate) fn result(&mut self, now: BootTime, result: ActionResult, policies: &PolicySet) {
        let intent =
            self.intents.get(&result.key).unwrap_or_else(|| panic!("{} was not intended", result.key));
        let act = &intent.act;
        self.in_flight.retain(|_, key| *key != result.key);
        let has_effect = match &result.outcome {
            ActionOutcome::Done { .. } | ActionOutcome::WouldDo { .. } | ActionOutcome::Unknown { .. } => {
                true
            }
            ActionOutcome::Refused { .. } | ActionOutcome::Failed { .. } => false,
        };
        if has_effect {
            let (workload, class, mode) = (act.workload.clone(), act.class, act.mode);
            let effect = PastAct { workload, class, mode, at: now, healed: None };
            let policy = policies.policies.iter().find(|policy| policy.name == intent.policy);
            self.effects.push(effect);
            let own = policy.expect("policies are not removed").safety.budget;
            let of_own = self.within(now, own.per, act.mode, Some(&act.workload));
            assert!(of_own <= own.max as usize, "{of_own} acts on {} within {:?}", act.workload, own.per);
            if let Some(node) = policies.node_budget {
                let of_node = self.within(now, node.per, act.mode, None);
                assert!(of_node <= node.max as usize, "{of_node} acts of the node within {:?}", node.per);
            }
        }
        let again = self.results.insert(result.key.clone(), result.outcome);
        assert!(again.is_none(), "two results of {}", result.key);
    }

    pub(crate) fn within(
        &self,
        now: BootTime,
        per: Duration,
        mode: Mode,
        workload: Option<&WorkloadKey>,
    ) -> usize {
        let counts = |effect: &&PastAct| {
            effect.mode == mode
                && now.since(effect.at) < per
                && workload.is_none_or(|workload| *workload == effect.workload)
        };
        self.effects.iter().filter(counts).count()
    }

    pub(crate) fn report(&mut self, report: &Report) {
        let Some(incident) = report.incident else { return };
        self.last_incident = self.last_incident.max(incident.0);
        assert!(!self.closed.contains(&incident), "{incident} goes on after its end: {:?}", report.fact);
        match &report.fact {
            ReportFact::Closed(_) => {
                self.closed.insert(incident);
                self.flying.remove(&incident);
            }
            ReportFact::Verification(seen) => {
                self.is_fleet_trusted |=
                    seen.outcome == Outcome::Healed && self.flying.contains_key(&incident);
            }
            ReportFact::Diagnosis(found) => assert!(!found.sentence.is_empty() && !found.evidence.is_empty()),
            ReportFact::Gate(gate) => assert!(!gate.reason.is_empty()),
            ReportFact::Result(_)
            | ReportFact::Plan(_)
            | ReportFact::Intent(_)
            | ReportFact::Score { .. }
            | ReportFact::Notify { .. }
            | ReportFact::Undone(_)
            | ReportFact::Agent { .. } => {}
        }
    }
}
