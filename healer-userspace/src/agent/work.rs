//! The looks at sockets and CPU of the tracked: in a thread of their own, which sleeps while nobody is tracked.

use core::time::Duration;
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

pub(super) type Looks = mpsc::Receiver<(BootTime, WorkSnapshot)>;

/// Whom the thread is to look at.
pub(super) struct WorkWatch {
    lists: std_mpsc::Sender<Vec<Watched>>,
    last: Vec<Watched>,
    /// Why some sockets could not be seen at the last look.
    trouble: Option<String>,
}

impl WorkWatch {
    /// As an administrator sees it.
    pub(super) fn sensor(&self) -> Sensor {
        let is_blind = self.trouble.is_some();
        Sensor {
            name: "sockets".to_owned(),
            state: if is_blind { SensorState::Down } else { SensorState::Attached },
            via: Some("sock_diag".to_owned()),
            reason: self.trouble.clone(),
            remedy: is_blind.then(|| REMEDY.to_owned()),
            ..Sensor::default()
        }
    }
}

pub(super) fn start() -> io::Result<(WorkWatch, Looks)> {
    let (lists, lists_in) = std_mpsc::channel();
    let (sender, looks) = mpsc::channel(WAITING_MAX);
    let poller = WorkPoller::new(Path::new("/proc"), Path::new("/sys/fs/cgroup"));
    thread::Builder::new()
        .name("healer-work".to_owned())
        .spawn(move || look_on(poller, &lists_in, &sender))?;
    Ok((WorkWatch { lists, last: Vec::new(), trouble: None }, looks))
}

fn look_on(
    mut poller: WorkPoller,
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
        let snapshot = poller.look(&watched);
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

    /// Tells the thread whom to look at, if that has changed.
    pub(super) fn watch_work(&mut self) {
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
