//! Listens to the events of all containers; asks after those that were not named by one.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bollard::models::EventMessage;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use tokio::{sync::mpsc, time::sleep};

use super::{
    super::{Learnt, Owner, Stopped},
    engine::{Engine, Result, by_event, words},
};
use crate::{clock, engine::time::BootTime};

/// A stream that has broken off silently looks like a quiet one.
const PING_EVERY: Duration = Duration::from_secs(30);
const RETRY_EVERY: Duration = Duration::from_secs(10);
/// An id that Docker did not know is not asked for again so soon.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
const UNKNOWN_KEPT: usize = 1024;

struct Watch {
    learnt: mpsc::Sender<Learnt>,
    stopped: Stopped,
    unknown: BTreeMap<String, BootTime>,
    /// All before it was listed or told.
    heard: Timestamp,
}

/// Ends with the agent. Without a socket it looks for one now and then.
pub(super) async fn run(
    socket: PathBuf,
    mut questions: mpsc::Receiver<String>,
    learnt: mpsc::Sender<Learnt>,
    stopped: Stopped,
) {
    let mut watch = Watch { learnt, stopped, unknown: BTreeMap::new(), heard: clock::wall() };
    let mut trouble = None;
    while !questions.is_closed() {
        if socket.exists() {
            let Err(said) = watch.serve(&socket, &mut questions, &mut trouble).await else { return };
            if trouble.as_ref() != Some(&said) {
                tracing::warn!("{said}; containers go by their ids until it answers");
                trouble = Some(said);
            }
        }
        sleep(RETRY_EVERY).await;
    }
}

impl Watch {
    /// Ok once the agent is on its way out.
    async fn serve(
        &mut self,
        socket: &Path,
        questions: &mut mpsc::Receiver<String>,
        trouble: &mut Option<String>,
    ) -> Result<()> {
        let engine = Engine::connect(socket).await?;
        // From before the list, and from before a broken stream: who comes in between is told twice, not never.
        let events = engine.events(self.heard.min(clock::wall()));
        tokio::pin!(events);
        let listed_at = clock::wall();
        for id in engine.all().await? {
            self.look(&engine, &id).await?;
        }
        self.heard = listed_at;
        if trouble.take().is_some() {
            tracing::info!("Docker answers again");
        }
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.happened(&engine, event).await?,
                    Some(Err(error)) => return Err(words("Docker's events", &error)),
                    None => return Err("Docker's events have ended".to_owned()),
                },
                question = questions.recv() => match question {
                    Some(id) => self.answer(&engine, &id).await?,
                    None => return Ok(()),
                },
                () = sleep(PING_EVERY) => {
                    let pinged_at = clock::wall();
                    engine.ping().await?;
                    self.heard = pinged_at;
                }
            }
        }
    }

    async fn happened(&mut self, engine: &Engine, event: EventMessage) -> Result<()> {
        let actor = event.actor.unwrap_or_default();
        let Some(id) = actor.id else { return Ok(()) };
        let attributes = actor.attributes.unwrap_or_default();
        let owner = Owner::Container { runtime: "docker".to_owned(), id: id.clone() };
        match event.action.as_deref() {
            Some("start") => {
                self.stopped.forget(&id);
                return self.look(engine, &id).await;
            }
            Some("create" | "die" | "rename") => {
                self.tell(Learnt::Named(by_event(&id, attributes), None)).await;
            }
            // `docker kill` is a stop as well: Docker's own restart policies take it for one.
            Some("kill") if attributes.get("signal").is_some_and(|signal| ends(signal)) => {
                self.stopped.note(&id);
                self.tell(Learnt::StopAsked { owner }).await;
            }
            Some("stop") => {
                self.stopped.note(&id);
                self.tell(Learnt::StopAsked { owner }).await;
            }
            Some("destroy") => self.stopped.forget(&id),
            Some(_) | None => {}
        }
        Ok(())
    }

    async fn answer(&mut self, engine: &Engine, id: &str) -> Result<()> {
        let now = clock::boot();
        if self.unknown.get(id).is_some_and(|at| now.since(*at) < UNKNOWN_FOR) {
            return Ok(());
        }
        self.look(engine, id).await
    }

    async fn look(&mut self, engine: &Engine, id: &str) -> Result<()> {
        let Some(seen) = engine.inspect(id).await? else {
            self.remember_unknown(id);
            return Ok(());
        };
        let owner = Owner::Container { runtime: "docker".to_owned(), id: seen.container.id.clone() };
        self.unknown.remove(id);
        self.tell(Learnt::Named(seen.container, None)).await;
        if let Some(pid) = seen.pid {
            self.tell(Learnt::Runs { owner, pid }).await;
        }
        Ok(())
    }

    fn remember_unknown(&mut self, id: &str) {
        let now = clock::boot();
        self.unknown.retain(|_, at| now.since(*at) < UNKNOWN_FOR);
        if self.unknown.len() < UNKNOWN_KEPT {
            self.unknown.insert(id.to_owned(), now);
        }
    }

    async fn tell(&self, learnt: Learnt) {
        // Closed only when the agent is on its way out.
        self.learnt.send(learnt).await.ok();
    }
}

/// An event has the signal's number.
pub(super) fn ends(signal: &str) -> bool {
    signal.parse().is_ok_and(|signal: i32| matches!(signal, libc::SIGTERM | libc::SIGKILL | libc::SIGINT))
}
