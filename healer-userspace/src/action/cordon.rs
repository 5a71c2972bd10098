//! No new pods here; those that run stay. Who else has cordoned the node keeps it cordoned.

use super::{
    host::Host,
    lease::{Survey, failed},
};
use crate::engine::{
    command::Act,
    lease::{Knob, Turn},
};

pub(super) fn survey(act: &Act, host: &dyn Host) -> Survey {
    let node = host.node().map_err(failed)?;
    let set = format!("cordoned by healer ({})", act.key);
    Ok(vec![Turn { knob: Knob::Cordon { node }, was: "open".to_owned(), set }])
}
