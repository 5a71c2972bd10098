//! The looks at memory: once a second, more often near a limit.

use core::time::Duration;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc;

use super::{Agent, looks::Look};
use crate::{
    engine::time::BootTime,
    report::view::{Sensor, SensorState},
    sense::poll::memory::{MemoryPoller, ReclaimMap, Trigger, armed_by},
    signal::{Fact, Signal, memory::MemorySnapshot},
};

/// A slow engine gets the newest looks later, not all of them.
const WAITING_MAX: usize = 8;
/// What is over has to be told too: so many empty looks after the last that was not.
const EMPTY_TOLD: u32 = 3;
/// While the engine is behind.
const HOLD: Duration = Duration::from_millis(100);

pub(super) type MemoryLooks = mpsc::Receiver<(BootTime, MemorySnapshot)>;

/// What the thread says of itself.
#[derive(Default)]
pub(super) struct MemoryWatch {
    state: Arc<Mutex<State>>,
    shown: State,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    cgroups: usize,
    trouble: Vec<String>,
}

impl MemoryWatch {
    /// As an administrator sees it.
    pub(super) fn sensor(&self) -> Sensor {
        let is_degraded = !self.shown.trouble.is_empty();
        Sensor {
            name: "memory".to_owned(),
            state: if is_degraded { SensorState::Degraded } else { SensorState::Attached },
            via: Some("cgroup files, pressure".to_owned()),
            reason: is_degraded.then(|| self.shown.trouble.join("; ")),
            remedy: is_degraded.then(|| "give healer CAP_SYS_RESOURCE, and inotify watches".to_owned()),
            ..Sensor::default()
        }
    }

    fn refresh(&mut self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_news = state.trouble != self.shown.trouble;
        self.shown = state;
        is_news
    }
}

pub(super) fn start(reclaim: Option<ReclaimMap>, alarm: &Trigger) -> (MemoryWatch, MemoryLook, MemoryLooks) {
    let (sender, looks) = mpsc::channel(WAITING_MAX);
    let mut watch = MemoryWatch::default();
    let poller = MemoryPoller::new(Path::new("/proc"), Path::new("/sys/fs/cgroup"), reclaim);
    let alarm_trouble = alarm.trouble().map(str::to_owned);
    let state = Arc::clone(&watch.state);
    let look = MemoryLook { poller, state, alarm_trouble, sender, empty: EMPTY_TOLD, held: None };
    look.tell();
    watch.refresh();
    (watch, look, looks)
}

pub(super) struct MemoryLook {
    poller: MemoryPoller,
    state: Arc<Mutex<State>>,
    alarm_trouble: Option<String>,
    sender: mpsc::Sender<(BootTime, MemorySnapshot)>,
    empty: u32,
    /// The engine is behind: not before that.
    held: Option<BootTime>,
}

impl Look for MemoryLook {
    fn due(&self) -> BootTime {
        self.held.unwrap_or_else(|| self.poller.due())
    }

    fn look(&mut self, now: BootTime) -> bool {
        // What came since the last look would be lost with one that finds no room.
        self.held = (self.sender.capacity() == 0).then(|| now + HOLD);
        if self.held.is_some() {
            return !self.sender.is_closed();
        }
        let snapshot = self.poller.look(now);
        self.empty = if snapshot.is_empty() { self.empty.saturating_add(1) } else { 0 };
        if self.empty <= EMPTY_TOLD {
            self.sender.try_send((now, snapshot)).ok();
        }
        self.tell();
        !self.sender.is_closed()
    }

    fn hurry(&mut self) {
        self.poller.hurry();
    }
}

impl MemoryLook {
    fn tell(&self) {
        let cgroups = self.poller.counts().0;
        let trouble = self.poller.trouble().into_iter().chain(self.alarm_trouble.clone()).collect();
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { cgroups, trouble };
    }
}

impl Agent {
    /// Identity first, then the same door as any signal.
    pub(super) fn memory(&mut self, at: BootTime, mut snapshot: MemorySnapshot) {
        let node = snapshot.node.iter_mut().flat_map(|node| &mut node.users);
        let cgroups = snapshot.cgroups.iter_mut();
        let of_cgroups = cgroups.flat_map(|cgroup| cgroup.users.iter_mut().chain(&mut cgroup.families));
        for user in of_cgroups.chain(node) {
            let id = user.process.id();
            if let Some(known) = self.identity.of_id(id) {
                user.process = known;
            }
        }
        let armed = armed_by(&snapshot);
        self.sense.govern(|control| control.armed_by_memory = armed);
        self.observe(&Signal { at, process: None, fact: Fact::Memory(snapshot) });
    }

    /// Once a second: what the thread says of itself.
    pub(super) fn look_at_memory_watch(&mut self) {
        if self.memory_watch.refresh() {
            self.publish_sensors();
        }
        self.reporter.metrics.memory_cgroups(self.memory_watch.shown.cgroups);
    }
}
