//! The looks at sockets and CPU of the tracked: in a thread of their own, which sleeps while nobody is tracked.

use core::time::Duration;
use std::{
    io,
    path::Path,
    sync::mpsc::{self as std_mpsc, RecvTimeoutError},
    thread,
};

use tokio::sync::mpsc;

use super::{
    Agent,
    pulse::{Pulse, Watchdog, awake},
};
use crate::{
    clock,
    engine::time::BootTime,
    report::view::{Sensor, SensorState},
    sense::poll::work::{Watched, WorkPoller},
    signal::{Fact, Signal, work::WorkSnapshot},
};

const INTERVAL: Duration = Duration::from_secs(1);
/// A slow engine gets the newest looks later, not all of them.
const WAITING_MAX: usize = 4;
/// What is over has to be told too: so many empty looks after the last that was not.
const EMPTY_TOLD: u32 = 3;

const REMEDY: &str =
    "healer needs CAP_SYS_ADMIN for other network namespaces, the kernel needs CONFIG_INET_DIAG";

const STUCK: &str =
    "the thread healer-work is stuck in a look: of new hangs and of starved workloads nothing is known";
const STUCK_REMEDY: &str = "/proc/PID/task/TID/stack of that thread of healer tells what it waits for";

pub(super) type Looks = mpsc::Receiver<(BootTime, WorkSnapshot)>;

/// Whom the thread is to look at.
pub(super) struct WorkWatch {
    lists: std_mpsc::Sender<Vec<Watched>>,
    last: Vec<Watched>,
    /// Why some sockets could not be seen at the last look.
    trouble: Option<String>,
    /// Whether the thread comes round.
    watchdog: Watchdog,
}

impl WorkWatch {
    /// As an administrator sees it.
    pub(super) fn sensor(&self) -> Sensor {
        let blind = match (self.watchdog.is_stuck(), &self.trouble) {
            (true, _) => Some((STUCK, STUCK_REMEDY)),
            (false, Some(trouble)) => Some((trouble.as_str(), REMEDY)),
            (false, None) => None,
        };
        let (reason, remedy) = blind.map(|(reason, remedy)| (reason.to_owned(), remedy.to_owned())).unzip();
        Sensor {
            name: "sockets".to_owned(),
            state: if blind.is_some() { SensorState::Down } else { SensorState::Attached },
            via: Some("sock_diag".to_owned()),
            reason,
            remedy,
            ..Sensor::default()
        }
    }
}

pub(super) fn start() -> io::Result<(WorkWatch, Looks)> {
    let (lists, lists_in) = std_mpsc::channel();
    let (sender, looks) = mpsc::channel(WAITING_MAX);
    let poller = WorkPoller::new(Path::new("/proc"), Path::new("/sys/fs/cgroup"));
    let pulse = Pulse::default();
    let watchdog = Watchdog::over(pulse.clone());
    thread::Builder::new()
        .name("healer-work".to_owned())
        .spawn(move || look_on(poller, &pulse, &lists_in, &sender))?;
    Ok((WorkWatch { lists, last: Vec::new(), trouble: None, watchdog }, looks))
}

fn look_on(
    mut poller: WorkPoller,
    pulse: &Pulse,
    lists: &std_mpsc::Receiver<Vec<Watched>>,
    sender: &mpsc::Sender<(BootTime, WorkSnapshot)>,
) {
    let mut watched: Vec<Watched> = Vec::new();
    let mut empty = EMPTY_TOLD;
    let mut due = clock::boot();
    loop {
        let now = clock::boot();
        if watched.is_empty() && EMPTY_TOLD <= empty {
            match lists.recv() {
                Ok(list) => watched = list,
                Err(_) => return,
            }
            continue;
        }
        match lists.recv_timeout(due.since(now)) {
            Ok(list) => {
                watched = list;
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        due = clock::boot() + INTERVAL;
        let Some(snapshot) = pulse.turn(|| poller.look(&watched)) else {
            tracing::warn!("a look at sockets and CPU came back late: what it saw is too old to be told");
            continue;
        };
        let is_empty = snapshot.processes.is_empty() && snapshot.unseen.is_empty();
        empty = if is_empty { empty.saturating_add(1) } else { 0 };
        if empty <= EMPTY_TOLD {
            // Full: the next one says the same or more.
            sender.try_send((clock::boot(), snapshot)).ok();
        }
    }
}

impl Agent {
    pub(super) fn work(&mut self, at: BootTime, snapshot: WorkSnapshot) {
        let trouble = snapshot.unseen.first().map(|one| format!("{}: {}", one.process.workload, one.says));
        if trouble.is_some() != self.work_watch.trouble.is_some() {
            self.work_watch.trouble = trouble;
            self.publish_sensors();
        }
        self.observe(&Signal { at, process: None, fact: Fact::Work(snapshot) });
    }

    /// Once a second.
    pub(super) fn look_at_work_watch(&mut self) {
        if self.work_watch.watchdog.refresh(awake()) {
            self.publish_sensors();
        }
    }

    /// Tells the thread whom to look at, if that has changed: once it comes round, and not list by list before.
    pub(super) fn watch_work(&mut self) {
        if self.work_watch.watchdog.is_stuck() {
            return;
        }
        let living = || self.engine.world().iter().flat_map(|(_, workload)| workload.living.values());
        let wanted = || living().map(|process| (process, self.probes.is_failing(process.id())));
        if wanted().eq(self.work_watch.last.iter().map(|last| (&last.process, last.asked))) {
            return;
        }
        let list: Vec<Watched> =
            wanted().map(|(process, asked)| Watched { process: process.clone(), asked }).collect();
        self.work_watch.last.clone_from(&list);
        // Closed only if the thread is gone: then nobody looks.
        self.work_watch.lists.send(list).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(watch: &WorkWatch) -> (SensorState, Option<String>) {
        let sensor = watch.sensor();
        assert_eq!(sensor.reason.is_some(), sensor.remedy.is_some());
        assert_ne!(sensor.is_up(), sensor.reason.is_some());
        (sensor.state, sensor.reason)
    }

    #[test]
    fn a_look_that_does_not_come_back_is_shown_until_it_does() {
        let pulse = Pulse::default();
        let (lists, _unread) = std_mpsc::channel();
        let watchdog = Watchdog::over(pulse.clone());
        let mut watch = WorkWatch { lists, last: Vec::new(), trouble: None, watchdog };
        let (soon, late) = (awake() + Duration::from_secs(5), awake() + Duration::from_secs(60));
        assert!(!watch.watchdog.refresh(late), "it rests, as while nobody is tracked");
        pulse.turn(|| {
            assert!(!watch.watchdog.refresh(soon), "a look may take its time");
            assert_eq!(shown(&watch), (SensorState::Attached, None));
            watch.trouble = Some("web: no way into its namespace".to_owned());
            assert!(watch.watchdog.refresh(late) && !watch.watchdog.refresh(late), "said once");
            assert_eq!(shown(&watch), (SensorState::Down, Some(STUCK.to_owned())));
        });
        assert!(watch.watchdog.refresh(late));
        assert_eq!(shown(&watch), (SensorState::Down, watch.trouble.clone()));
    }
}
