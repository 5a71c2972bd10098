//! Lists pods and containers: at start, when somebody unknown turns up, for a while after a death, and now and then.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};

use super::{
    super::{Learnt, Owner},
    engine::{Engine, Life, Result},
    image,
    nameless::Nameless,
    places::Places,
    pods::{self, Seen},
};
use crate::{clock, engine::time::BootTime};

const POLL_EVERY: Duration = Duration::from_secs(10);
/// After a question: what has come and gone in its pod is to be seen before it counts as missing.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOK_FOR: Duration = Duration::from_secs(5);
const RETRY_EVERY: Duration = Duration::from_secs(10);
/// While another than the best is asked: does a better one answer by now?
const BETTER_EVERY: Duration = RETRY_EVERY;
/// An id that the runtime did not know is not asked for again so soon.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
const UNKNOWN_KEPT: usize = 1024;
/// Between two lists, unless somebody asks: milliseconds for each, or a few where the runtime is slow.
const IMAGES_FOR: Duration = Duration::from_secs(1);
const IMAGES_REST: Duration = Duration::from_secs(30);

struct Watch {
    learnt: mpsc::Sender<Learnt>,
    known: BTreeMap<String, Seen>,
    /// Whoever is asked has told nothing yet: what is over by then ended before anybody looked.
    is_first: bool,
    unknown: BTreeMap<String, BootTime>,
    /// Asked for since the last list.
    awaited: BTreeSet<String>,
    /// Those whose PID 1 was told.
    mains: BTreeSet<String>,
    nameless: Nameless,
    /// One hangs: lists and questions are not to wait for it each time.
    images_rest_until: BootTime,
    hurry: Arc<Notify>,
    restless_until: BootTime,
    sought_better: BootTime,
}

/// Ends with the agent. Without a socket it looks for one now and then.
pub(super) async fn run(
    places: Places,
    mut questions: mpsc::Receiver<String>,
    hurry: Arc<Notify>,
    learnt: mpsc::Sender<Learnt>,
) {
    let (known, unknown) = (BTreeMap::new(), BTreeMap::new());
    let (awaited, mains) = (BTreeSet::new(), BTreeSet::new());
    let (restless_until, sought_better) = (BootTime(0), BootTime(0));
    let (is_first, nameless) = (true, Nameless::default());
    let mut watch = Watch {
        learnt,
        known,
        is_first,
        unknown,
        awaited,
        mains,
        nameless,
        images_rest_until: BootTime(0),
        hurry,
        restless_until,
        sought_better,
    };
    let mut trouble = None;
    while !questions.is_closed() {
        if places.has_socket() {
            let Err(said) = watch.serve(&places, &mut questions, &mut trouble).await else { return };
            if trouble.as_ref() != Some(&said) {
                tracing::warn!("{said}; containers and pods go by their ids until it answers");
                trouble = Some(said);
            }
            watch.nobody_answers(&mut questions).await;
        }
        sleep(RETRY_EVERY).await;
    }
}

impl Watch {
    /// Ok once the agent is on its way out.
    async fn serve(
        &mut self,
        places: &Places,
        questions: &mut mpsc::Receiver<String>,
        trouble: &mut Option<String>,
    ) -> Result<()> {
        let mut engine = places.first_that_answers().await?;
        self.sought_better = clock::boot();
        self.begin(&engine).await?;
        if trouble.take().is_some() {
            tracing::info!("{} answers again", engine.name);
        }
        let hurry = Arc::clone(&self.hurry);
        loop {
            self.name_images(&engine, questions).await;
            let is_restless = clock::boot() < self.restless_until;
            let pause = if is_restless { LOOK_EVERY } else { POLL_EVERY };
            tokio::select! {
                // Who looks often already needs no hurry.
                () = hurry.notified(), if !is_restless => {
                    self.restless_until = clock::boot() + LOOK_FOR;
                    self.list(&engine).await?;
                }
                question = questions.recv() => {
                    let Some(id) = question else { return Ok(()) };
                    let mut asked = BTreeSet::from([id]);
                    while let Ok(id) = questions.try_recv() {
                        asked.insert(id);
                    }
                    self.answer(&engine, asked).await?;
                }
                () = sleep(pause) => match self.better(places).await {
                    Some(better) => {
                        engine = better;
                        self.begin(&engine).await?;
                    }
                    None => self.list(&engine).await?,
                },
            }
        }
    }

    /// With somebody new: whom another one knew has not ended.
    async fn begin(&mut self, engine: &Engine) -> Result<()> {
        self.known.clear();
        self.mains.clear();
        self.nameless.clear();
        self.is_first = true;
        self.list(engine).await
    }

    async fn better(&mut self, places: &Places) -> Option<Engine> {
        let now = clock::boot();
        if now.since(self.sought_better) < BETTER_EVERY {
            return None;
        }
        self.sought_better = now;
        places.better_that_answers().await
    }

    /// Whoever waits for a name need not wait longer.
    async fn nobody_answers(&mut self, questions: &mut mpsc::Receiver<String>) {
        while let Ok(id) = questions.try_recv() {
            self.tell(Learnt::Nameless { id }).await;
        }
    }

