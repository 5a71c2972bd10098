//! For tests: the agent ends or stops itself at a chosen state of the journal, as if it had been struck there.
//!
//! `HEALER_FAIL_POINT=after_intent` sends SIGKILL to the agent itself, `HEALER_FAIL_POINT=after_intent:stop` sends
//! SIGSTOP, once. Read once, at start; whoever sets it owns the agent's environment and so could do the same.

use rustix::process::{Signal, getpid, kill_process};

const VARIABLE: &str = "HEALER_FAIL_POINT";

/// A state of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// The intent is on disk, the act has not started.
    AfterIntent,
    /// The act is over, its result has not been taken in.
    AfterAct,
    /// The result has been taken in, and is not on its way to the disk.
    BeforeResult,
}

#[derive(Debug, Default)]
pub(super) struct FailPoint(Option<(At, Signal)>);

impl FailPoint {
    /// # Errors
    /// The variable is set to something else.
    pub(super) fn from_environment() -> anyhow::Result<Self> {
        let Some(value) = std::env::var_os(VARIABLE) else {
            return Ok(Self::default());
        };
        let value = value.to_string_lossy();
        parse(&value).ok_or_else(|| anyhow::anyhow!("{VARIABLE}={value:?} is no fail point of this version"))
    }

    /// Raises the signal if this is the state that was chosen.
    pub(super) fn reached(&mut self, at: At) {
        if let Some((_, signal)) = self.0.take_if(|(chosen, _)| *chosen == at) {
            tracing::warn!("{VARIABLE}: {at:?}");
            // To ourselves: always permitted.
            kill_process(getpid(), signal).ok();
        }
    }
}

fn parse(value: &str) -> Option<FailPoint> {
    let (state, signal) = match value.split_once(':') {
        Some((state, "stop")) => (state, Signal::STOP),
        Some(_) => return None,
        None => (value, Signal::KILL),
    };
    let at = match state {
        "after_intent" => At::AfterIntent,
        "after_act" => At::AfterAct,
        "before_result" => At::BeforeResult,
        _unknown => return None,
    };
    Some(FailPoint(Some((at, signal))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_named_and_others_refused() {
        assert_eq!(parse("after_act").unwrap().0, Some((At::AfterAct, Signal::KILL)));
        assert_eq!(parse("after_intent:stop").unwrap().0, Some((At::AfterIntent, Signal::STOP)));
        for bad in ["", "after", "after_intent:", "after_intent:term"] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }
}
