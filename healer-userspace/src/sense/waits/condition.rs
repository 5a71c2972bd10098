//! In what state a thread sleeps: in its own right, or held by somebody.

use healer_common::task_scan::TaskRecord;

use crate::{sense::freezer::Freezer, signal::waits::Condition};

/// `TASK_UNINTERRUPTIBLE`, `__TASK_STOPPED`, `__TASK_TRACED`, `TASK_FROZEN` (include/linux/sched.h).
const UNINTERRUPTIBLE: u32 = 2;
const STOPPED: u32 = 4;
const TRACED: u32 = 8;
const FROZEN: u32 = 0x8000;
/// `TASK_WAKEKILL`: SIGKILL reaches it all the same; `TASK_NOLOAD`: waits for work by design.
const WAKEKILL: u32 = 0x100;
const NOLOAD: u32 = 0x400;
/// `JOBCTL_TRAP_FREEZE` (include/linux/sched/jobctl.h): a frozen v2 cgroup; its sleepers look like any other.
const TRAP_FREEZE: u64 = 1 << 23;

/// Whether the thread sleeps in its own right, or somebody holds it.
pub(crate) fn condition(record: &TaskRecord) -> Condition {
    if record.flags & TaskRecord::EXITING != 0 {
        Condition::Exiting
    } else if record.state & STOPPED != 0 {
        Condition::Stopped
    } else if record.state & TRACED != 0 || record.ptrace != 0 {
        Condition::Traced
    } else if record.state & FROZEN != 0 || record.jobctl & TRAP_FREEZE != 0 {
        Condition::Frozen
    } else if record.flags & TaskRecord::COMPAT != 0 {
        Condition::Compat
    } else if record.state == 0 {
        Condition::Live
    } else if record.state & UNINTERRUPTIBLE != 0 {
        Condition::Uninterruptible
    } else {
        Condition::Stuck
    }
}

/// What the kernel's iterator would have written of a thread that /proc shows. Of v2 whoever is in uninterruptible sleep is
/// not held yet.
pub(crate) fn held(record: TaskRecord, freezer: Freezer) -> TaskRecord {
    let is_uninterruptible = record.state & UNINTERRUPTIBLE != 0;
    match freezer {
        Freezer::V1 if is_uninterruptible => TaskRecord { state: FROZEN, ..record },
        Freezer::V2 if is_uninterruptible => record,
        Freezer::V1 | Freezer::V2 => TaskRecord { jobctl: record.jobctl | TRAP_FREEZE, ..record },
    }
}

/// No signal reaches it, not even SIGKILL. A frozen v2 cgroup lets SIGKILL through.
pub(crate) fn is_deaf(record: &TaskRecord) -> bool {
    let uninterruptible = record.state & UNINTERRUPTIBLE != 0 && record.state & (WAKEKILL | NOLOAD) == 0;
    uninterruptible || record.state & FROZEN != 0
}

#[cfg(test)]
mod tests {
    use healer_common::event::wire::Wire as _;

    use super::*;

    #[test]
    fn whoever_is_held_is_not_stuck() {
        let mut one = TaskRecord { state: 1, ..TaskRecord::ZERO };
        assert_eq!(condition(&one), Condition::Stuck);
        one.jobctl = TRAP_FREEZE;
        assert_eq!(condition(&one), Condition::Frozen);
        one.state = 0x104;
        assert_eq!(condition(&one), Condition::Stopped);
        one.flags = TaskRecord::EXITING;
        assert_eq!(condition(&one), Condition::Exiting);
    }

    #[test]
    fn by_proc_who_waits_for_a_disk_is_held_by_v1_alone() {
        let sleeps = TaskRecord { state: 1, ..TaskRecord::ZERO };
        let waits = TaskRecord { state: UNINTERRUPTIBLE, ..TaskRecord::ZERO };
        let of = |record, freezer| {
            let held = held(record, freezer);
            (condition(&held), is_deaf(&held))
        };
        assert_eq!(of(sleeps, Freezer::V2), (Condition::Frozen, false));
        assert_eq!(of(waits, Freezer::V2), (Condition::Uninterruptible, true));
        assert_eq!(of(waits, Freezer::V1), (Condition::Frozen, true));
    }
}
