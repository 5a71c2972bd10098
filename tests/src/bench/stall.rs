//! The longest time that a reader did not come to its rings, and what kept it.

use std::{fs::File, os::unix::fs::FileExt as _, time::Duration};

use healer_userspace::{clock, engine::time::BootTime};

/// Of the calling thread, from one pass to the next.
pub struct Stalls {
    schedstat: Option<File>,
    ended: BootTime,
    queued: Duration,
    longest: Stall,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Stall {
    pub time: Duration,
    /// Of this it was ready to run, but another had its CPU.
    pub queued: Duration,
}

impl Stalls {
    #[must_use]
    pub fn begin() -> Self {
        let schedstat = File::open("/proc/thread-self/schedstat").ok();
        let queued = schedstat.as_ref().and_then(queued).unwrap_or_default();
        Self { schedstat, ended: clock::boot(), queued, longest: Stall::default() }
    }

    /// The rings are empty again.
    pub fn pass_ended(&mut self) {
        let now = clock::boot();
        let queued = self.schedstat.as_ref().and_then(queued).unwrap_or(self.queued);
        let time = now.since(self.ended);
        if self.longest.time < time {
            self.longest = Stall { time, queued: queued.saturating_sub(self.queued) };
        }
        (self.ended, self.queued) = (now, queued);
    }

    #[must_use]
    pub fn longest(&self) -> Stall {
        self.longest
    }
}

/// The second figure: time on a run queue, ns (Documentation/scheduler/sched-stats.rst).
fn queued(schedstat: &File) -> Option<Duration> {
    let mut text = [0; 64];
    let len = schedstat.read_at(&mut text, 0).ok()?;
    let nanos = str::from_utf8(text.get(..len)?).ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}
