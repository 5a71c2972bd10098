//! One piece of evidence in words.

use core::time::Duration;

use crate::{
    engine::time::Human,
    signal::network::{ConnectionFailed, FailureCause, Retransmitted},
};

pub(super) fn failed(failed: &ConnectionFailed) -> String {
    let what = match failed.cause {
        FailureCause::Refused => "refused",
        FailureCause::Unreachable => "unreachable",
        FailureCause::TimedOut => "timed out",
        FailureCause::Reset => "broken off",
        FailureCause::GaveUp => "no answer, the client gave up",
    };
    let age = failed.age_us.map(|us| format!(" after {}", Human(Duration::from_micros(us))));
    format!("connection to {} {what}{}", failed.flow.peer, age.unwrap_or_default())
}

pub(super) fn retransmitted(sent: &Retransmitted) -> String {
    let what = if sent.connecting { "the request for a connection" } else { "data" };
    let refused = sent.local_error.map(|error| format!("; this machine would not send it (errno {error})"));
    format!(
        "{what} to {} sent again, {} time-outs in a row{}",
        sent.flow.peer,
        sent.retransmits,
        refused.unwrap_or_default()
    )
}
