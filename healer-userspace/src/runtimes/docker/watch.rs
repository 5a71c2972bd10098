//! Listens to the events of all containers; asks after those that were not named by one.

use core::time::Duration;
use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
};

use bollard::models::EventMessage;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    super::{Learnt, Owner, Stopped, settle::Word},
    ends::Failure,
    engine::{Engine, Result, Seen, WORD_COMES_WITHIN, by_event, words},
    kubelets,
    ours::Ours,
};
use crate::{clock, engine::time::BootTime, text::printable};

/// A stream that has broken off silently looks like a quiet one.
const PING_EVERY: Duration = Duration::from_secs(30);
const RETRY_EVERY: Duration = Duration::from_secs(10);
/// An id that Docker did not know is not asked for again so soon.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
const UNKNOWN_KEPT: usize = 1024;
/// Inspections under way: one that hangs holds up neither the others nor the events.
const LOOKS_MAX: usize = 4;

struct Watch {
    learnt: mpsc::Sender<Learnt>,
    stopped: Stopped,
    ours: Ours,
    unknown: BTreeMap<String, BootTime>,
    looks: JoinSet<(String, Result<Option<Look>>)>,
    /// Ids that are to be looked at.
    waiting: VecDeque<String>,
    /// Of the last list, those that were not looked at yet; None before the first.
    owed: Option<BTreeMap<String, Timestamp>>,
    /// All before it was listed or told.
    heard: Timestamp,
}

struct Look {
    seen: Seen,
    /// It has failed while nobody told of it, and nobody had asked for that.
    found_dead: Option<Failure>,
}

