//! A self-check during which records were lost says nothing, and is made again.

use std::time::Duration;

use healer_common::event::Event;

use crate::engine::time::BootTime;

const TRIES: u32 = 3;
/// A burst is over by then, and so is what is still said of the children.
const AGAIN: Duration = Duration::from_secs(1);
/// Their numbers may be somebody else's after that.
const THEIRS_FOR: Duration = Duration::from_secs(3);
/// Who had no CPU for long may have to wait as long again.
const STARVED_FOR: Duration = Duration::from_secs(60);

/// The checks so far.
#[derive(Debug, Default)]
pub(super) struct Tries {
    begun: u32,
    /// Records lost when the last one began.
    lost: u64,
    due: Option<BootTime>,
    /// Children of the one that was broken off.
    former: Vec<u32>,
    /// When that was.
    broken_off: BootTime,
}

impl Tries {
    pub(super) fn begin(&mut self, lost: u64) {
        *self = Self { begun: self.begun + 1, lost, ..Self::default() };
    }

    pub(super) fn is_void(&self, lost: u64) -> bool {
        lost != self.lost
    }

    pub(super) fn is_due(&self, now: BootTime) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Whether another may be made after one that was void.
    pub(super) fn again(&mut self, now: BootTime, children: [u32; 2]) -> bool {
        (self.former, self.broken_off) = (children.to_vec(), now);
        self.due = (self.begun < TRIES).then(|| now + AGAIN);
        self.due.is_some()
    }

    /// Of one whose children do not end: what is said of them soon is nobody's business either.
    pub(super) fn give_up(&mut self, now: BootTime, children: [u32; 2]) {
        (self.former, self.broken_off) = (children.to_vec(), now + STARVED_FOR);
    }

    /// Whether `record` is about children of a check that was broken off.
    pub(super) fn claims(&self, record: &[u8]) -> bool {
        if self.former.is_empty() {
            return false;
        }
        let is_theirs =
            |at: u64, tgid: u32| BootTime(at) < self.broken_off + THEIRS_FOR && self.former.contains(&tgid);
        match Event::decode(record) {
            Ok((header, Event::ProcessExit(_))) => is_theirs(header.at_ns, header.tgid),
            Ok((header, Event::SignalSent(sent))) => is_theirs(header.at_ns, sent.target.tgid),
            Ok(_) | Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use healer_common::event::{EventKind, Header, RECORD_MAX, process_exit::ProcessExit, wire::Wire as _};

    use super::*;

    const AT: BootTime = BootTime(1_000_000_000);

    fn end_of(tgid: u32) -> Vec<u8> {
        let kind = EventKind::ProcessExit as u32;
        let header = Header { kind, tgid, pid: tgid, ..Header::ZERO };
        let mut room = [0; RECORD_MAX];
        Event::ProcessExit(ProcessExit::ZERO).encode(header, &mut room).unwrap().to_vec()
    }

    #[test]
    fn what_was_lost_before_a_check_does_not_void_it() {
        let mut tries = Tries::default();
        tries.begin(7);
        assert!(!tries.is_void(7));
        assert!(tries.is_void(8));
    }

    #[test]
    fn a_void_check_is_made_three_times_and_not_again() {
        let mut tries = Tries::default();
        for _try in 1..TRIES {
            tries.begin(0);
            assert!(tries.again(AT, [8, 9]));
            assert!(!tries.is_due(AT) && tries.is_due(AT + AGAIN));
        }
        tries.begin(0);
        assert!(!tries.again(AT, [8, 9]) && !tries.is_due(AT + AGAIN * 9));
    }

    #[test]
    fn children_of_a_void_check_are_nobodys_business_until_the_next() {
        let mut tries = Tries::default();
        tries.begin(0);
        assert!(!tries.claims(&end_of(9)));
        tries.again(AT, [8, 9]);
        assert!(tries.claims(&end_of(9)) && !tries.claims(&end_of(10)));
        tries.begin(0);
        assert!(!tries.claims(&end_of(9)));
        tries.give_up(AT, [8, 9]);
        assert!(tries.claims(&end_of(9)) && !tries.is_due(AT + AGAIN * 9));
    }
}
