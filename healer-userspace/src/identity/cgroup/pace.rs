//! How often every cgroup may be looked at: by what it costs, and once a second in any case.

use std::time::Duration;

use crate::engine::time::BootTime;

/// Looking at one directory takes 5 to 10 µs: 1 to 2 % of a core, if ids are asked for that nobody has. On a node with
/// more cgroups than that one walk a second costs more.
const DIRS_PER_SECOND: i64 = 2_000;
const IN_ANY_CASE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Pace {
    /// Directories that may be looked at; below zero what the last walk took more than that.
    left: i64,
    walked: Option<BootTime>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { left: DIRS_PER_SECOND, walked: None }
    }
}

impl Pace {
    pub(super) fn allows(&self, now: BootTime) -> bool {
        self.walked.is_none_or(|at| now.since(at) >= IN_ANY_CASE) || self.left_at(now) > 0
    }

    /// A walk has looked at so many directories.
    pub(super) fn charge(&mut self, dirs: usize, now: BootTime) {
        let dirs = i64::try_from(dirs).unwrap_or(i64::MAX);
        self.left = self.left_at(now).saturating_sub(dirs).max(-DIRS_PER_SECOND);
        // What is asked for an event is asked for its time.
        self.walked = self.walked.max(Some(now));
    }

    fn left_at(&self, now: BootTime) -> i64 {
        let passed = self.walked.map_or(Duration::ZERO, |walked| now.since(walked));
        let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        let earned = passed.saturating_mul(DIRS_PER_SECOND) / 1_000;
        self.left.saturating_add(earned).min(DIRS_PER_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: BootTime = BootTime(5_000_000_000);

    #[test]
    fn small_trees_are_walked_several_times_a_second_and_large_ones_once() {
        let walks = |dirs: usize| {
            let mut pace = Pace::default();
            let times = (0..10_000_u64).map(|ms| START + Duration::from_millis(ms));
            let walked = times.filter(|at| {
                let is_time = pace.allows(*at);
                if is_time {
                    pace.charge(dirs, *at);
                }
                is_time
            });
            walked.count()
        };
        // What was saved, and ten seconds' worth.
        let small = walks(200);
        assert!((100..=120).contains(&small), "{small}");
        assert_eq!(walks(10_000), 10);
    }

    #[test]
    fn what_is_saved_is_bounded() {
        let mut pace = Pace::default();
        pace.charge(0, START);
        let late = START + Duration::from_secs(3_600);
        pace.charge(usize::try_from(DIRS_PER_SECOND).unwrap(), late);
        assert!(!pace.allows(late) && pace.allows(late + IN_ANY_CASE));
    }
}
