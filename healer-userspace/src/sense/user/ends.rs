//! From hints that something ended to the end of a process: whether it was the last thread, and
//! with which status.

use std::{collections::BTreeMap, time::Duration};

use healer_common::event::{
    part::{CgroupRef, TaskRef},
    process_exit::ProcessExit,
    wire::Wire as _,
};

use super::people::People;
use crate::{engine::time::BootTime, identity::lru::Lru};

/// A leader whose threads go on is looked at again when the next of them ends.
const LOOK_FOR: Duration = Duration::from_millis(500);
/// The connector tells an end some microseconds after the tracepoint.
const WAIT_FOR_STATUS: Duration = Duration::from_millis(300);
/// A fatal signal so shortly before an end is its reason.
const SIGNAL_AGE: Duration = Duration::from_secs(1);
const REMEMBERED: usize = 256;

/// What one source says of an end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hint {
    pub(super) at: BootTime,
    pub(super) tgid: u32,
    pub(super) pid: u32,
    /// The source says that it was the last thread.
    pub(super) is_last: bool,
    /// As `wait(2)` has it, from the connector.
    pub(super) status: Option<u32>,
    /// What the tracepoint knows of current.
    pub(super) task: Option<TaskRef>,
    pub(super) cgroup: CgroupRef,
    pub(super) parent: Option<u32>,
}

/// Ends that are not yet told.
#[derive(Default)]
pub(super) struct Ends {
    pending: BTreeMap<u32, Hint>,
    /// Start of those lately told, by tgid: their other hints are late.
    told: Told,
    fatal: Fatal,
    /// Whether a status may still come by the connector.
    pub(super) has_connector: bool,
}

struct Told(Lru<u32, u64>);

impl Default for Told {
    fn default() -> Self {
        Self(Lru::new(REMEMBERED))
    }
}

struct Fatal(Lru<u32, (BootTime, u32)>);

impl Default for Fatal {
    fn default() -> Self {
        Self(Lru::new(REMEMBERED))
    }
}

impl Ends {
    /// Something of `hint.tgid` ended.
    pub(super) fn hint(&mut self, hint: Hint, people: &mut People) {
        let start = people.get(hint.tgid).map_or(0, |person| person.task.start_boot_ns);
        if self.told.0.peek(&hint.tgid).is_some_and(|told| start == 0 || start == *told) {
            people.bury(hint.tgid);
            return;
        }
        let merged = match self.pending.remove(&hint.tgid) {
            Some(before) => Hint {
                at: before.at.max(hint.at),
                is_last: before.is_last || hint.is_last,
                status: hint.status.or(before.status),
                task: hint.task.or(before.task),
                cgroup: if before.cgroup == CgroupRef::ZERO { hint.cgroup } else { before.cgroup },
                parent: hint.parent.or(before.parent),
                ..hint
            },
            None => hint,
        };
        self.pending.insert(hint.tgid, merged);
    }

    /// A signal that kills was sent: it may turn out to be the only reason to be had.
    pub(super) fn fatal(&mut self, tgid: u32, signal: u32, at: BootTime) {
        self.fatal.0.insert(tgid, (at, signal));
    }

    /// A number has a new owner.
    pub(super) fn begins(&mut self, tgid: u32) {
        self.told.0.remove(&tgid);
        self.fatal.0.remove(&tgid);
    }

