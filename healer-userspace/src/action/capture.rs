//! Keeps what the patient looks like now, with its incident. Reads only, so that shadow does it too.

use super::{host::Host, reach};
use crate::engine::command::{Act, ActionOutcome};

pub(super) async fn run(act: &Act, host: &dyn Host) -> ActionOutcome {
    match host.capture(act).await {
        Ok(says) => host.outcome(says),
        Err(error) => reach::failed("keep the evidence", &error),
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        action::{
            host::fake::Fake,
            tests::{TARGET, act, perform, plain},
        },
        engine::policy::{ActionName, Mode},
    };

    /// A look touches nobody: shadow takes it as well.
    #[test]
    fn evidence_is_kept_in_every_mode() {
        for (mode, outcome) in [(Mode::Enforce, "done"), (Mode::Shadow, "would_do")] {
            let host = Fake::with([(TARGET, plain())]);
            let mut act = act(ActionName::Capture);
            act.mode = mode;
            assert_eq!(perform(&act, &host).name(), outcome);
            assert_eq!(host.done(), ["capture 7"]);
        }
    }
}
