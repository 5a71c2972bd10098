//! What is said of a leak.

use core::time::Duration;

use super::{Class, Context, Finding, MemoryUser, Rise, Subject, Why};
use crate::{
    engine::{
        certificate::{called, mebibytes},
        class::Certainty,
        diagnosis::{Detail, Diagnosis, Evidence},
        time::{BootTime, Human},
    },
    identity::process::Process,
    signal::{levels::share, memory::CgroupMemory},
    text,
};

pub(super) fn forecast(
    context: &Context<'_>,
    at: BootTime,
    memory: &CgroupMemory,
    user: &MemoryUser,
    why: &Why,
) -> Finding {
    let left = why.time_to(memory.limit);
    let (soon, since) = match why {
        Why::Rises(rise) => {
            let rate = mebibytes(rise.bytes_per_second as u64);
            (format!("grows by {rate} a second and is there in {}", Human(left)), rise.since)
        }
        Why::Doomed => ("is there: reclaim finds nothing any more".to_owned(), at),
    };
    let next = next_victim(memory, user);
    let whom = match next {
        None => "; it is the one that the OOM killer would choose".to_owned(),
        Some(next) => format!("; the OOM killer would choose {}", called(&next.process)),
    };
    let who = match user.workers {
        0 => "this process".to_owned(),
        workers => format!("{workers} like workers of it, none by half of that,"),
    };
    let sentence = format!(
        "{} leaks: {} of the {} that {} may have are taken for good, it {soon}; {who} grew by {} in {}{whom}",
        called(&user.process),
        mebibytes(memory.anon),
        mebibytes(memory.limit),
        text::printable(&memory.cgroup),
        mebibytes(user.grown_lately),
        Human(Duration::from_millis(user.watched_ms.min(crate::signal::memory::RECENT_MS))),
    );
    let proof = serde_json::json!({
        "cgroup": memory.cgroup,
        "anon_bytes": memory.anon,
        "limit_bytes": memory.limit,
        "bytes_per_second": match why { Why::Rises(rise) => rise.bytes_per_second as u64, Why::Doomed => 0 },
        "pid": user.process.pid,
        "workers": user.workers,
        "process_anon_bytes": user.anon,
        "grown_bytes": user.grown,
        "reserved_bytes": user.reserved,
        "next_victim": next.map(|next| next.process.pid),
    });
    let related = next.map(|next| next.process.clone()).into_iter().collect();
    let level = Some(share(memory.anon, memory.limit));
    raised(context, at, since, user, "forecast", left, level, sentence, related, proof)
}

pub(super) fn neighbour(
    context: &Context<'_>,
    at: BootTime,
    victim: &Process,
    cgroup: &str,
    leaker: &MemoryUser,
) -> Finding {
    let sentence = format!(
        "{} leaks, and {} was killed for it: it grew by {} in {} in {}, which has no room left",
        called(&leaker.process),
        called(victim),
        mebibytes(leaker.grown),
        Human(Duration::from_millis(leaker.watched_ms)),
        text::printable(cgroup),
    );
    let proof = serde_json::json!({
        "cgroup": cgroup, "pid": leaker.process.pid, "process_anon_bytes": leaker.anon, "grown_bytes": leaker.grown, "reserved_bytes": leaker.reserved, "killed": victim.pid,
    });
    raised(context, at, at, leaker, "neighbour", Duration::ZERO, None, sentence, vec![victim.clone()], proof)
}

pub(super) fn watched(memory: &CgroupMemory, user: &MemoryUser, rise: &Rise) -> Finding {
    let says = format!(
        "{} of {} in {} are taken for good and it grows by {} a minute: full in {} if that goes on; {} grew most",
        mebibytes(memory.anon),
        mebibytes(memory.limit),
        text::printable(&memory.cgroup),
        mebibytes((rise.bytes_per_second * 60.0) as u64),
        Human(rise.time_to(memory.limit)),
        called(&user.process),
    );
    Finding::Remark { event: "memory_watch", workload: user.process.workload.clone(), says }
}

pub(super) fn subject(culprit: &Process) -> Subject {
    Subject::Process(culprit.id(), Class::MemoryLeak)
}

/// After the culprit's end.
pub(super) fn room(memory: &CgroupMemory) -> String {
    let waited = memory.pressed_ms.map_or(String::new(), |ms| format!(", {ms} ms waited for memory"));
    let (anon, limit) = (mebibytes(memory.anon), mebibytes(memory.limit));
    format!("has ended, and {anon} of {limit} are taken for good now{waited}")
}

pub(super) fn cleared(culprit: &Process, says: &str) -> Finding {
    Finding::Cleared {
        subject: subject(culprit),
        class: Class::MemoryLeak,
        says: format!("{} {says}", called(culprit)),
    }
}

/// Whom the OOM killer would take, if not the culprit itself (mm/oom_kill.c `oom_badness`).
fn next_victim<'a>(memory: &'a CgroupMemory, culprit: &MemoryUser) -> Option<&'a MemoryUser> {
    let next = memory.users.iter().max_by_key(|user| (user.oom_score, user.anon))?;
    (next.process.id() != culprit.process.id()).then_some(next)
}

#[expect(clippy::too_many_arguments, reason = "one call each for the two ways to know it")]
fn raised(
    context: &Context<'_>,
    at: BootTime,
    since: BootTime,
    user: &MemoryUser,
    kind: &str,
    left: Duration,
    level: Option<f64>,
    sentence: String,
    related: Vec<Process>,
    proof: serde_json::Value,
) -> Finding {
    let seen = Evidence { signal: "memory".to_owned(), at, says: sentence.clone() };
    let refused = context.memory.refused(at, user.process.id()).cloned();
    Finding::Raised {
        subject: subject(&user.process),
        diagnosis: Box::new(Diagnosis {
            class: Class::MemoryLeak,
            certainty: Certainty::Probable,
            target: user.process.clone(),
            related,
            fault_at: since,
            detected_at: context.now,
            evidence: [seen].into_iter().chain(refused).collect(),
            sentence,
            lost: 0,
            from_absence: false,
            detail: Detail {
                evidence_count: 1,
                kind: Some(kind.to_owned()),
                time_to_limit_ms: u64::try_from(left.as_millis()).ok(),
                level,
                proof: Some(proof),
                ..Detail::default()
            },
        }),
    }
}
