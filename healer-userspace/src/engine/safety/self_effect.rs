//! What our own act did is no new fault.

use core::time::Duration;

use super::{Facts, Proposal, Ruling};
use crate::engine::class::Class;

const ASK_AGAIN: Duration = Duration::from_secs(2);

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    let certificate = proposal.diagnosis.detail.certificate.as_ref();
    if let Some(key) = certificate.and_then(|certificate| certificate.own.as_ref()) {
        return Ruling::refuse(format!("our own act {key} did this"));
    }
    let class = proposal.diagnosis.class;
    match facts.lent.filter(|_| may_come_of_a_lease(class)) {
        Some(lease) => Ruling::hold(
            Some(proposal.now + ASK_AGAIN),
            format!("{lease} is in force on this workload, and {class} may come of that"),
        ),
        None => Ruling::pass("not our own doing"),
    }
}

/// Who is halted or slowed does not answer, gets no CPU, and presses against what it was left.
fn may_come_of_a_lease(class: Class) -> bool {
    match class {
        Class::MemoryPressure
        | Class::Hang
        | Class::Starved
        | Class::CpuThrottled
        | Class::DependencyFailure
        | Class::ListenOverflow
        | Class::ProbeFailed => true,
        Class::Down
        | Class::Crash
        | Class::CrashLoop
        | Class::OomKill
        | Class::MemoryLeak
        | Class::Deadlock
        | Class::NetworkIsolation
        | Class::DegradedPath
        | Class::FdExhaustion
        | Class::PidExhaustion
        | Class::DiskFull
        | Class::PortExhaustion
        | Class::IoError
        | Class::Unkillable
        | Class::ZombieChildren => false,
    }
}
