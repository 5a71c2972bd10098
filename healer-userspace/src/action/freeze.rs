//! Halts the scope. A unit or container through its owner; a cgroup by its freezer, which nobody inside can see or
//! undo; one process, and a cgroup without a freezer of its own, by SIGSTOP.

use super::{
    host::{Control, Domain, Host},
    lease::{self, Survey, failed},
    reach::{self, Reach},
};
use crate::engine::{
    command::{Act, ActionOutcome},
    lease::{Account, Knob, Turn},
};

/// To be stopped one by one.
const MANY: usize = 256;

pub(super) fn survey(act: &Act, host: &dyn Host) -> Survey {
    let turns = turns(act, host, true)?;
    if turns.is_empty() {
        return Err(failed("it is halted already, by somebody else"));
    }
    Ok(turns)
}

/// What stands between the scope and being halted, or running.
pub(super) fn turns(act: &Act, host: &dyn Host, halt: bool) -> Survey {
    let reach = reach::everybody(act, host)?;
    let by_owner = reach.domain.as_ref().and_then(|_| host.owned(&act.target, Account::Running));
    let freezer = match by_owner {
        Some(knob) => {
            reach::spare_owned(act, host)?;
            Some(knob)
        }
        None => freezer(&reach, act, host)?,
    };
    let knobs = match freezer {
        Some(freezer) => vec![freezer],
        None if MANY < reach.held.len() => {
            let many = reach.held.len();
            return Err(failed(format!("{} has no freezer, and {many} processes are too many", reach.what)));
        }
        None => reach.held.iter().map(|one| Knob::Running(one.id)).collect(),
    };
    let mut turns = Vec::new();
    for knob in knobs {
        let was = lease::read(&knob, host)?;
        let set = word(&knob, halt);
        if was != set {
            turns.push(Turn { knob, was, set: set.to_owned() });
        }
    }
    Ok(turns)
}

/// Only the freezer of this very cgroup: on v1 a process may be in another one there.
fn freezer(reach: &Reach, act: &Act, host: &dyn Host) -> Result<Option<Knob>, ActionOutcome> {
    let Some(Domain::Cgroup { path, .. }) = &reach.domain else {
        return Ok(None);
    };
    let target = host.hold(act.target.id()).map_err(|gone| failed(gone.to_string()))?;
    let found = host.control(&target, Control::Freezer);
    let is_the_same = |knob: &Knob| matches!(knob, Knob::Cgroup { dir, .. } if dir.ends_with(path.as_str()));
    match found.ok().filter(is_the_same) {
        Some(knob) => {
            let objection = host.spare(&knob);
            objection.map_or(Ok(Some(knob)), |reason| Err(ActionOutcome::Refused { reason }))
        }
        None => Ok(None),
    }
}

fn word(knob: &Knob, halt: bool) -> &'static str {
    match knob {
        Knob::Cgroup { file, .. } if file == "cgroup.freeze" => {
            if halt {
                "1"
            } else {
                "0"
            }
        }
        Knob::Cgroup { .. } => {
            if halt {
                "FROZEN"
            } else {
                "THAWED"
            }
        }
        Knob::Unit { .. } | Knob::Container { .. } => {
            if halt {
                "halted"
            } else {
                "running"
            }
        }
        Knob::Running(_)
        | Knob::OpenFiles(_)
        | Knob::OomScoreAdj(_)
        | Knob::Cordon { .. }
        | Knob::Taint { .. }
        | Knob::Condition { .. } => {
            if halt {
                "stopped"
            } else {
                "running"
            }
        }
    }
}
