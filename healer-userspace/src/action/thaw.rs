//! Lets run what is halted, whoever halted it. Not borrowed: nothing halts it again.

use super::{freeze, host::Host, lease};
use crate::engine::command::{Act, ActionOutcome};

pub(super) async fn run(act: &Act, host: &dyn Host) -> ActionOutcome {
    match freeze::turns(act, host, false) {
        Ok(turns) if turns.is_empty() => host.outcome("it is not halted".to_owned()),
        Ok(turns) => lease::run(&Act { turns, ..act.clone() }, host).await,
        Err(outcome) => outcome,
    }
}
