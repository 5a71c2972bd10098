use healer_common::event::reclaim_stall::ReclaimStall as Record;

use super::{Fact, Meaning, Raw, Seen, memory::ReclaimStalled, raw};
use crate::engine::time::BootTime;

pub(super) fn interpret(at: BootTime, event: &Record) -> Meaning {
    let seen = Seen {
        task: raw::party(&event.task).unwrap_or_default(),
        cgroup: raw::cgroup(&event.cgroup),
        ..Seen::default()
    };
    let fact = Fact::ReclaimStalled(ReclaimStalled {
        node: event.scope == Record::SCOPE_NODE,
        took_us: event.took_ns / 1000,
        pages: event.pages,
        calls: event.calls,
        poor: event.poor,
    });
    Meaning::Happened(Raw { at, seen: Some(seen), fact, at_limit: None, owner: None })
}
