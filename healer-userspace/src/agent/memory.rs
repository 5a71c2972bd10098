//! The looks at memory: in a thread of their own, once a second, more often near a limit.

use core::time::Duration;
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use tokio::sync::mpsc;

use super::Agent;
use crate::{
    clock,
    engine::time::BootTime,
    report::view::{Sensor, SensorState},
    sense::poll::memory::{MemoryPoller, NEAR, ReclaimMap, Trigger},
    signal::{Fact, Signal, memory::MemorySnapshot},
};

/// A slow engine gets the newest looks later, not all of them.
const WAITING_MAX: usize = 8;
/// What is over has to be told too: so many empty looks after the last that was not.
const EMPTY_TOLD: u32 = 3;

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

pub(super) fn start(reclaim: Option<ReclaimMap>) -> io::Result<(MemoryWatch, MemoryLooks)> {
    let (sender, looks) = mpsc::channel(WAITING_MAX);
    let mut watch = MemoryWatch::default();
    let (state, proc) = (Arc::clone(&watch.state), Path::new("/proc"));
    let trigger = Trigger::open(proc);
    let poller = MemoryPoller::new(proc, Path::new("/sys/fs/cgroup"), reclaim);
    tell(&state, &poller, &trigger);
    watch.refresh();
    thread::Builder::new()
        .name("healer-memory".to_owned())
        .spawn(move || look_on(poller, &trigger, &state, &sender))?;
    Ok((watch, looks))
}

fn look_on(
    mut poller: MemoryPoller,
    trigger: &Trigger,
    state: &Mutex<State>,
    sender: &mpsc::Sender<(BootTime, MemorySnapshot)>,
) {
    let mut empty = EMPTY_TOLD;
    while !sender.is_closed() {
        let now = clock::boot();
        let snapshot = poller.look(now);
        empty = if snapshot.is_empty() { empty.saturating_add(1) } else { 0 };
        if empty <= EMPTY_TOLD {
            // Full: the next one says the same or more.
            sender.try_send((now, snapshot)).ok();
        }
        tell(state, &poller, trigger);
        if trigger.wait(poller.due().since(clock::boot()).max(Duration::from_millis(10))) {
            // An alarm rings once in a window, but nobody is to be woken by a flood of them.
            thread::sleep(NEAR / 2);
            poller.hurry();
        }
    }
}

fn tell(state: &Mutex<State>, poller: &MemoryPoller, trigger: &Trigger) {
    let trouble = poller.trouble().into_iter().chain(trigger.trouble().map(str::to_owned)).collect();
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    *state = State { cgroups: poller.counts().0, trouble };
}

impl Agent {
    /// Identity first, then the same door as any signal.
    pub(super) fn memory(&mut self, at: BootTime, mut snapshot: MemorySnapshot) {
        let node = snapshot.node.iter_mut().flat_map(|node| &mut node.users);
        for user in snapshot.cgroups.iter_mut().flat_map(|cgroup| &mut cgroup.users).chain(node) {
            let id = user.process.id();
            if let Some(known) = self.identity.of_id(id).or_else(|| self.identity.of_pid(id.pid)) {
                user.process = known;
            }
        }
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
