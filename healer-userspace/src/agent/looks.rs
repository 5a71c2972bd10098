//! One thread and one beat for all looks that never wait long: whatever is due within a second is looked at in one
//! turn, so that an idle node is woken once.

use core::time::Duration;
use std::{io, thread};

use crate::{clock, engine::time::BootTime, sense::poll::memory::Trigger};

/// An alarm rings once in a window, but nobody is to be woken by a flood of them.
const ALARM_RESTS: Duration = Duration::from_millis(125);
const REST: Duration = Duration::from_millis(10);

/// What is looked at again and again.
pub(super) trait Look: Send {
    /// When it wants to look next.
    fn due(&self) -> BootTime;

    /// False: nobody listens any more.
    fn look(&mut self, now: BootTime) -> bool;

    /// Somebody waits for memory.
    fn hurry(&mut self) {}
}

/// Looks until nobody listens any more.
pub(super) fn start(looks: Vec<Box<dyn Look>>, alarm: Trigger) -> io::Result<()> {
    thread::Builder::new().name("healer-looks".to_owned()).spawn(move || look_on(looks, &alarm))?;
    Ok(())
}

fn look_on(mut looks: Vec<Box<dyn Look>>, alarm: &Trigger) {
    loop {
        let now = clock::boot();
        for look in looks.iter_mut().filter(|look| look.due() <= now) {
            if !look.look(now) {
                return;
            }
        }
        let due = looks.iter().map(|look| look.due()).min().unwrap_or(now);
        if alarm.wait(due.since(clock::boot()).max(REST)) {
            thread::sleep(ALARM_RESTS);
            looks.iter_mut().for_each(|look| look.hurry());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    struct Counted {
        due: BootTime,
        left: u32,
        looks: std::sync::mpsc::Sender<BootTime>,
    }

    impl Look for Counted {
        fn due(&self) -> BootTime {
            self.due
        }

        fn look(&mut self, now: BootTime) -> bool {
            self.due = now + Duration::from_millis(20);
            self.left -= 1;
            self.looks.send(now).is_ok() && self.left != 0
        }
    }

    #[test]
    fn those_that_are_due_together_share_a_turn() {
        let (looks, seen) = std::sync::mpsc::channel();
        let counted =
            |left| -> Box<dyn Look> { Box::new(Counted { due: BootTime(0), left, looks: looks.clone() }) };
        look_on(vec![counted(9), counted(3)], &Trigger::open(Path::new("/nonexistent")));
        drop(looks);
        let times: Vec<BootTime> = seen.iter().collect();
        assert_eq!(times.len(), 6);
        assert!(times.chunks(2).all(|turn| turn[0] == turn[1]), "{times:?}");
    }
}
