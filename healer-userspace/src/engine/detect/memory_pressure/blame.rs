//! What is said of it: whose growth it is, who suffers by it, and what failed meanwhile.

use core::time::Duration;

use super::{Context, Finding, Look, NODE, Sign, subject};
use crate::{
    engine::{
        certificate::{called, mebibytes},
        class::{Certainty, Class},
        diagnosis::{Detail, Diagnosis, Evidence},
        time::{BootTime, Human},
    },
    identity::process::{Process, WorkloadKey},
    signal::memory::{LONG_MS, MemoryUser, RECENT_MS},
};

/// Whose growth has taken the room; where nobody's has, who suffers most by what shows it. The node is nobody: where
/// it has no culprit, it is only told.
pub(super) fn target(look: &Look<'_>, sign: Sign) -> Option<Process> {
    if let Some(culprit) = look.culprit {
        return Some(culprit.process.clone());
    }
    if look.cgroup.is_none() {
        let workload = WorkloadKey(NODE.to_owned());
        return Some(Process { comm: NODE.to_owned(), workload, ..Process::default() });
    }
    let by = |user: &&MemoryUser| match sign {
        Sign::Thrashes | Sign::Waits => (user.major_faults, user.anon),
        Sign::FindsNothing => (user.grown_lately, user.anon),
    };
    look.users.iter().max_by_key(by).map(|user| user.process.clone())
}

pub(super) fn raise(
    context: &Context<'_>,
    at: BootTime,
    bad: Duration,
    target: Process,
    sign: Sign,
    look: &Look<'_>,
) -> Finding {
    let (kind, what) = match sign {
        Sign::FindsNothing => ("exhausted", "reclaim finds nothing any more"),
        Sign::Thrashes => ("thrashing", "pages of running programs are dropped and read again"),
        Sign::Waits => ("waiting", "programs wait for memory"),
    };
    let kind = if look.cgroup.is_none() { NODE } else { kind };
    let biggest: Vec<_> = look.users.iter().take(3).collect();
    let users: Vec<_> =
        biggest.iter().map(|user| format!("{} {}", called(&user.process), mebibytes(user.anon))).collect();
    let users = if users.is_empty() { String::new() } else { format!("; it has {}", users.join(", ")) };
    let sentence = format!(
        "memory of {} is short for {}: {what}: {}{users}{}",
        look.whose,
        Human(bad),
        look.numbers,
        blame(look)
    );
    Finding::Raised {
        subject: subject(&target),
        diagnosis: Box::new(Diagnosis {
            class: Class::MemoryPressure,
            certainty: Certainty::Probable,
            related: related(&target, look),
            target,
            fault_at: at - bad,
            detected_at: context.now,
            evidence: evidence(context, at, &sentence, look),
            sentence,
            lost: 0,
            from_absence: false,
            detail: Detail {
                evidence_count: 1,
                kind: Some(kind.to_owned()),
                level: Some(look.level(sign)),
                proof: proof(look),
                ..Detail::default()
            },
        }),
    }
}

/// What the hands look at again before somebody is ended for it.
fn proof(look: &Look<'_>) -> Option<serde_json::Value> {
    let culprit = look.culprit?;
    Some(serde_json::json!({
        "scope": if look.cgroup.is_none() { NODE } else { "cgroup" },
        "cgroup": look.cgroup,
        "pid": culprit.process.pid,
        "workers": culprit.workers,
        "process_anon_bytes": culprit.anon,
        "grown_bytes": culprit.grown_of_late(),
    }))
}

/// Who has to read its own pages again, most of all.
fn sufferer<'a>(look: &Look<'a>) -> Option<&'a MemoryUser> {
    let waits = look.users.iter().filter(|user| 0 < user.major_faults);
    waits.max_by_key(|user| (user.major_faults, user.anon))
}

/// `; leaky[7] grew by 80.0 MiB in 15s, and web[8] suffers from it`, if that is known.
fn blame(look: &Look<'_>) -> String {
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
fn evidence(context: &Context<'_>, at: BootTime, sentence: &str, look: &Look<'_>) -> Vec<Evidence> {
    let seen = Evidence { signal: "memory".to_owned(), at, says: sentence.to_owned() };
    let refused = look.users.iter().filter_map(|user| context.memory.refused(at, user.process.id()));
    [seen].into_iter().chain(refused.cloned()).collect()
}

/// Who suffers by it, and the biggest.
fn related(target: &Process, look: &Look<'_>) -> Vec<Process> {
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
