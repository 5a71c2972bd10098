use healer_common::event::process_exit::ProcessExit;

use super::{Exit, Fact, Meaning, Raw, Seen, SeenBy, raw};
use crate::engine::time::BootTime;

pub(super) fn interpret(at: BootTime, event: &ProcessExit) -> Meaning {
    if event.flags & ProcessExit::SELF_PROBE != 0 {
        return Meaning::SelfProbe { at, thread: event.pid };
    }
    let seen = Seen {
        task: raw::party(&event.task).unwrap_or_default(),
        parent: raw::party(&event.parent),
        cgroup: raw::cgroup(&event.cgroup),
        exe: raw::exe(&event.exe),
        filename: raw::filename(&event.args),
        args: raw::argv(&event.args),
    };
    Meaning::Happened(Raw {
        at,
        seen: Some(seen),
        fact: Fact::Exited(Exit {
            code: event.exit_code().map_or(0, i32::from),
            signal: event.signal().map(i32::from),
            core: event.dumped_core(),
            seen_by: seen_by(event.flags),
        }),
        at_limit: None,
        owner: None,
    })
}

fn seen_by(flags: u32) -> SeenBy {
    if flags & ProcessExit::NO_STATUS != 0 {
        SeenBy::NoStatus
    } else if flags & ProcessExit::INFERRED != 0 {
        SeenBy::Inferred
    } else if flags & ProcessExit::BY_CONNECTOR != 0 {
        SeenBy::Connector
    } else {
        SeenBy::Kernel
    }
}
