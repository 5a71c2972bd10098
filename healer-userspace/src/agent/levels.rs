//! The looks at what may run out: once a second, or in two while nothing is half used up.

use core::{sync::atomic::Ordering, time::Duration};
use std::{path::Path, sync::mpsc as std_mpsc};

use tokio::sync::mpsc;

use super::{Agent, looks::Look};
use crate::{
    clock,
    engine::time::BootTime,
    identity::process::Process,
    report::view::{Sensor, SensorState},
    sense::{
        govern::{POLLS_NS, Stage},
        poll::{
            beat,
            levels::{About, LevelPoller, armed_by},
        },
    },
    signal::{Fact, Raw, Signal, levels::LevelSnapshot},
};

const INTERVAL: Duration = Duration::from_secs(1);
/// While sensing uses more than its budget.
const SHED_INTERVAL: Duration = Duration::from_secs(5);
/// A slow engine gets the newest looks later, not all of them.
const WAITING_MAX: usize = 4;
/// What is over has to be told too: so many empty looks after the last that was not.
const EMPTY_TOLD: u32 = 3;

pub(super) type LevelLooks = mpsc::Receiver<(BootTime, LevelSnapshot)>;

enum Ask {
    Ports { pid: u32, peer: core::net::SocketAddr },
    Interval(Duration),
}

pub(super) struct LevelWatch {
    asks: std_mpsc::Sender<Ask>,
    interval: Duration,
    about: About,
}

pub(super) fn start() -> (LevelWatch, LevelLook, LevelLooks) {
    let (proc, cgroup) = (Path::new("/proc"), Path::new("/sys/fs/cgroup"));
    let (asks, asked) = std_mpsc::channel();
    let (sender, looks) = mpsc::channel(WAITING_MAX);
    let look = LevelLook {
        poller: LevelPoller::new(proc, cgroup),
        asked,
        sender,
        interval: INTERVAL,
        due: clock::boot() + INTERVAL,
        empty: Empty { levels: EMPTY_TOLD, all: EMPTY_TOLD },
    };
    (LevelWatch { asks, interval: INTERVAL, about: About::new(proc, cgroup) }, look, looks)
}

/// As an administrator sees it: it reads files, and whatever one cannot be read is not told.
pub(super) fn sensor() -> Sensor {
    Sensor {
        name: "levels".to_owned(),
        state: SensorState::Attached,
        via: Some("poll".to_owned()),
        signals: vec!["levels".to_owned()],
        ..Sensor::default()
    }
}

pub(super) struct LevelLook {
    poller: LevelPoller,
    asked: std_mpsc::Receiver<Ask>,
    sender: mpsc::Sender<(BootTime, LevelSnapshot)>,
    interval: Duration,
    due: BootTime,
    empty: Empty,
}

/// Looks that said nothing, the last ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Empty {
    /// Of nothing that runs out: who is at its CPU quota may be for ever, and is told without hurry.
    levels: u32,
    all: u32,
}

impl Empty {
    fn after(self, snapshot: &LevelSnapshot) -> Self {
        let has_zombies = snapshot.zombies.as_ref().is_some_and(|zombies| !zombies.is_empty());
        let no_levels = snapshot.levels.is_empty() && !has_zombies;
        let count = |before: u32, is_empty: bool| if is_empty { before.saturating_add(1) } else { 0 };
        Self {
            levels: count(self.levels, no_levels),
            all: count(self.all, no_levels && snapshot.quotas.is_empty()),
        }
    }

    fn is_told(self) -> bool {
        self.all <= EMPTY_TOLD
    }

    /// While nothing is half used up, half as often.
    fn pace(self, interval: Duration) -> Duration {
        if EMPTY_TOLD < self.levels { interval * 2 } else { interval }
    }
}

impl Look for LevelLook {
    fn due(&self) -> BootTime {
        self.due
    }