    async fn answer(&mut self, engine: &Engine, asked: BTreeSet<String>) -> Result<()> {
        let now = clock::boot();
        self.unknown.retain(|_, at| now.since(*at) < UNKNOWN_FOR);
        let (stale, fresh): (Vec<_>, Vec<_>) =
            asked.into_iter().partition(|id| self.unknown.contains_key(id));
        if !fresh.is_empty() {
            self.restless_until = now + LOOK_FOR;
            self.awaited.extend(fresh.iter().cloned());
            self.list(engine).await?;
            self.awaited.clear();
        }
        for id in fresh.iter().chain(&stale) {
            if self.known.contains_key(id) {
                continue;
            }
            if self.unknown.len() < UNKNOWN_KEPT {
                self.unknown.entry(id.clone()).or_insert(now);
            }
            self.tell(Learnt::Nameless { id: id.clone() }).await;
        }
        Ok(())
    }

    async fn list(&mut self, engine: &Engine) -> Result<()> {
        let mut now = pods::all(engine.kind(), engine.list().await?);
        self.images_known(&mut now);
        let before = core::mem::take(&mut self.known);
        let is_first = core::mem::take(&mut self.is_first);
        for (id, seen) in &now {
            let old = before.get(id);
            let has_status = seen.container.name != pods::SANDBOX;
            let has_ended = has_status && seen.is_over && !is_first && old.is_none_or(|old| !old.is_over);
            let is_awaited = old.is_none() && self.awaited.contains(id);
            // The name lets go of what has waited for it: whose end that was comes first.
            if has_ended && is_awaited {
                self.main_of(engine, id).await?;
            }
            if old.is_none_or(|old| (&old.container, &old.pod) != (&seen.container, &seen.pod)) {
                self.tell(Learnt::Named(Box::new(seen.container.clone()), seen.pod.clone())).await;
            }
            if has_ended && !is_awaited {
                self.ended(engine, id).await?;
            }
            if has_status && seen.runs && !self.mains.contains(id) {
                self.main_of(engine, id).await?;
            }
            if seen.pod_is_over && old.is_some_and(|old| !old.pod_is_over) {
                self.stopped(seen).await;
            }
        }
        // The kubelet clears away what has ended by itself: that is no stop, unless the pod goes with it.
        let pods: BTreeSet<_> =
            now.values().filter_map(|seen| seen.pod.as_ref()).map(|pod| &pod.uid).collect();
        for (id, seen) in before.iter().filter(|(id, seen)| !now.contains_key(*id) && !seen.pod_is_over) {
            let pod_is_gone = seen.pod.as_ref().is_none_or(|pod| !pods.contains(&pod.uid));
            if seen.runs || pod_is_gone {
                tracing::debug!("container {id} was removed");
                self.stopped(seen).await;
            }
        }
        self.mains.retain(|id| now.contains_key(id));
        self.nameless.keep(|id| now.contains_key(id));
        self.known = now;
        Ok(())
    }

    /// A status may have a name where the list has an id: each is asked for until there is an answer.
    fn images_known(&mut self, now: &mut BTreeMap<String, Seen>) {
        for (id, seen) in now.iter_mut().filter(|(_, seen)| image::is_id(&seen.container.image)) {
            match self.known.get(id) {
                Some(old) => seen.container.image.clone_from(&old.container.image),
                None => self.nameless.note(id.clone()),
            }
        }
    }

    /// After everything else: nobody waits for the name of an image. The first that gets no answer is the last.
    async fn name_images(&mut self, engine: &Engine, questions: &mpsc::Receiver<String>) {
        let until = clock::boot() + IMAGES_FOR;
        if clock::boot() < self.images_rest_until {
            return;
        }
        while questions.is_empty() && clock::boot() < until {
            let Some(id) = self.nameless.take_first() else { return };
            match engine.image(&id).await {
                Ok(name) => self.image_named(&id, name).await,
                Err(said) => {
                    tracing::debug!("{said}; the image of container {id} is asked for again");
                    self.nameless.note(id);
                    self.images_rest_until = clock::boot() + IMAGES_REST;
                    return;
                }
            }
        }
    }

    async fn image_named(&mut self, id: &str, name: Option<String>) {
        let (Some(seen), Some(name)) = (self.known.get_mut(id), name) else { return };
        seen.container.image = name;
        let named = Learnt::Named(Box::new(seen.container.clone()), seen.pod.clone());
        self.tell(named).await;
    }

    async fn main_of(&mut self, engine: &Engine, id: &str) -> Result<()> {
        let owner = owner(engine.kind().to_owned(), id);
        match engine.life(id).await? {
            Some(Life::Runs(pid)) => {
                self.mains.insert(id.to_owned());
                self.tell(Learnt::Runs { owner, pid }).await;
            }
            Some(Life::Over(exit)) => self.tell(Learnt::Ended { id: id.to_owned(), exit }).await,
            None => {}
        }
        Ok(())
    }

    /// For whom the kernel told of it under no name, or not at all: the group of the dead is gone at once.
    async fn ended(&self, engine: &Engine, id: &str) -> Result<()> {
        if let Some(Life::Over(exit)) = engine.life(id).await? {
            self.tell(Learnt::Failed { owner: owner(engine.kind().to_owned(), id), pid: 0, exit }).await;
        }
        Ok(())
    }

    /// The pod was stopped, or the container was removed.
    async fn stopped(&self, seen: &Seen) {
        let Seen { container, .. } = seen;
        self.tell(Learnt::StopAsked { owner: owner(container.runtime.clone(), &container.id) }).await;
    }

    async fn tell(&self, learnt: Learnt) {
        // Closed only when the agent is on its way out.
        self.learnt.send(learnt).await.ok();
    }
}

fn owner(runtime: String, id: &str) -> Owner {
    Owner::Container { runtime, id: id.to_owned() }
}
