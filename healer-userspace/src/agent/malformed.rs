//! Kernel records that cannot be decoded: counted as lost, and said now and then, not a thousand times a second.

use core::time::Duration;

use healer_common::event::DecodeError;

use crate::engine::time::BootTime;

const SAID_EVERY: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Malformed {
    /// Since the start.
    pub(super) count: u64,
    said: u64,
    said_at: Option<BootTime>,
}

impl Malformed {
    /// So many more, the last for this reason; what is to be said of them, if anything.
    pub(super) fn note(&mut self, now: BootTime, more: u64, error: &DecodeError) -> Option<String> {
        self.count += more;
        if self.said_at.is_some_and(|at| now.since(at) < SAID_EVERY) {
            return None;
        }
        let news = self.count - self.said;
        (self.said, self.said_at) = (self.count, Some(now));
        Some(format!("{news} kernel records could not be decoded and count as lost; the last: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use healer_common::event::Event;

    use super::*;

    #[test]
    fn all_are_counted_and_said_once_a_minute() {
        let error = Event::decode(&[1, 2, 3]).unwrap_err();
        let at = |second: u64| BootTime(second * 1_000_000_000);
        let mut malformed = Malformed::default();
        let said = malformed.note(at(1), 1, &error).unwrap();
        assert!(said.starts_with("1 kernel records could not be decoded"), "{said}");
        assert_eq!(malformed.note(at(2), 5, &error), None);
        assert_eq!(malformed.note(at(59), 3, &error), None);
        let said = malformed.note(at(61), 2, &error).unwrap();
        assert!(said.starts_with("10 kernel records"), "{said}");
        assert_eq!(malformed.count, 11);
    }
}
