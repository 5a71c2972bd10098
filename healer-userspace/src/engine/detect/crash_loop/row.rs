//! Lives of one command, one after the other, of which each failed: the kernel tells every start.

use std::collections::VecDeque;

use crate::identity::process::ProcessId;

/// A job that fails now and then may do so several times in a row.
pub(super) const FAILURES: usize = 5;
/// Of what a supervisor of services starts; some give up after the fourth start (supervisord's `startretries`).
pub(super) const FAILURES_OF_SERVICES: usize = 3;
/// A command that was seen to end well has to fail for longer each time.
const FAILURES_MAX: usize = 40;

pub(super) struct Row {
    /// Those that were seen to start, and whether they failed. An end with status 0 is not told: who has a younger
    /// sister and no failure has ended well.
    lives: VecDeque<(ProcessId, bool)>,
    needed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Open,
    /// One before it ended well.
    Broken,
    Loop,
}

impl Row {
    pub(super) fn of(needed: usize) -> Self {
        Self { lives: VecDeque::new(), needed }
    }

    pub(super) fn started(&mut self, id: ProcessId) {
        if self.lives.iter().any(|(known, _)| *known == id) {
            return;
        }
        self.lives.push_back((id, false));
        if self.lives.len() > 2 * FAILURES_MAX {
            self.lives.pop_front();
        }
    }

    /// Starts are told in their order and before any end that follows them: whoever started before `id` is known.
    pub(super) fn failed(&mut self, id: ProcessId) -> Verdict {
        let Some(at) = self.lives.iter().position(|(known, _)| *known == id) else {
            return Verdict::Open;
        };
        self.lives[at].1 = true;
        let row = self.lives.range(..=at).rev().take_while(|(_, has_failed)| *has_failed).count();
        if row <= at {
            self.lives.clear();
            self.needed = (2 * self.needed).min(FAILURES_MAX);
            return Verdict::Broken;
        }
        if row < self.needed { Verdict::Open } else { Verdict::Loop }
    }

    /// Nothing is known of what was lost.
    pub(super) fn forget(&mut self) {
        self.lives.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::time::BootTime;

    fn life(number: u64) -> ProcessId {
        ProcessId { pid: 7, start: BootTime(number * 1_000_000_000) }
    }

    fn fails(row: &mut Row, number: u64) -> Verdict {
        row.started(life(number));
        row.failed(life(number))
    }

    #[test]
    fn five_in_a_row_are_a_loop() {
        let mut row = Row::of(FAILURES);
        let said: Vec<_> = (0..5).map(|number| fails(&mut row, number)).collect();
        assert_eq!(said, [Verdict::Open, Verdict::Open, Verdict::Open, Verdict::Open, Verdict::Loop]);
    }

    #[test]
    fn who_ended_well_breaks_the_row_and_makes_it_longer() {
        let mut row = Row::of(FAILURES);
        let mut said = Vec::new();
        for number in 0..12 {
            if number == 3 {
                row.started(life(number));
            } else {
                said.push(fails(&mut row, number));
            }
        }
        assert_eq!(said[3], Verdict::Broken);
        assert!(said[4..].iter().all(|verdict| *verdict == Verdict::Open), "{said:?}");
        let said: Vec<_> = (12..15).map(|number| fails(&mut row, number)).collect();
        assert_eq!(said, [Verdict::Open, Verdict::Open, Verdict::Loop]);
    }

    #[test]
    fn a_failure_that_is_told_after_the_next_start_counts() {
        let mut row = Row::of(FAILURES);
        row.started(life(0));
        for number in 0..4 {
            row.started(life(number + 1));
            assert_eq!(row.failed(life(number)), Verdict::Open);
        }
        assert_eq!(row.failed(life(4)), Verdict::Loop);
    }

    #[test]
    fn an_end_whose_start_was_not_seen_proves_nothing() {
        let mut row = Row::of(FAILURES);
        for number in 0..99 {
            assert_eq!(row.failed(life(number)), Verdict::Open);
        }
    }
}
