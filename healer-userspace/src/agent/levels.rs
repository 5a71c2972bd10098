//! The looks at what may run out: in a thread of their own, once a second.

use core::{sync::atomic::Ordering, time::Duration};
use std::{
    io,
    path::Path,
    sync::mpsc::{self as std_mpsc, RecvTimeoutError},
    thread,
};

use tokio::sync::mpsc;

use super::Agent;
use crate::{
    clock,
    engine::time::BootTime,
    report::view::{Sensor, SensorState},
    sense::{
        govern::{POLLS_NS, Stage},
        poll::levels::{About, LevelPoller, armed_by},
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

pub(super) fn start() -> io::Result<(LevelWatch, LevelLooks)> {
    let (proc, cgroup) = (Path::new("/proc"), Path::new("/sys/fs/cgroup"));
    let (asks, asked) = std_mpsc::channel();
    let (sender, looks) = mpsc::channel(WAITING_MAX);
    let poller = LevelPoller::new(proc, cgroup);
    thread::Builder::new()
        .name("healer-levels".to_owned())
        .spawn(move || look_on(poller, &asked, &sender))?;
    Ok((LevelWatch { asks, interval: INTERVAL, about: About::new(proc, cgroup) }, looks))
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

fn look_on(
    mut poller: LevelPoller,
    asked: &std_mpsc::Receiver<Ask>,
    sender: &mpsc::Sender<(BootTime, LevelSnapshot)>,
) {
    let (mut interval, mut empty) = (INTERVAL, EMPTY_TOLD);
    let mut due = clock::boot() + INTERVAL;
    loop {
        match asked.recv_timeout(due.since(clock::boot())) {
            Ok(Ask::Ports { pid, peer }) => {
                poller.watch_ports(pid, peer);
                continue;
            }
            Ok(Ask::Interval(wanted)) => {
                interval = wanted;
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        due = clock::boot() + interval;
        let before = own_cpu_ns();
        let snapshot = poller.look();
        POLLS_NS.fetch_add(own_cpu_ns().saturating_sub(before), Ordering::Relaxed);
        let is_empty = snapshot.levels.is_empty() && snapshot.zombies.as_ref().is_none_or(Vec::is_empty);
        empty = if is_empty { empty.saturating_add(1) } else { 0 };
        if empty <= EMPTY_TOLD {
            // Full: the next one says the same or more.
            sender.try_send((clock::boot(), snapshot)).ok();
        }
    }
}

fn own_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

impl Agent {
    /// Identity first, then the same door as any signal.
    pub(super) fn levels(&mut self, at: BootTime, mut snapshot: LevelSnapshot) {
        let armed = armed_by(&snapshot);
        self.sense.govern(|control| control.armed = armed);
        for level in snapshot.levels.iter_mut().filter(|level| level.pid != 0) {
            level.process = self.identity.of_pid(level.pid);
        }
        for parent in snapshot.zombies.iter_mut().flatten() {
            parent.process = self.identity.of_pid(parent.pid).unwrap_or_default();
        }
        self.observe(&Signal { at, process: None, fact: Fact::Levels(snapshot) });
    }

    /// What a failed call was about is looked up before anybody else hears of it.
    pub(super) fn look_into(&mut self, raw: &mut Raw) {
        let pid = raw.seen.as_ref().map_or(0, |seen| seen.task.id.pid);
        if let Fact::SyscallError(error) = &mut raw.fact {
            self.level_watch.about.complete(pid, error);
            if let Some(level) = error.level.as_mut().filter(|level| level.pid != 0) {
                level.process = self.identity.of_pid(level.pid);
            }
            if let (libc::EADDRNOTAVAIL, Some(peer)) = (error.errno, error.address) {
                // Closed only if the thread is gone: then nobody looks.
                self.level_watch.asks.send(Ask::Ports { pid, peer }).ok();
            }
        }
    }

    pub(super) fn space_out_looks(&mut self, stage: Stage) {
        let wanted = if Stage::Polls <= stage { SHED_INTERVAL } else { INTERVAL };
        if wanted != self.level_watch.interval {
            self.level_watch.interval = wanted;
            self.level_watch.asks.send(Ask::Interval(wanted)).ok();
        }
    }
}
