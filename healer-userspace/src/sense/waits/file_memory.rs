//! What the descriptors have shown of a waiter, and how long that holds.

use core::time::Duration;

use healer_common::task_scan::TaskRecord;

use crate::{
    clock,
    engine::time::BootTime,
    signal::waits::{Owner, Wait},
};

/// So long a holder that may run is taken for one without a look at its descriptors.
const ANSWERED: Duration = Duration::from_secs(60);

/// What the descriptors have shown of one waiter.
pub(super) struct FileMemory {
    start_boot_ns: u64,
    switches: u64,
    looked_at: BootTime,
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
        Self { start_boot_ns, switches, looked_at, is_settled, wait }
    }

    /// Of this very sleep.
    pub(super) fn is_of(&self, record: &TaskRecord) -> bool {
        (self.start_boot_ns, self.switches) == (record.start_boot_ns, record.switches)
    }

    /// It waits for no file, or for one that somebody outside may serve.
    pub(super) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Descriptors cost much to look through: the longer the wait, the more rarely.
    pub(super) fn is_fresh(&self, record: &TaskRecord, now: BootTime) -> bool {
        let waited = now.since(BootTime(record.since_boot_ns));
        let keep = (waited / 4).min(Duration::from_secs(10));
        self.is_settled || now.since(self.looked_at) < keep
    }

    /// One holder that may run is enough for a wait that may end, whoever else holds it by now.
    pub(super) fn is_answered(&self, now: BootTime, may_run: impl Fn(u32) -> bool) -> bool {
        let owners = self.wait.iter().flat_map(|wait| &wait.owners);
        now.since(self.looked_at) < ANSWERED
            && owners.into_iter().any(|owner| matches!(owner, Owner::Process(tgid) if may_run(*tgid)))
    }
}

/// The last look through the descriptors of all processes: the dearer it was, the longer until the next.
#[derive(Default)]
pub(super) struct Walk {
    at: BootTime,
    cost: Duration,
}

/// One part in a thousand of a core at most, and never so long that a cycle of pipes would be forgotten.
const WALK_SHARE: u32 = 1000;
const WALK_PAUSE_MAX: Duration = Duration::from_secs(15);

impl Walk {
    pub(super) fn is_due(&self, now: BootTime) -> bool {
        now.since(self.at) >= (self.cost * WALK_SHARE).min(WALK_PAUSE_MAX)
    }

    pub(super) fn time<T>(&mut self, now: BootTime, walk: impl FnOnce() -> T) -> T {
        let began = clock::boot();
        let found = walk();
        *self = Self { at: now, cost: clock::boot().since(began) };
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dear_walk_is_not_soon_repeated() {
        let now = BootTime(1_000_000_000_000);
        let mut walk = Walk::default();
        assert!(walk.is_due(now));
        walk.time(now, || std::thread::sleep(Duration::from_millis(3)));
        assert!(!walk.is_due(now + Duration::from_secs(2)));
        assert!(walk.is_due(now + WALK_PAUSE_MAX));
    }
}
