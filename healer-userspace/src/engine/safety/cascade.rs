//! Whoever fails because something below it fails is not healed, but held: the root is. What has not recovered by
//! itself once the root is well is healed then.

use core::time::Duration;

use super::{Facts, Proposal, Ruling};
use crate::engine::class::Class;

const ASK_AGAIN: Duration = Duration::from_secs(2);
/// A verdict on what it uses may come at any moment.
const ASK_SOON: Duration = Duration::from_secs(1);
const NOT_KNOWN_YET: &str = "whose fault it is is not known yet: ";

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    let class = proposal.diagnosis.class;
    if !may_be_anothers_fault(class) {
        return Ruling::pass(format!("{class} is nobody else's fault"));
    }
    match (facts.root, facts.recovers_until.filter(|until| proposal.now < *until)) {
        (Some(root), _) => {
            Ruling::hold(Some(proposal.now + ASK_AGAIN), format!("not its own fault: {}", root.says))
        }
        (None, Some(until)) => {
            Ruling::hold(Some(until), "what it depends on is well again: it may recover by itself")
        }
        (None, None) => await_verdict(proposal, facts),
    }
}

/// That it is cut off is itself what such a silence shows.
fn await_verdict(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    match facts.awaited.filter(|_| proposal.diagnosis.class != Class::NetworkIsolation) {
        Some(awaited) => {
            let until = awaited.until.min(proposal.now + ASK_SOON);
            Ruling::hold(Some(until), format!("{NOT_KNOWN_YET}{}", awaited.says))
        }
        None => Ruling::pass("nothing that it uses fails"),
    }
}

/// What it is held for may still turn out: that is told once it does.
pub(in crate::engine) fn is_interim(reason: &str) -> bool {
    reason.starts_with(NOT_KNOWN_YET)
}

/// What a dead dependency does to those who use it. A proof, or an end of its own, is its own.
pub(in crate::engine) fn may_be_anothers_fault(class: Class) -> bool {
    match class {
        Class::Hang
        | Class::ProbeFailed
        | Class::CrashLoop
        | Class::ListenOverflow
        | Class::NetworkIsolation
        | Class::FdExhaustion
        | Class::PortExhaustion
        | Class::PidExhaustion => true,
        Class::Down
        | Class::Crash
        | Class::OomKill
        | Class::MemoryPressure
        | Class::MemoryLeak
        | Class::Deadlock
        | Class::Starved
        | Class::CpuThrottled
        | Class::DependencyFailure
        | Class::DegradedPath
        | Class::DiskFull
        | Class::IoError
        | Class::Unkillable
        | Class::ZombieChildren => false,
    }
}
