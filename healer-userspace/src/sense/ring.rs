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

/// Longest time that a record which wakes nobody lies unread.
pub(super) const SWEEP: Duration = Duration::from_secs(1);
/// Between passes while BULK has records.
const DRAIN: Duration = Duration::from_millis(50);
/// Between passes while BULK fills fast.
const UNDER_LOAD: Duration = Duration::from_millis(1);
/// More in one pass than this is load.
const LOAD_BYTES: usize = BULK_BYTES as usize / 16;
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
        // Not set here: what was read is to be judged before anything else is done.
        self.next_pass = Some(if LOAD_BYTES <= bulk_bytes {
            UNDER_LOAD
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
