//! What the descriptors have shown of a waiter, and how long that holds.

use core::{cell::Cell, time::Duration};

use healer_common::task_scan::TaskRecord;

use crate::{
    engine::time::BootTime,
    signal::waits::{Owner, Wait},
};

/// So long a holder that may run is taken for one without a look at its descriptors.
const ANSWERED: Duration = Duration::from_secs(60);

/// Whom nobody was seen to keep waiting when it had waited so long is not looked at for long.
const UNSEEN_AFTER: Duration = Duration::from_secs(5);
const UNSEEN: Duration = Duration::from_secs(300);

/// What the descriptors have shown of one waiter.
pub(super) struct FileMemory {
    start_boot_ns: u64,
    switches: u64,
    looked_at: BootTime,
    /// When a holder that may run was last asked whether it is still there.
    answered_at: Cell<BootTime>,
    /// It waits for no file that could be locked or full: no need to look again.
    is_settled: bool,
    pub(super) wait: Option<Wait>,
}

impl FileMemory {
    pub(super) fn new(
        record: &TaskRecord,
        looked_at: BootTime,
        is_settled: bool,
        wait: Option<Wait>,
    ) -> Self {
        let TaskRecord { start_boot_ns, switches, .. } = *record;
        Self { start_boot_ns, switches, looked_at, answered_at: Cell::new(looked_at), is_settled, wait }
    }

    /// Of this very sleep.
    pub(super) fn is_of(&self, record: &TaskRecord) -> bool {
        (self.start_boot_ns, self.switches) == (record.start_boot_ns, record.switches)
    }

    /// Nobody who is seen holds the other end: it is on its way in a message, in the kernel, or with a process whose
    /// descriptors may not be read.
    pub(super) fn is_served_unseen(&self) -> bool {
        self.is_settled || self.wait.is_none()
    }

    /// Descriptors cost much to look through: the longer the wait, the more rarely.
    pub(super) fn is_fresh(&self, record: &TaskRecord, now: BootTime) -> bool {
        let waited = now.since(BootTime(record.since_boot_ns));
        // Whoever changed hands while it was looked for is found by a second look.
        let is_unseen =
            self.wait.is_none() && UNSEEN_AFTER <= self.looked_at.since(BootTime(record.since_boot_ns));
        let most = if is_unseen { UNSEEN } else { (waited / 4).min(Duration::from_secs(10)) };
        let at = if is_unseen { self.looked_at } else { self.answered_at.get() };
        self.is_settled || now.since(at) < most
    }

    /// One holder that may run is enough for a wait that may end, whoever else holds it by now.
    pub(super) fn is_answered(&self, now: BootTime, mut may_run: impl FnMut(u32) -> bool) -> bool {
        let mut owners = self.wait.iter().flat_map(|wait| &wait.owners);
        let is_answered = now.since(self.looked_at) < ANSWERED
            && owners.any(|owner| matches!(owner, Owner::Process(tgid) if may_run(*tgid)));
        if is_answered {
            self.answered_at.set(now);
        }
        is_answered
    }
}

/// The last look through the descriptors of all processes: the more CPU time it took, the longer until the next.
#[derive(Default)]
pub(super) struct Walk {
    at: BootTime,
    cost: Duration,
}

/// One part in a thousand of a core at most, and never so long that a cycle of pipes would be forgotten.
const WALK_SHARE: u32 = 1000;
const WALK_PAUSE_MAX: Duration = Duration::from_secs(15);
/// For a wait that nobody has looked at yet: it may be a deadlock from now on.
const FIRST_SHARE: u32 = 300;
const FIRST_PAUSE_MAX: Duration = Duration::from_secs(5);

impl Walk {
    /// `has_new`: there is a wait that no walk has seen.
    pub(super) fn is_due(&self, now: BootTime, has_new: bool) -> bool {
        let (share, most) =
            if has_new { (FIRST_SHARE, FIRST_PAUSE_MAX) } else { (WALK_SHARE, WALK_PAUSE_MAX) };
        now.since(self.at) >= (self.cost * share).min(most)
    }

    pub(super) fn took(&mut self, now: BootTime, cost: Duration) {
        *self = Self { at: now, cost };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_nobody_is_seen_to_keep_waiting_is_looked_at_twice_and_then_left() {
        use healer_common::event::wire::Wire as _;
        let second = |at: u64| BootTime(at * 1_000_000_000);
        let record = TaskRecord { since_boot_ns: second(100).0, ..TaskRecord::ZERO };
        let young = FileMemory::new(&record, second(102), false, None);
        assert!(young.is_served_unseen() && !young.is_fresh(&record, second(104)));
        let old = FileMemory::new(&record, second(106), false, None);
        assert!(old.is_fresh(&record, second(400)) && !old.is_fresh(&record, second(407)));
    }

    #[test]
    fn a_holder_that_may_run_is_not_asked_about_in_every_scan() {
        use healer_common::event::wire::Wire as _;
        let second = |at: u64| BootTime(at * 1_000_000_000);
        let record = TaskRecord { since_boot_ns: second(100).0, ..TaskRecord::ZERO };
        let wait = Wait {
            kind: crate::signal::waits::WaitKind::PipeRead,
            lock: String::new(),
            source: crate::signal::waits::Source::ClosedWorld,
            word: None,
            owners: vec![Owner::Process(7)],
            says: String::new(),
        };
        let memory = FileMemory::new(&record, second(140), false, Some(wait));
        assert!(memory.is_fresh(&record, second(149)) && !memory.is_fresh(&record, second(150)));
        assert!(!memory.is_answered(second(150), |_| false) && !memory.is_fresh(&record, second(150)));
        assert!(memory.is_answered(second(150), |tgid| tgid == 7) && memory.is_fresh(&record, second(159)));
        assert!(!memory.is_answered(second(200), |_| true), "after a minute its descriptors are read again");
    }

    #[test]
    fn a_dear_walk_is_not_soon_repeated() {
        let now = BootTime(1_000_000_000_000);
        let mut walk = Walk::default();
        assert!(walk.is_due(now, false));
        walk.took(now, Duration::from_millis(3));
        assert!(!walk.is_due(now + Duration::from_secs(2), false));
        assert!(walk.is_due(now + Duration::from_secs(2), true), "somebody new waits");
        walk.took(now, Duration::from_secs(1));
        assert!(!walk.is_due(now + FIRST_PAUSE_MAX, false) && walk.is_due(now + FIRST_PAUSE_MAX, true));
        assert!(walk.is_due(now + WALK_PAUSE_MAX, false));
    }
}
