//! One incident: from the first diagnosis to the verified end.

use std::collections::BTreeMap;

use super::{
    class::Class,
    command::{ActionKey, IncidentId},
    detect::Subject,
    diagnosis::Diagnosis,
    pause::Asked,
    policy::{ActionName, Mode, Policy, Rule, Rung, Verify},
    report::Outcome,
    time::BootTime,
    verify::{Disk, Verification},
};
use crate::identity::process::{Process, WorkloadKey};

#[derive(Clone, Debug)]
pub struct Incident {
    pub id: IncidentId,
    pub subject: Subject,
    pub workload: WorkloadKey,
    pub opened_at: BootTime,
    /// First kernel evidence of the first diagnosis, and when it was made.
    pub fault_at: BootTime,
    pub detected_at: BootTime,
    /// What holds now, by class.
    pub active: BTreeMap<Class, Diagnosis>,
    /// How bad it is by class, as far as that is a number; also of what has cleared, if it is still seen.
    pub levels: BTreeMap<Class, f64>,
    /// The patient; after a failed restart, the successor that died too.
    pub target: Process,
    pub plan: Option<Plan>,
    /// A rule may match later (`for:`), or another class of the same death may follow.
    pub look_again_at: Option<BootTime>,
    /// When the first act that is known to be done was.
    pub acted_at: Option<BootTime>,
    pub deeds: Deeds,
    /// Since when nothing is diagnosed any more.
    pub well_since: Option<BootTime>,
    /// When something that the workload uses was last seen to fail.
    pub root_seen: Option<BootTime>,
    /// When who uses whom was last read for its sake.
    pub peers_asked: Option<BootTime>,
    /// Whether the owner of its pod wants it left alone.
    pub pause: Option<Asked>,
    /// An earlier life of the agent saw the fault of one that lives; until then this one may see it too, and before it
    /// has no rung is climbed.
    pub unseen_until: Option<BootTime>,
    /// Errors had made them read-only; known also once nobody fails to write there.
    pub read_only: Vec<Disk>,
}

/// What its acts have done, or may have: of some nobody knows (healer ended, no answer came).
#[derive(Clone, Copy, Debug, Default)]
pub struct Deeds {
    pub some: bool,
    /// Whoever was to end by them may be ending.
    pub struck: bool,
    /// The last one was lent for a cure, perhaps: that the patient is well teaches nothing.
    pub unsure: bool,
}

impl Deeds {
    pub fn note(&mut self, action: ActionName, is_known: bool) {
        self.some = true;
        self.struck |= action.is_destructive();
        self.unsure = !is_known && action.is_lease();
    }
}

/// The rule that answers, and how far its ladder has been climbed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub policy: Policy,
    pub rule_index: usize,
    /// The class whose condition matched.
    pub class: Class,
    pub mode: Mode,
    pub rung: usize,
    /// When the class was diagnosed.
    pub sick_since: BootTime,
    /// Of the last act.
    pub key: Option<ActionKey>,
    /// Why the last rung did not heal.
    pub failure: Option<String>,
    /// Counts acts of this incident: makes keys unique.
    pub attempt: u32,
    pub stage: Stage,
}

#[derive(Clone, Debug)]
pub enum Stage {
    /// The gates are asked at `at` (None: when something changes).
    Gating {
        at: Option<BootTime>,
        held_by: Option<(&'static str, String)>,
        since: BootTime,
    },
    /// The hands look what a lease would turn.
    Surveying {
        key: ActionKey,
        until: BootTime,
    },
    /// The intent is on its way to disk.
    Committing,
    Acting {
        key: ActionKey,
        until: BootTime,
    },
    /// Found open in the journal at start: did it happen?
    Reconciling {
        key: ActionKey,
        until: BootTime,
    },
    Verifying(Box<Verification>),
    /// Nothing more to do; a lasting condition stays open until it clears.
    Over(Outcome, String),
}

impl Plan {
    pub fn rule(&self) -> &Rule {
        &self.policy.rules[self.rule_index]
    }

    pub fn rung(&self) -> Option<&Rung> {
        self.rule().escalate.get(self.rung)
    }

    /// Between intent and verification nobody else may act on the workload.
    pub fn is_in_flight(&self) -> bool {
        match self.stage {
            Stage::Surveying { .. }
            | Stage::Committing
            | Stage::Acting { .. }
            | Stage::Reconciling { .. }
            | Stage::Verifying(_) => true,
            Stage::Gating { .. } | Stage::Over(..) => false,
        }
    }

    /// Whoever undoes wakes it.
    pub fn wait_for_undo(&mut self) {
        if let Stage::Gating { at, .. } = &mut self.stage {
            *at = None;
        }
    }

    pub fn ask_again(&mut self, when: BootTime) {
        if let Stage::Gating { at, .. } = &mut self.stage {
            *at = Some(when);
        }
    }

    /// The gates are asked at once.
    pub fn wake(&mut self, now: BootTime) {
        if let Stage::Gating { at, .. } = &mut self.stage {
            *at = Some(now);
        }
    }

    /// Of an act whose result is unknown, what is seen afterwards tells more.
    pub fn is_watched_if_unknown(&self) -> bool {
        self.rung().is_some_and(|rung| {
            rung.action == ActionName::Restart || rung.action.is_lease() && !rung.action.is_standing()
        })
    }

    /// An act may still come: the supervisor has to wait for it.
    pub fn may_still_act(&self) -> bool {
        self.mode == Mode::Enforce && !matches!(self.stage, Stage::Over(..))
    }
}

impl Incident {
    /// What is not over yet, if anything. A number must be below what the policy calls well. While something is lent,
    /// a class without a number is judged by whether the patient lives: what it shows is halted with it.
    pub fn still_there(&self, now: BootTime, verify: &Verify, lives_on_loan: bool) -> Option<String> {
        if self.is_of_death() {
            return None;
        }
        if let Some(until) = self.unseen_until {
            return (now < until).then(|| "nobody has looked at it since healer came back".to_owned());
        }
        let above = self.levels.iter().find_map(|(class, level)| {
            let limit = f64::from(verify.signal_below?);
            (limit <= *level).then(|| format!("{class} is at {level:.0}%, and not below {limit:.0}%"))
        });
        let holds = |class: &&Class| match (self.levels.contains_key(*class), verify.signal_below) {
            (true, below) => below.is_none(),
            (false, _) => !lives_on_loan,
        };
        let holds = || self.active.keys().find(holds).map(|_| "the fault is still there".to_owned());
        above.or_else(holds)
    }

    /// A rung before the present one was done, or failed.
    pub fn has_acted(&self, plan: &Plan) -> bool {
        self.deeds.some || plan.failure.is_some()
    }

    pub fn is_of_death(&self) -> bool {
        matches!(self.subject, Subject::Death(_))
    }

    pub fn deadline(&self) -> Option<BootTime> {
        let stage = self.plan.as_ref().and_then(|plan| match &plan.stage {
            Stage::Gating { at, .. } => *at,
            Stage::Surveying { until, .. }
            | Stage::Acting { until, .. }
            | Stage::Reconciling { until, .. } => Some(*until),
            Stage::Verifying(verification) => Some(verification.wake_at),
            Stage::Committing | Stage::Over(..) => None,
        });
        [stage, self.look_again_at].into_iter().flatten().min()
    }
}
