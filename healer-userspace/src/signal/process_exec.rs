use healer_common::event::process_exec::ProcessExec;

use super::{Fact, Meaning, Raw, Seen, raw};
use crate::engine::time::BootTime;

pub(super) fn interpret(at: BootTime, event: &ProcessExec) -> Meaning {
    let seen = Seen {
        task: raw::party(&event.task).unwrap_or_default(),
        parent: raw::party(&event.parent),
        cgroup: raw::cgroup(&event.cgroup),
        exe: raw::exe(&event.exe),
        filename: raw::filename(&event.args),
        args: raw::argv(&event.args),
    };
    Meaning::Happened(Raw { at, seen: Some(seen), fact: Fact::Execed, at_limit: None, owner: None })
}
