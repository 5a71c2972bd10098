//! What is borrowed: turned as surveyed, confirmed, and turned back unless somebody else has turned it since.

use core::time::Duration;

use super::{
    host::{Afar, Host, Knobs},
    limit,
};
use crate::{
    engine::{
        command::{Act, ActionOutcome},
        lease::{Knob, Turn, Undo, Undone},
    },
    text::printable,
};

pub(super) type Survey = Result<Vec<Turn>, ActionOutcome>;

const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Steps that a sentence names; the rest is counted.
const NAMED: usize = 3;

pub(super) fn failed(error: impl Into<String>) -> ActionOutcome {
    ActionOutcome::Failed { error: error.into(), errno: None }
}

/// How it stands; an error if it is gone.
pub(super) fn read(knob: &Knob, host: &dyn Host) -> Result<String, ActionOutcome> {
    match host.read(knob) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(failed(format!("{knob}: it is gone"))),
        Err(error) => Err(super::reach::failed(&format!("cannot read {knob}"), &error)),
    }
}

pub(super) async fn run(act: &Act, host: &dyn Host) -> ActionOutcome {
    for turn in &act.turns {
        if let Err(outcome) = set(turn, act, host).await {
            return outcome;
        }
    }
    let past = if goes_past_an_owner(act) { "; its owner is not told" } else { "" };
    host.outcome(names(act.turns.iter().map(Turn::to_string)) + past)
}

/// In the group's own files.
fn goes_past_an_owner(act: &Act) -> bool {
    let place = &act.target.place;
    let is_file = |turn: &Turn| matches!(turn.knob, Knob::Cgroup { .. });
    (place.unit.is_some() || place.container.is_some()) && act.turns.iter().any(is_file)
}

async fn set(turn: &Turn, act: &Act, host: &dyn Host) -> Result<(), ActionOutcome> {
    let now = host.read(&turn.knob).ok().flatten();
    match now {
        // Of many, one may have ended.
        None if 1 < act.turns.len() => return Ok(()),
        Some(now) if now != turn.was => {
            let knob = &turn.knob;
            let reason = format!("{knob} is {} by now: somebody else turns it", printable(&now));
            return Err(ActionOutcome::Refused { reason });
        }
        Some(_) | None => {}
    }
    let tried = || format!("cannot set {}", turn.knob);
    host.set(&turn.knob, &turn.set).map_err(|error| super::reach::failed(&tried(), &error))?;
    let settled = async {
        while !host.has_taken(turn) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    match tokio::time::timeout(limit(act), settled).await {
        Ok(()) => Ok(()),
        Err(_) => {
            let now = host.read(&turn.knob).ok().flatten().unwrap_or_else(|| "gone".to_owned());
            Err(failed(format!("{turn}: the kernel shows {} still", printable(&now))))
        }
    }
}

/// Of what the API server has.
pub(super) async fn run_afar(act: &Act, host: &dyn Host) -> ActionOutcome {
    for turn in &act.turns {
        if let Err(outcome) = set_afar(turn, host).await {
            return outcome;
        }
    }
    host.outcome(names(act.turns.iter().map(Turn::to_string)))
}

async fn set_afar(turn: &Turn, host: &dyn Host) -> Result<(), ActionOutcome> {
    let Turn { knob, was, set } = turn;
    match host.read_afar(knob).await {
        Ok(Some(now)) if now == *was => {}
        // Another incident's act has set it, and both hold it (`Leases::join`).
        Ok(Some(now)) if now == *set => return Ok(()),
        Ok(Some(now)) => return Err(failed(format!("{knob} is {} already", printable(&now)))),
        Ok(None) => return Err(failed(format!("{knob}: it is gone"))),
        Err(error) => return Err(failed(format!("cannot read {knob}: {error}"))),
    }
    host.set_afar(knob, set).await.map_err(|error| failed(format!("cannot set {knob}: {error}")))
}

/// Like [`undo`], of what the API server has too.
pub async fn undo_afar(undo: &Undo, knobs: &(impl Knobs + Afar + ?Sized)) -> Undone {
    let mut told = Told::default();
    for turn in undo.turns.iter().rev() {
        let back = if turn.knob.is_afar() { back_afar(turn, knobs).await } else { turn_back(turn, knobs) };
        told.note(turn, back);
    }
    told.done(undo)
}

async fn back_afar(turn: &Turn, knobs: &(impl Afar + ?Sized)) -> Back {
    match knobs.read_afar(&turn.knob).await {
        Ok(Some(now)) if now == turn.set => match knobs.set_afar(&turn.knob, &turn.was).await {
            Ok(()) => Back::Restored,
            Err(error) => Back::Failed(error.to_string()),
        },
        read => looked(turn, read),
    }
}

/// The last turn first. Also without an agent.
pub fn undo(undo: &Undo, knobs: &(impl Knobs + ?Sized)) -> Undone {
    let mut told = Told::default();
    for turn in undo.turns.iter().rev() {
        told.note(turn, turn_back(turn, knobs));
    }
    told.done(undo)
}

enum Back {
    Restored,
    NothingToDo,
    SomebodyElse(String),
    Gone,
    Failed(String),
}

fn turn_back(turn: &Turn, knobs: &(impl Knobs + ?Sized)) -> Back {
    match knobs.read(&turn.knob) {
        Ok(Some(now)) if now == turn.set => match knobs.set(&turn.knob, &turn.was) {
            Ok(()) => Back::Restored,
            Err(error) => Back::Failed(error.to_string()),
        },
        read => looked(turn, read),
    }
}

/// It is not as we set it.
fn looked(turn: &Turn, read: std::io::Result<Option<String>>) -> Back {
    match read {
        Ok(None) => Back::Gone,
        Ok(Some(now)) if now == turn.was => Back::NothingToDo,
        Ok(Some(now)) => Back::SomebodyElse(now),
        Err(error) => Back::Failed(error.to_string()),
    }
}

#[derive(Default)]
struct Told {
    restored: Vec<String>,
    kept: Vec<String>,
    gone: usize,
    failed: Vec<String>,
}

impl Told {
    fn note(&mut self, turn: &Turn, back: Back) {
        let Turn { knob, was, .. } = turn;
        match back {
            Back::Restored => self.restored.push(format!("{knob} is {} again", printable(was))),
            Back::NothingToDo => self.kept.push(format!("{knob} was {} already", printable(was))),
            Back::SomebodyElse(now) => {
                self.kept.push(format!("{knob} is left at {}: somebody else has set it", printable(&now)));
            }
            Back::Gone => self.gone += 1,
            Back::Failed(error) => {
                self.failed.push(format!("{knob} cannot be set to {} again: {error}", printable(was)));
            }
        }
    }

    fn done(self, undo: &Undo) -> Undone {
        Undone { key: undo.key.clone(), complete: self.failed.is_empty(), says: self.words() }
    }

    fn words(self) -> String {
        let mut parts = Vec::new();
        for list in [self.failed, self.restored, self.kept] {
            if !list.is_empty() {
                parts.push(names(list.into_iter()));
            }
        }
        if 0 < self.gone {
            parts.push(format!("{} of what was turned is gone", self.gone));
        }
        if parts.is_empty() {
            return "another incident holds it still".to_owned();
        }
        parts.join("; ")
    }
}

fn names(list: impl ExactSizeIterator<Item = String>) -> String {
    let more = list.len().saturating_sub(NAMED);
    let named: Vec<_> = list.take(NAMED).collect();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", named.join(", "))
}
