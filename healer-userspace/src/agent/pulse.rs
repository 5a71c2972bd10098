//! Whether a thread that reads much of /proc still comes round: a file there may wait for a lock of its process, or for a
//! file system that does not answer, in a sleep that no time limit ends.

use core::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use std::sync::Arc;

use crate::{clock, engine::time::BootTime};

/// A turn takes a second at most, and ten on a machine that lacks the CPU.
const LATE: Duration = Duration::from_secs(30);

/// When the turn that is under way began; 0 between two.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Does one turn. `None`: it took so long that what it saw is too old.
    pub(super) fn turn<T>(&self, turn: impl FnOnce() -> T) -> Option<T> {
        let began = awake();
        self.0.store(began.0, Ordering::Relaxed);
        let seen = turn();
        self.0.store(0, Ordering::Relaxed);
        (awake().since(began) < LATE).then_some(seen)
    }

    /// `now` is [`awake`].
    pub(super) fn is_stuck(&self, now: BootTime) -> bool {
        let began = self.0.load(Ordering::Relaxed);
        began != 0 && LATE <= now.since(BootTime(began))
    }
}

/// What an administrator is told of a thread that has a pulse.
pub(super) struct Watchdog {
    pulse: Pulse,
    is_stuck: bool,
}

impl Watchdog {
    pub(super) fn over(pulse: Pulse) -> Self {
        Self { pulse, is_stuck: false }
    }

    /// True if it has got stuck, or comes round again, since the last time. `now` is [`awake`].
    pub(super) fn refresh(&mut self, now: BootTime) -> bool {
        let was_stuck = core::mem::replace(&mut self.is_stuck, self.pulse.is_stuck(now));
        was_stuck != self.is_stuck
    }

    /// As of the last refresh.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck
    }
}

/// Nobody is late for the time that the machine slept.
pub(super) fn awake() -> BootTime {
    clock::boot() - clock::suspended()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_does_not_end_is_told_and_one_that_ended_is_not() {
        let pulse = Pulse::default();
        let late = awake() + 2 * LATE;
        assert!(!pulse.is_stuck(late), "it rests");
        let seen = pulse.turn(|| (pulse.is_stuck(awake()), pulse.is_stuck(late)));
        assert_eq!(seen, Some((false, true)));
        assert!(!pulse.is_stuck(late));
    }
}
