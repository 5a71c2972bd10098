//! `oom_score_adj`: when memory runs out, others go first.

use super::{
    host::Host,
    lease::{self, Survey, failed},
    reach,
};
use crate::engine::{
    command::Act,
    lease::{Knob, Turn},
};

/// A rung without `oomScoreAdj`.
const ADJ: i32 = -500;

pub(super) fn survey(act: &Act, host: &dyn Host) -> Survey {
    let reach = reach::everybody(act, host)?;
    let wanted = act.rung.terms.oom_score_adj.unwrap_or(ADJ);
    let mut turns = Vec::new();
    for one in &reach.held {
        let knob = Knob::OomScoreAdj(one.id);
        let was = lease::read(&knob, host)?;
        if was.parse::<i32>().is_ok_and(|was| wanted < was) {
            turns.push(Turn { knob, was, set: wanted.to_string() });
        }
    }
    if turns.is_empty() {
        return Err(failed(format!("{} is protected by at least {wanted} already", reach.what)));
    }
    Ok(turns)
}
