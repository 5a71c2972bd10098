//! Asks after the units that policies name: every 5 s, and often for a while after something has happened to one.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use futures_util::StreamExt as _;
use tokio::{sync::mpsc, time::sleep};

use super::{
    super::{Learnt, Owner, Stopped},
    Told,
    manager::{JobRemoved, Manager, Result, Service, is_service},
};
use crate::{
    clock,
    engine::{policy::glob, time::BootTime},
    text::printable,
};

const POLL_EVERY: Duration = Duration::from_secs(5);
/// After a death: the owner's own restart is to be seen before it counts as missing.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOK_FOR: Duration = Duration::from_secs(10);
/// A socket that is not there is looked for now and then.
const RETRY_EVERY: Duration = Duration::from_secs(10);

/// Polls: each unit's main process is asked for again after so many.
const THOROUGH_EVERY: u32 = 12;

struct Watch {
    learnt: mpsc::Sender<Learnt>,
    stopped: Stopped,
    patterns: Vec<String>,
    /// What was told of each unit, so that it is told once.
    told: BTreeMap<String, Service>,
    /// Looked at often, until then.
    restless: BTreeMap<String, BootTime>,
    polls: u32,
}

/// Ends with the agent. Without a unit to watch it waits and does nothing.
pub(super) async fn run(
    socket: PathBuf,
    mut orders: mpsc::Receiver<Told>,
    learnt: mpsc::Sender<Learnt>,
    stopped: Stopped,
) {
    let (told, restless) = (BTreeMap::new(), BTreeMap::new());
    let mut watch = Watch { learnt, stopped, patterns: Vec::new(), told, restless, polls: 0 };
    let mut trouble = None;
    loop {
        while watch.patterns.is_empty() {
            match orders.recv().await {
                Some(order) => watch.obey(order),
                None => return,
            }
        }
        let served = watch.serve(&socket, &mut orders, &mut trouble).await;
        if orders.is_closed() {
            return;
        }
        let Err(words) = served else { continue };
        // Most hosts of containers have no systemd to ask: that is no trouble.
        if trouble.as_ref() != Some(&words) && socket.exists() {
            tracing::warn!("{words}; units are known by their cgroups alone until it answers");
            trouble = Some(words);
        }
        let wait = sleep(RETRY_EVERY);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => break,
                order = orders.recv() => match order {
                    Some(order) => watch.obey(order),
                    None => return,
                },
            }
        }
    }
}

impl Watch {
    fn obey(&mut self, order: Told) {
        match order {
            Told::Watch(patterns) => {
                self.patterns = patterns;
                self.told.clear();
            }
            Told::LookAt(unit) => {
                if self.names(&unit) {
                    self.restless.insert(unit, clock::boot() + LOOK_FOR);
                }
            }
        }
    }

    fn names(&self, unit: &str) -> bool {
        is_service(unit) && self.patterns.iter().any(|pattern| glob::matches(pattern, unit))
    }

    /// Ok once there is nobody to watch, or the agent is on its way out.
    async fn serve(
        &mut self,
        socket: &Path,
        orders: &mut mpsc::Receiver<Told>,
        trouble: &mut Option<String>,
    ) -> Result<()> {
        let manager = Manager::connect(socket).await?;
        let mut jobs = manager.jobs().await?;
        self.told.clear();
        self.poll(&manager).await?;
        if trouble.take().is_some() {
            tracing::info!("systemd answers again");
        }
        let mut due = clock::boot() + POLL_EVERY;
        while !self.patterns.is_empty() {
            let next = if self.restless.is_empty() { due } else { due.min(clock::boot() + LOOK_EVERY) };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => {
                        due = clock::boot();
                        self.obey(order);
                    }
                    None => return Ok(()),
                },
                message = jobs.next() => match message {
                    Some(Ok(message)) => self.job(&manager, &message).await?,
                    Some(Err(_)) | None => return Err("the connection to systemd went away".to_owned()),
                },
                () = sleep(next.since(clock::boot())) => {
                    let now = clock::boot();
                    self.restless.retain(|_, until| now < *until);
                    if due <= now {
                        due = now + POLL_EVERY;
                        self.poll(&manager).await?;
                    } else {
                        for unit in self.restless.keys().cloned().collect::<Vec<_>>() {
                            self.look(&manager, &unit).await?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// One question for all; more only of those that have changed, and now and then of everybody.
    async fn poll(&mut self, manager: &Manager) -> Result<()> {
        self.polls = self.polls.wrapping_add(1);
        let thorough = self.polls.is_multiple_of(THOROUGH_EVERY);
        for (unit, words) in manager.matching(&self.patterns).await? {
            let is_known = self.told.get(&unit).is_some_and(|told| told.words() == words);
            if self.names(&unit) && (thorough || !is_known || self.restless.contains_key(&unit)) {
                self.look(manager, &unit).await?;
            }
        }
        Ok(())
    }

    async fn look(&mut self, manager: &Manager, unit: &str) -> Result<()> {
        let now = manager.service(unit).await?;
        let before = self.told.insert(unit.to_owned(), now.clone());
        if before.as_ref() == Some(&now) {
            return Ok(());
        }
        tracing::debug!("{}: {}, main pid {:?}", printable(unit), now.words(), now.main);
        let owner = Owner::Unit(unit.to_owned());
        if now.active == "active" || now.active == "activating" {
            self.stopped.forget(unit);
        }
        if let Some(pid) = now.main {
            self.tell(Learnt::Runs { owner, pid }).await;
        } else if now.active == "failed" {
            let (pid, exit) = manager.last_exit(unit).await?;
            self.tell(Learnt::Failed { owner, pid, exit }).await;
        }
        Ok(())
    }

    /// A job that has left its unit dead was a stop: a death of its own makes no job.
    async fn job(&mut self, manager: &Manager, message: &zbus::Message) -> Result<()> {
        let Some(job) = JobRemoved::of(message).filter(|job| self.names(&job.unit)) else {
            return Ok(());
        };
        let now = manager.service(&job.unit).await?;
        if job.result == "done" && matches!(now.active.as_str(), "inactive" | "failed") {
            self.stopped.note(&job.unit);
            self.told.insert(job.unit.clone(), now);
            self.tell(Learnt::StopAsked { owner: Owner::Unit(job.unit) }).await;
            return Ok(());
        }
        self.look(manager, &job.unit).await
    }

    async fn tell(&self, learnt: Learnt) {
        // Closed only when the agent is on its way out.
        self.learnt.send(learnt).await.ok();
    }
}
