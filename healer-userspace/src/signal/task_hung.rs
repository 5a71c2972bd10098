use healer_common::event::task_hung::TaskHung as Record;

use super::{Fact, Meaning, Raw, Seen, TaskHung, raw};
use crate::engine::time::BootTime;

pub(super) fn interpret(at: BootTime, event: &Record) -> Meaning {
    let seen = Seen {
        task: raw::party(&event.task).unwrap_or_default(),
        cgroup: raw::cgroup(&event.cgroup),
        ..Seen::default()
    };
    let fact = Fact::TaskHung(TaskHung {
        tid: event.pid,
        holder: event.blocker_owner,
        is_kernel: event.flags & Record::KERNEL_THREAD != 0,
    });
    Meaning::Happened(Raw { at, seen: Some(seen), fact, at_limit: None, owner: None })
}
