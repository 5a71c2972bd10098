//! An operator, or whoever owns the pod, said: touch nothing.

use core::time::Duration;

use super::{Facts, Proposal, Ruling};
use crate::text::printable;

/// Nobody tells when an annotation goes.
const ASK_AGAIN: Duration = Duration::from_secs(10);

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    if let Some(by) = facts.paused {
        return Ruling::hold(None, format!("paused by {by}; `healer resume` lets it act"));
    }
    match by_owner(proposal, facts) {
        Some(says) => Ruling::hold(Some(proposal.now + ASK_AGAIN), says),
        None => Ruling::pass("not paused"),
    }
}

/// The API server knows best; a runtime knows what the pod was made with.
fn by_owner(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Option<String> {
    let annotation = proposal.policy.safety.pause.as_deref()?;
    let pod = proposal.target.place.pod.as_ref()?;
    let is_paused = facts.pod_is_paused.unwrap_or_else(|| pod.is_paused_by(annotation));
    let name = format!("{}/{}", pod.namespace, pod.name);
    is_paused.then(|| format!("paused by the annotation {annotation} of pod {}", printable(&name)))
}
