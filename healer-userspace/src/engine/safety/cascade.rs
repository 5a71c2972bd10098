//! Whoever fails because something below it fails is not healed, but held: the root is. What has not recovered by
//! itself once the root is well is healed then.

use core::time::Duration;

use super::{Facts, Proposal, Ruling};
use crate::engine::class::Class;

const ASK_AGAIN: Duration = Duration::from_secs(2);

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
        (None, None) => Ruling::pass("nothing that it uses fails"),
    }
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
