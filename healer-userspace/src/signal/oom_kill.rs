use healer_common::event::oom_kill::OomKill as Record;

use super::{Fact, Meaning, OomKill, OomScope, Raw, Seen, raw};
use crate::engine::time::BootTime;

pub(super) fn interpret(at: BootTime, event: &Record) -> Meaning {
    let seen = Seen {
        task: raw::party(&event.victim).unwrap_or_default(),
        cgroup: raw::memory_cgroup(event.victim_memcg),
        ..Seen::default()
    };
    Meaning::Happened(Raw {
        at,
        seen: Some(seen),
        fact: Fact::OomKilled(OomKill {
            scope: scope(event.scope),
            is_scope_guessed: is_guessed(event),
            trigger: raw::party(&event.trigger).unwrap_or_default(),
            memcg: String::new(),
            usage: event.usage_bytes,
            limit: event.limit_bytes,
        }),
        at_limit: raw::memory_cgroup(event.oom_memcg),
        owner: None,
    })
}

fn is_guessed(event: &Record) -> bool {
    let is_told = event.flags & (Record::SCOPE_FROM_STACK | Record::FROM_LOG) != 0;
    event.scope != Record::SCOPE_UNKNOWN && !is_told
}

fn scope(scope: u32) -> OomScope {
    match scope {
        Record::SCOPE_MEMCG => OomScope::Memcg,
        Record::SCOPE_GLOBAL => OomScope::Global,
        _ => OomScope::Unknown,
    }
}