    pub(super) fn is_pending(&self, tgid: u32) -> bool {
        self.pending.contains_key(&tgid)
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The ends about which enough is known by now.
    pub(super) fn settle(&mut self, now: BootTime, people: &mut People) -> Vec<(BootTime, ProcessExit)> {
        let mut settled = Vec::new();
        let pending = std::mem::take(&mut self.pending);
        for (tgid, hint) in pending {
            let start = people.get(tgid).map_or(0, |person| person.task.start_boot_ns);
            let age = now.since(hint.at);
            if !hint.is_last && !people.is_over(tgid, start) {
                if age < LOOK_FOR {
                    self.pending.insert(tgid, hint);
                }
                continue;
            }
            let waits = self.has_connector && age < WAIT_FOR_STATUS;
            match self.status(&hint, start, waits, people) {
                Some((status, flags)) => {
                    self.told.0.insert(tgid, start);
                    settled.push((hint.at, record(&hint, status, flags, people)));
                }
                None => {
                    self.pending.insert(tgid, hint);
                }
            }
        }
        settled
    }

    /// Status and flags; `None`: it may still come.
    fn status(&mut self, hint: &Hint, start: u64, waits: bool, people: &People) -> Option<(u32, u32)> {
        if let Some(status) = hint.status {
            return Some((status, ProcessExit::BY_CONNECTOR));
        }
        if waits {
            return None;
        }
        if let Some(status) = people.status(hint.tgid, start) {
            return Some((status, 0));
        }
        let fatal = self.fatal.0.remove(&hint.tgid);
        match fatal.filter(|(at, _)| hint.at.since(*at) < SIGNAL_AGE) {
            Some((_, signal)) => Some((signal, ProcessExit::INFERRED)),
            None => Some((0, ProcessExit::NO_STATUS)),
        }
    }
}

fn record(hint: &Hint, wait_status: u32, flags: u32, people: &mut People) -> ProcessExit {
    let person = people.bury(hint.tgid);
    let mut exit =
        ProcessExit { wait_status, flags, pid: hint.pid, cgroup: hint.cgroup, ..ProcessExit::ZERO };
    exit.task = hint.task.unwrap_or(TaskRef { tgid: hint.tgid, ..TaskRef::ZERO });
    let mut parent = hint.parent;
    if let Some(person) = person {
        exit.task = person.task;
        exit.exe = person.exe;
        exit.args = person.args;
        if exit.cgroup == CgroupRef::ZERO {
            exit.cgroup = person.cgroup;
        }
        parent = parent.or(Some(person.parent));
    }
    if let Some(parent) = parent.and_then(|tgid| people.get(tgid)) {
        exit.parent = parent.task;
    }
    if exit.task.start_boot_ns == 0 {
        // Nobody met it: it began a moment before.
        exit.task.start_boot_ns = hint.at.0;
    }
    exit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::roots::Roots;

    /// No process has this number: beyond `PID_MAX_LIMIT`.
    const GONE: u32 = 5_000_000;
    const AT: BootTime = BootTime(1_000_000_000);

    fn hint(status: Option<u32>) -> Hint {
        let (tgid, pid) = (GONE, GONE);
        Hint { at: AT, tgid, pid, is_last: false, status, task: None, cgroup: CgroupRef::ZERO, parent: None }
    }

    fn world() -> (Ends, People) {
        (Ends::default(), People::new(Roots::default()))
    }

    #[test]
    fn an_end_is_told_once_with_the_connectors_status() {
        let (mut ends, mut people) = world();
        ends.has_connector = true;
        ends.hint(Hint { is_last: true, ..hint(None) }, &mut people);
        assert!(ends.settle(AT, &mut people).is_empty(), "the status is on its way");
        ends.hint(hint(Some(0x300)), &mut people);
        let told = ends.settle(AT, &mut people);
        let [(_, exit)] = &told[..] else { panic!("one end") };
        assert_eq!((exit.exit_code(), exit.flags), (Some(3), ProcessExit::BY_CONNECTOR));
        ends.hint(hint(Some(0x300)), &mut people);
        assert!(ends.settle(AT, &mut people).is_empty() && !ends.is_waiting());
        ends.begins(GONE);
        ends.hint(hint(Some(9)), &mut people);
        assert_eq!(ends.settle(AT, &mut people).len(), 1, "the next owner of the number");
    }

    #[test]
    fn a_status_that_never_comes_is_concluded_or_unknown() {
        let (mut ends, mut people) = world();
        ends.has_connector = true;
        ends.hint(Hint { is_last: true, ..hint(None) }, &mut people);
        let told = ends.settle(AT + WAIT_FOR_STATUS, &mut people);
        assert_eq!(told[0].1.flags, ProcessExit::NO_STATUS);

        ends.begins(GONE);
        ends.fatal(GONE, 11, AT - Duration::from_millis(1));
        ends.hint(Hint { is_last: true, ..hint(None) }, &mut people);
        let told = ends.settle(AT + WAIT_FOR_STATUS, &mut people);
        assert_eq!((told[0].1.signal(), told[0].1.flags), (Some(11), ProcessExit::INFERRED));
    }

    #[test]
    fn a_thread_of_a_living_process_is_no_end() {
        let (mut ends, mut people) = world();
        let own = std::process::id();
        ends.hint(Hint { tgid: own, pid: own + 1, ..hint(Some(0)) }, &mut people);
        assert!(ends.settle(AT, &mut people).is_empty());
        assert!(ends.settle(AT + LOOK_FOR, &mut people).is_empty() && !ends.is_waiting());
    }
}
