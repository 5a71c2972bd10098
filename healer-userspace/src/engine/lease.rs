//! Leases: what an act has turned on the machine, how it stood before, and until when it is lent.
//!
//! A lease is in the journal before the act, with its undo. It ends when the patient is well, when it did not help,
//! when its time is over, when healer stops, and at the next start after a crash.

mod knob;
#[cfg(test)]
mod tests;

use core::{fmt, time::Duration};
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::knob::{Account, Knob};
use super::{
    command::{ActionKey, ActionOutcome, IncidentId, Intent},
    policy::{ActionName, Mode},
    time::BootTime,
};
use crate::{identity::process::WorkloadKey, text::printable};

/// A rung without `undoAfter`.
pub const UNDO_AFTER: Duration = Duration::from_secs(300);
/// A cordon or a condition without `undoAfter`: whoever repairs nodes needs his time.
pub const STANDS_FOR: Duration = Duration::from_secs(1800);
/// The hands write a few files; a freezer may take its time.
const UNDO_LIMIT: Duration = Duration::from_secs(15);
/// What could not be undone now may be possible later: memory that was lent is in use.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// From what to what; both as the kernel shows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    pub knob: Knob,
    pub was: String,
    pub set: String,
}

impl fmt::Display for Turn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {} → {}", self.knob, printable(&self.was), printable(&self.set))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Of the act that took it.
    pub key: ActionKey,
    pub incident: IncidentId,
    pub workload: WorkloadKey,
    pub action: ActionName,
    pub turns: Vec<Turn>,
    pub lasts: Duration,
}

impl Lease {
    /// What an intent will have to give back; None if it lends nothing.
    pub fn of(intent: &Intent) -> Option<Self> {
        let act = &intent.act;
        let lends = act.mode == Mode::Enforce && act.rung.action.is_lease() && !act.turns.is_empty();
        let term = if act.rung.action.is_standing() { STANDS_FOR } else { UNDO_AFTER };
        lends.then(|| Self {
            key: act.key.clone(),
            incident: act.incident,
            workload: act.workload.clone(),
            action: act.rung.action,
            turns: act.turns.clone(),
            lasts: act.rung.terms.undo_after.unwrap_or(term),
        })
    }

    /// What it turned is not of this boot alone.
    pub fn outlives_a_boot(&self) -> bool {
        self.turns.iter().any(|turn| turn.knob.outlives_a_boot())
    }

    /// What is left of it in another boot: the names of control groups and processes may be others' by now.
    pub fn after_a_boot(mut self) -> Self {
        self.turns.retain(|turn| turn.knob.outlives_a_boot());
        self
    }
}

/// Why a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Whether it stays well without it is watched next.
    Well,
    DidNotHelp,
    Expired,
    IncidentOver,
    Asked,
    Stopping,
    /// An earlier life of the agent took it.
    Restarted,
}

impl Why {
    pub fn words(self) -> &'static str {
        match self {
            Self::Well => "it is well",
            Self::DidNotHelp => "it did not help",
            Self::Expired => "its time is over",
            Self::IncidentOver => "the incident is over",
            Self::Asked => "somebody asked for it",
            Self::Stopping => "healer stops",
            Self::Restarted => "healer had ended while it was in force",
        }
    }
}

/// For the hands: turn back whatever still is as we set it. Nothing, if another lease goes on holding all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Undo {
    pub key: ActionKey,
    pub turns: Vec<Turn>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Undone {
    pub key: ActionKey,
    pub says: String,
    /// Nothing of it is in force any more, or somebody else has taken it over.
    pub complete: bool,
}

/// The answer to a survey: what the act would turn, or why it cannot.
#[derive(Clone, Debug, PartialEq)]
pub struct Surveyed {
    pub key: ActionKey,
    pub turns: Result<Vec<Turn>, ActionOutcome>,
}

/// All that is lent now.
#[derive(Debug, Default)]
pub(super) struct Leases(BTreeMap<ActionKey, Held>);