/// Ends with the agent. Without a socket it looks for one now and then.
pub(super) async fn run(
    socket: PathBuf,
    mut questions: mpsc::Receiver<String>,
    learnt: mpsc::Sender<Learnt>,
    stopped: Stopped,
    ours: Ours,
) {
    let (looks, waiting) = (JoinSet::new(), VecDeque::new());
    let (unknown, heard) = (BTreeMap::new(), clock::wall());
    let mut watch = Watch { learnt, stopped, ours, unknown, looks, waiting, owed: None, heard };
    let mut trouble = None;
    while !questions.is_closed() {
        if socket.exists() {
            let Err(said) = watch.serve(&socket, &mut questions, &mut trouble).await else { return };
            watch.stopped.deafen(true);
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
        let heard = self.heard.min(clock::wall());
        let events = engine.events(heard);
        tokio::pin!(events);
        let listed_at = clock::wall();
        self.looks = JoinSet::new();
        self.waiting = engine.all().await?.into();
        self.owed = Some(owed(self.owed.as_ref(), &self.waiting, heard));
        self.heard = listed_at;
        self.stopped.deafen(false);
        if trouble.take().is_some() {
            tracing::info!("Docker answers again");
        }
        // Outside of the loop: on a busy host an event comes before any pause is over.
        let mut pings = interval(PING_EVERY);
        pings.reset();
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_quiet = true;
        loop {
            self.look(&engine);
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        is_quiet = false;
                        self.hear(event).await;
                    }
                    Some(Err(error)) => return Err(words("Docker's events", &error)),
                    None => return Err("Docker's events have ended".to_owned()),
                },
                question = questions.recv() => match question {
                    Some(id) => self.ask(id),
                    None => return Ok(()),
                },
                Some(Ok((id, look))) = self.looks.join_next(), if !self.looks.is_empty() => self.seen(&id, look).await,
                _ = pings.tick() => {
                    let pinged_at = clock::wall();
                    engine.ping().await?;
                    // Of a busy stream some may be unread.
                    if core::mem::replace(&mut is_quiet, true) {
                        self.heard = pinged_at;
                    }
                }
            }
        }
    }

    async fn hear(&mut self, event: EventMessage) {
        let heard = all_told_before(&event);
        self.happened(event).await;
        self.heard = heard.map_or(self.heard, |heard| heard.max(self.heard));
    }

    async fn happened(&mut self, event: EventMessage) {
        let actor = event.actor.unwrap_or_default();
        let Some(id) = actor.id else { return };
        let attributes = actor.attributes.unwrap_or_default();
        let owner = Owner::Container { runtime: "docker".to_owned(), id: id.clone() };
        match event.action.as_deref() {
            Some("start") => {
                self.stopped.forget(&id);
                self.ours.forget(&id);
                // Anew also if one is under way: that one may have been answered before the start.
                self.waiting.push_back(id);
            }
            Some("create" | "die" | "rename") => {
                let (container, pod) = kubelets::named(by_event(&id, attributes));
                self.tell(Learnt::Named(Box::new(container), pod)).await;
            }
            // Of a restart whose start fails Docker tells no more than this.
            Some("kill" | "stop") if self.ours.has(&id) => {}
            // `docker kill` is a stop as well: Docker's own restart policies take it for one.
            // Podman's event of it does not have the signal.
            Some("kill") if attributes.get("signal").is_none_or(|signal| ends(signal)) => {
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
    }

    fn ask(&mut self, id: String) {
        let now = clock::boot();
        let is_unknown = self.unknown.get(&id).is_some_and(|at| now.since(*at) < UNKNOWN_FOR);
        if !is_unknown && !self.waiting.contains(&id) {
            self.waiting.push_back(id);
        }
    }

    fn look(&mut self, engine: &Engine) {
        while self.looks.len() < LOOKS_MAX
            && let Some(id) = self.waiting.pop_front()
        {
            let engine = engine.clone();
            let untold_since = self.owed.as_ref().and_then(|owed| owed.get(&id)).copied();
            self.looks.spawn(async move {
                let look = look_at(&engine, &id, untold_since).await;
                (id, look)
            });
        }
    }

    /// One that Docker cannot tell of goes by its id; the others are heard all the same.
    async fn seen(&mut self, id: &str, look: Result<Option<Look>>) {
        if let (Some(owed), Ok(_)) = (&mut self.owed, &look) {
            owed.remove(id);
        }
        let Look { seen, found_dead } = match look {
            Ok(Some(look)) => look,
            Ok(None) => return self.remember_unknown(id),
            Err(error) => {
                tracing::warn!("container {} goes by its id: {error}", printable(id));
                return self.remember_unknown(id);
            }
        };
        let owner = Owner::Container { runtime: "docker".to_owned(), id: seen.container.id.clone() };
        self.unknown.remove(id);
        self.tell(Learnt::Named(Box::new(seen.container), seen.pod)).await;
        if let Some(pid) = seen.pid {
            self.tell(Learnt::Runs { owner, pid }).await;
        } else if let Some(failure) = found_dead.filter(|_| self.stopped.word(id) == Word::Nothing) {
            let Failure { exit, oom_killed, .. } = failure;
            self.tell(Learnt::FoundDead { owner, exit, oom_killed }).await;
        }
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

/// An end is older than the event that tells of it.
fn all_told_before(event: &EventMessage) -> Option<Timestamp> {
    let exactly = event.time_nano.and_then(|nanos| Timestamp::from_nanosecond(i128::from(nanos)).ok());
    let at = exactly.or_else(|| event.time.and_then(|second| Timestamp::from_second(second).ok()))?;
    at.checked_sub(WORD_COMES_WITHIN).ok()
}

/// By id, since when nobody told of its end: before the first list of nobody's, later of nobody's in a broken stream.
fn owed(
    before: Option<&BTreeMap<String, Timestamp>>,
    listed: &VecDeque<String>,
    heard: Timestamp,
) -> BTreeMap<String, Timestamp> {
    let untold_since =
        |id: &String| before.map_or(Timestamp::MIN, |before| before.get(id).copied().unwrap_or(heard));
    listed.iter().map(|id| (id.clone(), untold_since(id))).collect()
}

async fn look_at(engine: &Engine, id: &str, untold_since: Option<Timestamp>) -> Result<Option<Look>> {
    let Some(seen) = engine.inspect(id).await? else { return Ok(None) };
    let mut found_dead = None;
    let is_untold = |failure: &Failure| untold_since.is_some_and(|since| since <= failure.at);
    if let Some(failure) = seen.failure.filter(is_untold) {
        // Who may have been stopped on purpose is left alone.
        let ended_alone = engine.ended_alone(id, &failure).await.unwrap_or(false);
        found_dead = ended_alone.then_some(failure);
    }
    Ok(Some(Look { seen, found_dead }))
}

/// An event has the signal's number. SIGQUIT asks many a program for a report only.
pub(super) fn ends(signal: &str) -> bool {
    use libc::{SIGINT, SIGKILL, SIGTERM};
    let is_one = |signal: i32| matches!(signal, SIGTERM | SIGKILL | SIGINT);
    signal.parse().is_ok_and(is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_end_nobody_told_is_looked_at() {
        let listed = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<VecDeque<_>>();
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = owed(None, &listed(&["a", "b"]), at(10));
        assert!(first.values().all(|since| *since == Timestamp::MIN), "whenever it ended");

        let left = BTreeMap::from([("b".to_owned(), Timestamp::MIN), ("gone".to_owned(), at(5))]);
        let after_a_gap = owed(Some(&left), &listed(&["a", "b", "new"]), at(20));
        let said = ["a", "b", "new", "gone"].map(|id| after_a_gap.get(id).copied());
        assert_eq!(said, [Some(at(20)), Some(Timestamp::MIN), Some(at(20)), None]);
    }

    fn event(text: &str) -> EventMessage {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_an_event_says_was_heard_up_to_shortly_before_it() {
        let at = |nanos| Timestamp::from_nanosecond(nanos).unwrap();
        let of = |text: &str| all_told_before(&event(text));
        assert_eq!(of(r#"{"time":100,"timeNano":100000000007}"#), Some(at(95_000_000_007)));
        assert_eq!(of(r#"{"time":100}"#), Some(at(95_000_000_000)));
        assert_eq!(of("{}"), None);
    }

    #[tokio::test]
    async fn a_kill_whose_signal_is_not_told_is_a_stop() {
        let (learnt, mut told) = mpsc::channel(8);
        let (stopped, ours) = (Stopped::default(), Ours::default());
        let (unknown, looks, waiting) = (BTreeMap::new(), JoinSet::new(), VecDeque::new());
        let heard = Timestamp::UNIX_EPOCH;
        let mut watch = Watch { learnt, stopped, ours, unknown, looks, waiting, owed: None, heard };
        for (id, signal) in [("podmans", ""), ("told", r#""signal":"1""#)] {
            let actor = format!(r#"{{"ID":"{id}","Attributes":{{{signal}}}}}"#);
            watch.hear(event(&format!(r#"{{"Action":"kill","time":9,"Actor":{actor}}}"#))).await;
        }
        assert_eq!(["podmans", "told"].map(|id| watch.stopped.word(id)), [Word::Stop, Word::Nothing]);
        assert!(matches!(told.try_recv(), Ok(Learnt::StopAsked { .. })) && told.try_recv().is_err());
        assert_eq!(watch.heard, Timestamp::from_second(4).unwrap());
    }
}
