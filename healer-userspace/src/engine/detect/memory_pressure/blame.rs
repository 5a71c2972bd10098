//! Whose growth it is, who suffers by it, and what failed meanwhile.

use core::time::Duration;

use super::{Context, Look};
use crate::{
    engine::{
        certificate::{called, mebibytes},
        diagnosis::Evidence,
        time::{BootTime, Human},
    },
    identity::process::Process,
    signal::memory::{LONG_MS, MemoryUser, RECENT_MS},
};

/// Who has to read its own pages again, most of all.
fn sufferer<'a>(look: &Look<'a>) -> Option<&'a MemoryUser> {
    let waits = look.users.iter().filter(|user| 0 < user.major_faults);
    waits.max_by_key(|user| (user.major_faults, user.anon))
}

/// `; leaky[7] grew by 80.0 MiB in 15s, and web[8] suffers from it`, if that is known.
pub(super) fn blame(look: &Look<'_>) -> String {
    let Some(culprit) = look.culprit else { return String::new() };
    let span = if culprit.grown_from_low <= culprit.grown_lately { RECENT_MS } else { LONG_MS };
    let over = Human(Duration::from_millis(culprit.watched_ms.min(span)));
    let workers = match culprit.workers {
        0 => String::new(),
        workers => format!("{workers} workers of "),
    };
    let (who, grown) = (called(&culprit.process), mebibytes(culprit.grown_of_late()));
    let another = sufferer(look).filter(|user| user.process.id() != culprit.process.id());
    let whom =
        another.map_or(String::new(), |user| format!(", and {} suffers from it", called(&user.process)));
    format!("; {workers}{who} grew by {grown} in {over}{whom}")
}

/// What failed meanwhile for want of memory stands beside it.
pub(super) fn evidence(
    context: &Context<'_>,
    at: BootTime,
    sentence: &str,
    look: &Look<'_>,
) -> Vec<Evidence> {
    let seen = Evidence { signal: "memory".to_owned(), at, says: sentence.to_owned() };
    let refused = look.users.iter().filter_map(|user| context.memory.refused(at, user.process.id()));
    [seen].into_iter().chain(refused.cloned()).collect()
}

/// Who suffers by it, and the biggest.
pub(super) fn related(target: &Process, look: &Look<'_>) -> Vec<Process> {
    let mut related: Vec<Process> = Vec::new();
    let suffers = sufferer(look).filter(|_| look.culprit.is_some());
    for user in suffers.into_iter().chain(look.users.iter().take(3)) {
        let is_new = related.iter().chain([target]).all(|one| one.id() != user.process.id());
        if is_new {
            related.push(user.process.clone());
        }
    }
    related
}
