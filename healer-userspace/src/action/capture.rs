//! Keeps what the patient looks like now, with its incident. Reads only, so that shadow does it too.

use super::{host::Host, reach};
use crate::engine::command::{Act, ActionOutcome};

pub(super) async fn run(act: &Act, host: &dyn Host) -> ActionOutcome {
    match host.capture(act).await {
        Ok(says) => host.outcome(says),
        Err(error) => reach::failed("keep the evidence", &error),
    }
}
