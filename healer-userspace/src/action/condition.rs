//! A condition of the node that is true while the patient is sick: medik8s, Karpenter and clouds repair by those.

use super::{
    host::Host,
    lease::{Survey, failed},
};
use crate::{
    engine::{
        command::Act,
        lease::{Knob, Turn},
    },
    text::printable,
};

pub(super) fn survey(act: &Act, host: &dyn Host) -> Survey {
    let node = host.node().map_err(failed)?;
    let name = act.rung.terms.condition.clone().ok_or_else(|| failed("the rung names no condition"))?;
    // The key makes it ours: another condition of that name is not taken back.
    let set = format!("True: {} of {} ({})", act.class, printable(&act.workload.0), act.key);
    Ok(vec![Turn { knob: Knob::Condition { node, name }, was: "False".to_owned(), set }])
}
