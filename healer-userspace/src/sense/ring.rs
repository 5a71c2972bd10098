//! Reading the two rings.
//!
//! An urgent record wakes the reader; one in BULK waits for company. After a wake-up for BULK the
//! reader comes back every 50 ms until it finds the ring empty, because a producer that saw unread
//! records may commit without a wake-up right after the last drain. Otherwise it sweeps once a
//! second, so that records which never wake anybody are not left lying.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use healer_common::tuning::BULK_BYTES;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

use super::ring_memory;
use crate::{clock, engine::time::BootTime};

/// Longest time that a record which wakes nobody lies unread.
pub(super) const SWEEP: Duration = Duration::from_secs(1);
/// Between passes while BULK has records.
const DRAIN: Duration = Duration::from_millis(50);
/// Between passes while BULK fills fast, at most and at least.
const UNDER_LOAD: Duration = Duration::from_millis(1);
const UNDER_FLOOD: Duration = Duration::from_micros(100);
/// More in one pass than this is load.
const LOAD_BYTES: usize = BULK_BYTES as usize / 32;
/// What a pass under load should find: the rest of the ring is for the time that the reader is kept from its CPU.
const GOAL_BYTES: usize = BULK_BYTES as usize / 16;
/// Urgent records are looked for again after this many others.
const BULK_BATCH: usize = 64;

/// What brought the reader to its rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bell {
    Urgent,
    Bulk,
    Timer,
}

/// Both rings, and when to look at them.
pub struct Rings {
    urgent: RingBuf<MapData>,
    bulk: RingBuf<MapData>,
    bells: Option<Bells>,
    bell: Bell,
    is_draining: bool,
    passed: BootTime,
    /// After so much time, from the next wait on; `None` once the timer runs.
    next_pass: Option<Duration>,
}

/// Made by the first wait: it needs the event loop.
struct Bells {
    urgent: AsyncFd<OwnedFd>,
    bulk: AsyncFd<OwnedFd>,
    timer: AsyncFd<OwnedFd>,
}

impl Rings {
    /// A reader of these rings. [`super::Sense`] has one; the bench reads its flood with another.
    #[must_use]
    pub fn new(urgent: RingBuf<MapData>, bulk: RingBuf<MapData>) -> Self {
        ring_memory::map_once();
        Self {
            urgent,
            bulk,
            bells: None,
            bell: Bell::Timer,
            is_draining: false,
            passed: clock::boot(),
            next_pass: Some(Duration::ZERO),
        }
    }

    /// Waits until there may be records. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the event loop cannot watch the rings.
    pub async fn readable(&mut self) -> io::Result<()> {
        if self.bells.is_none() {
            self.bells = Some(Bells::new(&self.urgent, &self.bulk)?);
        }
        let Some(bells) = &mut self.bells else {
            return Ok(());
        };
        if let Some(wait) = self.next_pass.take() {
            bells.ring_in(wait);
        }
        self.bell = tokio::select! {
            biased;
            ready = bells.urgent.readable() => {
                ready?.clear_ready();
                Bell::Urgent
            }
            ready = bells.bulk.readable() => {
                ready?.clear_ready();
                Bell::Bulk
            }
            ready = bells.timer.readable() => {
                ready?.clear_ready();
                Bell::Timer
            }
        };
        Ok(())
    }

    /// Hands every unread record to `on_record`, urgent ones first; gives their number.
    pub fn drain(&mut self, mut on_record: impl FnMut(&[u8])) -> usize {
        let (mut records, mut bulk_bytes) = (0, 0);
        // More than the ring holds is the next pass's.
        while bulk_bytes < BULK_BYTES as usize {
            records += take(&mut self.urgent, usize::MAX, &mut on_record).0;
            let (taken, bytes) = take(&mut self.bulk, BULK_BATCH, &mut on_record);
            records += taken;
            bulk_bytes += bytes;
            if taken < BULK_BATCH {
                break;
            }
        }
        self.schedule(bulk_bytes);
        records
    }

    fn schedule(&mut self, bulk_bytes: usize) {
        self.is_draining = 0 < bulk_bytes && (self.is_draining || self.bell == Bell::Bulk);
        let before = core::mem::replace(&mut self.passed, clock::boot());
        // Not set here: what was read is to be judged before anything else is done.
        self.next_pass = Some(if LOAD_BYTES <= bulk_bytes {
            until_goal(self.passed.since(before), bulk_bytes)
        } else if self.is_draining {
            DRAIN
        } else {
            SWEEP
        });
    }
}

impl Bells {
    fn new(urgent: &RingBuf<MapData>, bulk: &RingBuf<MapData>) -> io::Result<Self> {
        let own = |ring: &RingBuf<MapData>| ring.as_fd().try_clone_to_owned();
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self { urgent: watch(own(urgent)?)?, bulk: watch(own(bulk)?)?, timer: watch(timer)? })
    }

    /// The event loop's own timers wake it up to three times for one second: it sorts them on the way.
    fn ring_in(&self, wait: Duration) {
        let nothing = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would switch it off (timerfd_settime(2)).
        let wait = Timespec::try_from(wait.max(Duration::from_nanos(1))).unwrap_or(nothing);
        let once = Itimerspec { it_interval: nothing, it_value: wait };
        // Refused only for a time that is none.
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).ok();
    }
}

/// After so long a pass found so much: how long to wait for the goal, if it goes on like that.
fn until_goal(passed: Duration, bytes: usize) -> Duration {
    passed.mul_f64(GOAL_BYTES as f64 / bytes.max(1) as f64).clamp(UNDER_FLOOD, UNDER_LOAD)
}

fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by what is registered, so it stays open and the same.
    let bell = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    bell.map_err(io::Error::from)
}

fn take(ring: &mut RingBuf<MapData>, limit: usize, on_record: &mut impl FnMut(&[u8])) -> (usize, usize) {
    let (mut records, mut bytes) = (0, 0);
    while records < limit
        && let Some(record) = ring.next()
    {
        on_record(&record);
        records += 1;
        bytes += record.len();
    }
    (records, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_the_ring_fills_the_sooner_is_the_next_pass() {
        let goal = |waited, bytes| until_goal(Duration::from_micros(waited), bytes).as_micros();
        assert_eq!(goal(400, GOAL_BYTES * 2), 200);
        assert_eq!(goal(200, GOAL_BYTES / 2), 400);
        assert_eq!(goal(200, 0), UNDER_LOAD.as_micros());
        assert_eq!(goal(500, BULK_BYTES as usize), UNDER_FLOOD.as_micros());
        // Half full after a long sleep: three records in a millisecond are no flood.
        assert_eq!(goal(50_000, BULK_BYTES as usize / 2), UNDER_LOAD.as_micros());
    }
}