#[derive(Debug)]
struct Held {
    lease: Lease,
    state: State,
    /// A person knows already that it cannot be undone now.
    told: bool,
    /// Stands although its incident, a death, is closed: it may yet be that the owner heals it.
    is_left_over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// The act is under way: what it is about to turn cannot be turned back before.
    Taking {
        then: Option<Why>,
    },
    InForce {
        until: BootTime,
    },
    Undoing {
        why: Why,
        until: BootTime,
    },
    Stuck {
        why: Why,
        again_at: BootTime,
    },
}

impl Leases {
    pub(super) fn take(&mut self, lease: Lease) {
        self.0.insert(lease.key.clone(), Held::new(lease, State::Taking { then: None }));
    }

    /// The act is over. Returns why it is to be undone at once, if so.
    pub(super) fn taken(&mut self, now: BootTime, key: &ActionKey, took_effect: bool) -> Option<Why> {
        let held = self.0.get_mut(key)?;
        let State::Taking { then } = held.state else {
            return None;
        };
        held.state = State::InForce { until: now + held.lease.lasts };
        then.or((!took_effect).then_some(Why::DidNotHelp))
    }

    /// What another lease has turned in the cluster already is held by both: the last of them turns it back.
    pub(super) fn join(&self, turns: &mut [Turn]) {
        let lent = || self.0.values().filter(|held| held.is_lent()).flat_map(|held| &held.lease.turns);
        for turn in turns.iter_mut().filter(|turn| turn.knob.is_afar()) {
            if let Some(first) = lent().find(|first| first.knob == turn.knob) {
                turn.set.clone_from(&first.set);
            }
        }
    }

    /// Those of a lease's turns that no other holds.
    fn only_of(&self, key: &ActionKey) -> Vec<Turn> {
        let Some(held) = self.0.get(key) else { return Vec::new() };
        let others = || self.0.iter().filter(|(other, held)| *other != key && held.is_lent());
        let is_shared =
            |turn: &Turn| turn.knob.is_afar() && others().any(|(_, held)| held.lease.turns.contains(turn));
        held.lease.turns.iter().filter(|turn| !is_shared(turn)).cloned().collect()
    }

    /// What the hands have to do, unless they are at it already.
    pub(super) fn release(&mut self, now: BootTime, key: &ActionKey, why: Why) -> Option<Undo> {
        let turns = self.only_of(key);
        let held = self.0.get_mut(key)?;
        match &mut held.state {
            State::Taking { then } => {
                then.get_or_insert(why);
                return None;
            }
            State::Undoing { .. } => return None,
            State::InForce { .. } | State::Stuck { .. } => {}
        }
        held.state = State::Undoing { why, until: now + UNDO_LIMIT };
        Some(Undo { key: key.clone(), turns })
    }

    /// What an earlier life had lent: nobody is at it any more.
    pub(super) fn inherit(&mut self, now: BootTime, lease: Lease) {
        let state = State::InForce { until: now };
        self.0.insert(lease.key.clone(), Held::new(lease, state));
    }

    /// Of an incident, those in force or being taken that are part of the cure, or those that stand beside it.
    pub(super) fn of_incident(&self, id: IncidentId, standing: bool) -> Vec<ActionKey> {
        let is_held = |held: &&Held| {
            held.lease.incident == id && held.is_lent() && held.lease.action.is_standing() == standing
        };
        self.0.values().filter(is_held).map(|held| held.lease.key.clone()).collect()
    }

    /// The incident is over, its patient is dead, and what stands beside it stands on.
    pub(super) fn leave_over(&mut self, id: IncidentId) {
        let stands = |held: &&mut Held| held.lease.incident == id && held.lease.action.is_standing();
        self.0.values_mut().filter(stands).for_each(|held| held.is_left_over = true);
    }

    pub(super) fn left_over(&self) -> impl Iterator<Item = &Lease> {
        let in_force = |held: &&Held| held.is_left_over && matches!(held.state, State::InForce { .. });
        self.0.values().filter(in_force).map(|held| &held.lease)
    }