    fn look(&mut self, now: BootTime) -> bool {
        for ask in self.asked.try_iter() {
            match ask {
                Ask::Ports { pid, peer } => self.poller.watch_ports(pid, peer),
                Ask::Interval(wanted) => self.interval = wanted,
            }
        }
        self.due = beat(now, self.empty.pace(self.interval));
        let before = clock::thread_cpu();
        let snapshot = self.poller.look(now);
        let cost = clock::thread_cpu().saturating_sub(before);
        POLLS_NS.fetch_add(u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.empty = self.empty.after(&snapshot);
        if self.empty.is_told() {
            // Full: the next one says the same or more.
            self.sender.try_send((clock::boot(), snapshot)).ok();
        }
        !self.sender.is_closed()
    }
}

impl Agent {
    /// Identity first, then the same door as any signal.
    pub(super) fn levels(&mut self, at: BootTime, mut snapshot: LevelSnapshot) {
        let armed = armed_by(&snapshot);
        self.sense.govern(|control| control.armed = armed);
        for level in snapshot.levels.iter_mut().filter(|level| level.pid != 0) {
            level.process = self.seen_by(at, level.pid);
        }
        for parent in snapshot.zombies.iter_mut().flatten() {
            parent.process = self.seen_by(at, parent.pid).unwrap_or_default();
        }
        for user in snapshot.quotas.iter_mut().flat_map(|quota| &mut quota.users) {
            user.process = self.seen_by(at, user.pid).unwrap_or_default();
        }
        self.observe(&Signal { at, process: None, fact: Fact::Levels(snapshot) });
    }

    /// What a failed call was about is looked up before anybody else hears of it.
    pub(super) fn look_into(&mut self, raw: &mut Raw) {
        let at = raw.at;
        let pid = raw.seen.as_ref().map_or(0, |seen| seen.task.id.pid);
        if let Fact::SyscallError(error) = &mut raw.fact {
            self.level_watch.about.complete(pid, error);
            if let Some(level) = error.level.as_mut().filter(|level| level.pid != 0) {
                level.process = self.seen_by(at, level.pid);
            }
            if let (libc::EADDRNOTAVAIL, Some(peer)) = (error.errno, error.address) {
                // Closed only if the thread is gone: then nobody looks.
                self.level_watch.asks.send(Ask::Ports { pid, peer }).ok();
            }
        }
    }

    /// Who had this pid at that moment: whoever has begun since is somebody else.
    fn seen_by(&mut self, at: BootTime, pid: u32) -> Option<Process> {
        self.identity.of_pid(pid).filter(|process| process.start <= at)
    }

    pub(super) fn space_out_looks(&mut self, stage: Stage) {
        let wanted = if Stage::Polls <= stage { SHED_INTERVAL } else { INTERVAL };
        if wanted != self.level_watch.interval {
            self.level_watch.interval = wanted;
            self.level_watch.asks.send(Ask::Interval(wanted)).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::levels::{Level, Quota, Resource};

    #[test]
    fn a_quota_is_told_without_hurry_and_a_level_with_it() {
        let quota = LevelSnapshot { quotas: vec![Quota::default()], ..LevelSnapshot::default() };
        let level = Level::new(Resource::Files, 6, 10);
        let level = LevelSnapshot { levels: vec![level], ..LevelSnapshot::default() };
        let after = |looks: u32, snapshot: &LevelSnapshot| {
            (0..looks).fold(Empty { levels: 0, all: 0 }, |empty, _| empty.after(snapshot))
        };
        let shown = |empty: Empty| (empty.is_told(), empty.pace(INTERVAL).as_secs());
        assert_eq!(shown(after(3, &quota)), (true, 1));
        assert_eq!(shown(after(60, &quota)), (true, 2), "for days, maybe");
        assert_eq!(shown(after(60, &level)), (true, 1));
        let nothing = LevelSnapshot::default();
        assert_eq!(shown(after(3, &nothing)), (true, 1), "what is over is told too");
        assert_eq!(shown(after(4, &nothing)), (false, 2));
        assert_eq!(shown(after(60, &quota).after(&nothing)), (true, 2), "so is the end of a quota");
    }
}
