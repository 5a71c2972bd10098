//! systemd: which process is a unit's main one, what becomes of the unit, and its restart.

mod jobs;
pub(super) mod lent;
mod manager;
mod restart;
mod watch;

use std::path::PathBuf;

use tokio::sync::mpsc;

use self::jobs::OwnJobs;
use super::{Done, Learnt, Order, Stopped, settle};
use crate::{
    engine::lease::{Account, Knob},
    identity::process::Process,
};

/// Orders that wait for the watch at most; more say nothing new.
const WAITING_MAX: usize = 256;

/// What the watch is told.
enum Told {
    /// The units to ask after from now on.
    Watch(Vec<String>),
    /// Something has happened to this one.
    LookAt(String),
}

#[derive(Clone)]
pub(super) struct Handle {
    socket: PathBuf,
    told: mpsc::Sender<Told>,
    learnt: mpsc::Sender<Learnt>,
    stopped: Stopped,
    jobs: OwnJobs,
}

impl Handle {
    pub(super) fn start(socket: PathBuf, learnt: mpsc::Sender<Learnt>) -> Self {
        let (told, orders) = mpsc::channel(WAITING_MAX);
        let (stopped, jobs) = (Stopped::default(), OwnJobs::default());
        tokio::spawn(watch::run(socket.clone(), orders, learnt.clone(), stopped.clone(), jobs.clone()));
        Self { socket, told, learnt, stopped, jobs }
    }

    pub(super) fn watch(&self, patterns: Vec<String>) {
        self.tell(Told::Watch(patterns));
    }

    pub(super) fn look_at(&self, unit: &str) {
        self.tell(Told::LookAt(unit.to_owned()));
    }

    /// Only of the unit's own group.
    pub(super) fn knob(&self, target: &Process, unit: &str, of: Account) -> Option<Knob> {
        let is_its_own = manager::is_service(unit) && target.cgroup.ends_with(&format!("/{unit}"));
        let bus = self.socket.to_str()?.to_owned();
        let knob = is_its_own.then(|| Knob::Unit { bus, unit: unit.to_owned(), of })?;
        lent::keeps(&knob, &target.cgroup).then_some(knob)
    }

    pub(super) async fn restart(&self, unit: &str, order: &Order) -> Done {
        settle::within(order, "systemd", restart::restart(self, unit, order)).await
    }

    fn tell(&self, told: Told) {
        // Full: the next poll sees the same.
        self.told.try_send(told).ok();
    }
}
