//! The log line itself is written by the reporters from the engine's own report; there is nothing to do here.

use super::host::Host;
use crate::engine::command::{Act, ActionOutcome};

#[expect(clippy::unused_async, reason = "every action has the same shape")]
pub(super) async fn run(act: &Act, host: &dyn Host) -> ActionOutcome {
    host.outcome(format!("{} of {} reported", act.class, act.workload))
}