    pub(super) fn all(&self) -> Vec<&Lease> {
        self.0.values().map(|held| &held.lease).collect()
    }

    pub(super) fn is_in_force(&self, id: IncidentId) -> bool {
        let is = |held: &Held| {
            held.lease.incident == id
                && matches!(held.state, State::InForce { .. })
                && !held.lease.action.is_standing()
        };
        self.0.values().any(is)
    }

    pub(super) fn is_undoing(&self, id: IncidentId) -> bool {
        let is = |held: &Held| held.lease.incident == id && held.is_undoing();
        self.0.values().any(|held| is(held) && !held.lease.action.is_standing())
    }

    /// Who is being undone on this workload.
    pub(super) fn undoing_on(&self, workload: &WorkloadKey) -> Option<&Lease> {
        let on_it = |held: &&Held| held.lease.workload == *workload && held.is_undoing();
        let is_cure = |held: &&Held| !held.lease.action.is_standing();
        self.0.values().filter(is_cure).find(on_it).map(|held| &held.lease)
    }

    /// What another incident has lent to this workload.
    pub(super) fn lent_to(&self, workload: &WorkloadKey, but: IncidentId) -> Option<&Lease> {
        let lent =
            |held: &&Held| held.lease.workload == *workload && held.lease.incident != but && !held.is_stuck();
        let is_cure = |held: &&Held| !held.lease.action.is_standing();
        self.0.values().filter(is_cure).find(lent).map(|held| &held.lease)
    }

    /// Whose time is over.
    pub(super) fn due(&self, now: BootTime) -> Vec<(ActionKey, Due)> {
        let due = self.0.values().filter_map(|held| Some((held.lease.key.clone(), held.due(now)?)));
        due.collect()
    }

    pub(super) fn deadline(&self) -> Option<BootTime> {
        self.0.values().filter_map(Held::deadline).min()
    }

    /// The hands have answered. Returns the lease, why it was undone, and whether this is news.
    pub(super) fn undone(&mut self, now: BootTime, undone: &Undone) -> Option<(Lease, Why, bool)> {
        let held = self.0.get_mut(&undone.key)?;
        let State::Undoing { why, .. } = held.state else {
            return None;
        };
        if undone.complete {
            return self.0.remove(&undone.key).map(|held| (held.lease, why, true));
        }
        held.state = State::Stuck { why, again_at: now + TRY_AGAIN };
        let is_news = !core::mem::replace(&mut held.told, true);
        Some((held.lease.clone(), why, is_news))
    }

    /// Of those that the hands are at.
    pub(super) fn left(&self) -> usize {
        self.0.values().filter(|held| !held.is_stuck()).count()
    }
}

pub(super) enum Due {
    Release(Why),
    /// The hands never answered.
    NoAnswer,
}

impl Held {
    fn new(lease: Lease, state: State) -> Self {
        Self { lease, state, told: false, is_left_over: false }
    }

    fn is_lent(&self) -> bool {
        matches!(self.state, State::Taking { .. } | State::InForce { .. })
    }

    fn is_undoing(&self) -> bool {
        matches!(self.state, State::Undoing { .. })
    }

    fn is_stuck(&self) -> bool {
        matches!(self.state, State::Stuck { .. })
    }

    fn deadline(&self) -> Option<BootTime> {
        match self.state {
            State::Taking { .. } => None,
            State::InForce { until } | State::Undoing { until, .. } => Some(until),
            State::Stuck { again_at, .. } => Some(again_at),
        }
    }

    fn due(&self, now: BootTime) -> Option<Due> {
        if self.deadline()? > now {
            return None;
        }
        match self.state {
            State::Taking { .. } => None,
            State::InForce { .. } => Some(Due::Release(Why::Expired)),
            State::Stuck { why, .. } => Some(Due::Release(why)),
            State::Undoing { .. } => Some(Due::NoAnswer),
        }
    }
}
