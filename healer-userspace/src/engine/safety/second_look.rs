//! Orders the look that the hands take just before the blow; their refusal is this gate's verdict.

use super::{Facts, Proposal, Ruling};
use crate::engine::{
    certificate::Certificate, class::Class, command::Look, diagnosis::Diagnosis, policy::ActionName,
};

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    let class = proposal.diagnosis.class;
    let strikes = proposal.rung.action.is_destructive() && proposal.rung.action != ActionName::RunHook;
    if facts.deaf && strikes {
        return Ruling::refuse("no signal can end it (unkillable): striking again would change nothing");
    }
    if proposal.rung.action.is_standing() {
        return Ruling::pass("it touches no process");
    }
    if is_restart_of_podmans(proposal) && may_have_been_stopped(proposal.diagnosis) {
        return Ruling::refuse(
            "podman tells nobody of a stop, and no kernel program saw how this end came about: it may have been \
             stopped on purpose",
        );
    }
    let resets = proposal.rung.action == ActionName::ResetConnections;
    match (resets, is_of_dead_connections(proposal.diagnosis)) {
        (true, true) => {
            return Ruling::pass("the hands look again at each connection just before they end it");
        }
        (true, false) => {
            return Ruling::refuse(
                "only connections that stay dead although their peer is well can be reset: kind stale",
            );
        }
        (false, _) => {}
    }
    if cannot_be_repeated(class) && proposal.rung.action != ActionName::RunHook {
        return Ruling::refuse(format!(
            "what shows {class} cannot be looked at again just before an act yet; notify and run_hook answer it"
        ));
    }
    Ruling::pass("the hands look again just before the act")
}

fn is_restart_of_podmans(proposal: &Proposal<'_>) -> bool {
    let place = &proposal.target.place;
    let is_podmans = place.container.as_ref().is_some_and(|container| container.runtime == "podman");
    is_podmans && proposal.rung.action == ActionName::Restart && place.supervise.is_none()
}

fn may_have_been_stopped(diagnosis: &Diagnosis) -> bool {
    diagnosis.detail.certificate.as_ref().is_some_and(Certificate::is_as_of_a_stop)
}

/// Their evidence comes from many connections over time: one look cannot repeat it, and a false one would hit clients
/// of something that is dead.
fn cannot_be_repeated(class: Class) -> bool {
    matches!(
        class,
        Class::NetworkIsolation | Class::DependencyFailure | Class::DegradedPath | Class::ListenOverflow
    )
}

fn is_of_dead_connections(diagnosis: &Diagnosis) -> bool {
    diagnosis.class == Class::DependencyFailure && diagnosis.detail.kind.as_deref() == Some("stale")
}

pub(super) fn looks(proposal: &Proposal<'_>, active: &[Class], target_is_dead: bool) -> Vec<Look> {
    let id = proposal.target.id();
    if proposal.rung.action.is_standing() || moves_what_loops(proposal) {
        Vec::new()
    } else if target_is_dead {
        vec![Look::StillDown(id)]
    } else {
        if proposal.rung.action == ActionName::ResetConnections {
            let dead = proposal.diagnosis.detail.proof.clone().map(Look::ConnectionsDead);
            return [Look::SameProcess(id), Look::NotProtected(id)].into_iter().chain(dead).collect();
        }
        let is_deadlock = proposal.diagnosis.class == Class::Deadlock;
        let proof = proposal.diagnosis.detail.proof.clone().filter(|_| is_deadlock);
        let short = proposal.diagnosis.detail.proof.clone().filter(|_| wants_room(proposal));
        let proof = proof.map(Look::ProofHolds).or(short.map(Look::MemoryShort));
        let second = wants_second_reason(proposal, active).then_some(Look::SecondReason(id));
        [Look::SameProcess(id), Look::NotProtected(id)].into_iter().chain(second).chain(proof).collect()
    }
}

/// The pod is meant, whichever life of its container goes on in it; its uid is looked at again.
fn moves_what_loops(proposal: &Proposal<'_>) -> bool {
    proposal.rung.action == ActionName::Evict && proposal.diagnosis.class == Class::CrashLoop
}

/// What a lease lends it gives back; whoever is ended stays so. After a neighbour's death there may be room, and whose
/// growth took it may have given it back.
fn wants_room(proposal: &Proposal<'_>) -> bool {
    let (class, kind) = (proposal.diagnosis.class, proposal.diagnosis.detail.kind.as_deref());
    let is_leak = class == Class::MemoryLeak && matches!(kind, Some("forecast" | "neighbour"));
    (is_leak || class == Class::MemoryPressure)
        && proposal.rung.action.is_destructive()
        && proposal.rung.action != ActionName::RunHook
}

/// Work that waits or a probe that fails is a second reason; else the hands ask whether it listens.
fn wants_second_reason(proposal: &Proposal<'_>, active: &[Class]) -> bool {
    let by_closed_world = proposal.diagnosis.detail.kind.as_deref() == Some("closed_world");
    let has_another = active.iter().any(|class| matches!(class, Class::Hang | Class::ProbeFailed));
    proposal.rung.action.is_destructive() && by_closed_world && !has_another
}
