//! Whether the way from the kernel to here works: a thread of healer ends every few seconds, and
//! its end must arrive as a record.

use std::{thread, time::Duration};

use healer_common::event::{Event, process_exit::ProcessExit};
use serde::Serialize;

use crate::engine::time::BootTime;

/// Between two probes.
const EVERY: Duration = Duration::from_secs(5);
/// Enough for a thread that does nothing.
const STACK_BYTES: usize = 64 * 1024;

/// What the probe has shown so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SelfProbe {
    /// When a thread was last sent off.
    pub sent: Option<BootTime>,
    /// The kernel's time stamp of the last end that came back.
    pub seen: Option<BootTime>,
}

impl SelfProbe {
    /// Age of the last proof that the kernel path works; `None` before the first.
    #[must_use]
    pub fn age(&self, now: BootTime) -> Option<Duration> {
        self.seen.map(|seen| now.since(seen))
    }

    /// Sends off a thread when it is time for one.
    pub(super) fn send(&mut self, now: BootTime) {
        if self.sent.is_some_and(|sent| now.since(sent) < EVERY) {
            return;
        }
        let thread =
            thread::Builder::new().name("healer-probe".to_owned()).stack_size(STACK_BYTES).spawn(|| {});
        // A thread that could not start is a probe not sent: its age will tell.
        if thread.is_ok() {
            self.sent = Some(now);
        }
    }

    /// Whether `record` is a probe's end, which is of no interest to anybody else.
    pub(super) fn claims(&mut self, record: &[u8]) -> bool {
        match Event::decode(record) {
            Ok((header, Event::ProcessExit(exit))) if exit.flags & ProcessExit::SELF_PROBE != 0 => {
                self.seen = Some(BootTime(header.at_ns));
                true
            }
            Ok(_) | Err(_) => false,
        }
    }
}
