//! Waits of a parent for its children.

use std::collections::BTreeSet;

use healer_common::task_scan::TaskRecord;

use super::{
    namespace::{Namespaces, Who},
    procfs::Proc,
};
use crate::signal::{
    calls::{WAIT4, WAITID},
    waits::{Owner, Source, Wait, WaitKind},
};

/// `idtype_t` of waitid(2).
const P_PID: u64 = 1;
/// SIGCHLD, as in a mask.
pub(super) const CHILD_SIGNAL: u64 = 1 << 16;
/// More are not looked at, and nothing is said.
const DESCENDANTS_MAX: usize = 64;

/// Whether it is in a system call that can wait for a child.
pub(super) fn is_wait(record: &TaskRecord) -> bool {
    matches!(record.syscall, WAIT4 | WAITID)
}

/// The wait for one child, or for any. A handler of a signal may end it: it is for ever in a closed world only. Of
/// whoever catches SIGCHLD, any child may end it.
pub(super) fn wait(proc: &Proc, namespaces: &mut Namespaces<'_>, record: &TaskRecord) -> Option<Wait> {
    let catches =
        || proc.status(record.tgid, record.tgid).is_none_or(|status| status.caught & CHILD_SIGNAL != 0);
    let children = match named(record).filter(|_| !catches()) {
        Some(pid) => match namespaces.resolve(record.tgid, pid) {
            Who::Thread { tid, tgid } if tid == tgid && tgid != record.tgid => BTreeSet::from([tgid]),
            Who::Thread { .. } | Who::Gone | Who::Unknown => return None,
        },
        None => descendants(proc, record.tgid)?,
    };
    Some(Wait {
        kind: WaitKind::Child,
        lock: String::new(),
        source: Source::ClosedWorld,
        word: None,
        says: format!("system call {} returns when one of {children:?} ends", record.syscall),
        owners: children.into_iter().map(Owner::Process).collect(),
    })
}

/// As the waiter's pid namespace has it; `None` for a group, a descriptor or anybody.
fn named(record: &TaskRecord) -> Option<u32> {
    let pid = match record.syscall {
        WAIT4 => record.arg0 as i32,
        _ if record.arg0 == P_PID => record.arg1 as i32,
        _ => return None,
    };
    u32::try_from(pid).ok().filter(|pid| *pid != 0)
}

/// Whoever is below may become a child, when it loses its parent. `None` if there is nobody, or too many.
fn descendants(proc: &Proc, tgid: u32) -> Option<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    let mut open = vec![tgid];
    while let Some(parent) = open.pop() {
        let threads = proc.threads(parent).into_iter();
        let children = threads.flat_map(|tid| proc.children(parent, tid));
        open.extend(children.filter(|child| found.insert(*child)));
        if DESCENDANTS_MAX < found.len() {
            return None;
        }
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use healer_common::event::wire::Wire as _;

    use super::*;

    #[test]
    fn a_child_is_named_or_any() {
        let call = |syscall, arg0: u64, arg1| TaskRecord { syscall, arg0, arg1, ..TaskRecord::ZERO };
        assert_eq!(named(&call(WAIT4, 77, 0)), Some(77));
        assert_eq!(named(&call(WAIT4, 0xffff_ffff, 0)), None, "any");
        assert_eq!(named(&call(WAIT4, 0, 0)), None, "any of its group");
        assert_eq!(named(&call(WAITID, P_PID, 77)), Some(77));
        assert_eq!(named(&call(WAITID, 3, 77)), None, "by descriptor");
    }
}
