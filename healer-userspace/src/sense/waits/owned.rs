//! Waits of which the kernel, or the lock itself, names the one who can end them.

use healer_common::task_scan::TaskRecord;

use super::{futex::Sight, namespace::Who, procfs::Proc, table::Sleeper, world};
use crate::signal::waits::{Owner, Source, Wait, WaitKind};

/// The wait for a lock that says who holds it.
pub(super) fn owned(sleeper: &Sleeper, who: Who) -> Option<Wait> {
    let Some(Sight::Owned { kind, lock, word, tid, by_kernel }) = &sleeper.sight else {
        return None;
    };
    let tgid = sleeper.record.tgid;
    let is_private = sleeper.call.is_some_and(|call| call.is_private);
    let owner = match who {
        // A thread id of another process in a private lock: it was given to somebody new.
        Who::Thread { tgid: other, .. }
            if is_private && other != tgid && !world::shares_memory(tgid, other) =>
        {
            Owner::Gone(*tid)
        }
        Who::Thread { tid, .. } => Owner::Task(tid),
        Who::Gone => Owner::Gone(*tid),
        Who::Unknown => return None,
    };
    // Robust and PI locks of the dead are passed on by the kernel: an owner that is gone is a misread word.
    if *by_kernel && matches!(owner, Owner::Gone(_)) {
        return None;
    }
    Some(Wait {
        kind: *kind,
        lock: format!("{lock:#x}"),
        source: if *by_kernel { Source::Kernel } else { Source::Layout },
        word: Some(*word),
        owners: vec![owner],
        says: format!("futex word {word:#x}, {} of thread {tid}", kind.phrase().trim_start_matches("for ")),
    })
}

/// The wait for the end of a thread.
pub(super) fn joined(sleeper: &Sleeper, word: u32, by_kernel: bool, who: Who) -> Option<Wait> {
    let record = &sleeper.record;
    let Who::Thread { tid, tgid } = who else {
        return None;
    };
    (tgid == record.tgid && tid != record.pid).then(|| Wait {
        kind: WaitKind::Join,
        lock: String::new(),
        source: if by_kernel { Source::Kernel } else { Source::Layout },
        word: Some(word),
        owners: vec![Owner::Task(tid)],
        says: match by_kernel {
            true => format!("the kernel clears the word {word} when thread {tid} ends"),
            false => format!("sleeps on the detach_state of musl's thread {tid}"),
        },
    })
}

/// The wait of a parent for the exec or the end of its child.
pub(super) fn vfork(proc: &Proc, record: &TaskRecord) -> Option<Wait> {
    let children = proc.children(record.tgid, record.pid);
    (!children.is_empty()).then(|| Wait {
        kind: WaitKind::Vfork,
        lock: String::new(),
        source: Source::Kernel,
        word: None,
        says: format!("vfork, children {children:?}"),
        owners: children.into_iter().map(Owner::Process).collect(),
    })
}
