//! Objects of one kind: listed, then watched; listed anew when the server has forgotten what was between.

use core::time::Duration;
use std::collections::BTreeMap;

use kube::core::WatchEvent;
use serde_json::Value;

use super::{
    api::{ANSWERS_WITHIN, Answer, Api, Send},
    rights::Right,
};
use crate::{clock, engine::time::BootTime};

/// The server ends a watch after this; a connection that died is noticed a little later.
const WATCH_SECONDS: u64 = 240;
pub(super) const ENDS_WITHIN: Duration = Duration::from_secs(WATCH_SECONDS + 30);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// So long a server may send us away.
const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// What is asked for is not granted, or the cluster has no such kind: it may come.
const NOT_THERE: Duration = Duration::from_secs(60);
/// Several changes of one moment are one.
const GATHER: Duration = Duration::from_millis(200);

/// What is followed.
pub(super) struct What {
    /// `HealPolicies of the cluster`
    pub(super) name: &'static str,
    pub(super) list: &'static Right,
    pub(super) watch: &'static Right,
    /// `fieldSelector=…`, or nothing.
    pub(super) selector: String,
    /// Of a 404.
    pub(super) absent: &'static str,
    /// What holds while they are not followed.
    pub(super) meanwhile: &'static str,
}

/// Who wants to know.
pub(super) trait Learner {
    /// Nobody wants to know any more.
    fn is_over(&self) -> bool;
    /// What is kept of an object.
    fn keep(&mut self, object: Value) -> Value;
    /// By namespace and name.
    async fn learn(&mut self, known: &BTreeMap<String, Value>);
    /// The server has said something, if only that there is nothing new.
    fn heard(&mut self, _at: BootTime) {}
    /// They are not followed now, and why.
    fn lost(&mut self, why: &str);
}

/// Why the list is to be made anew, and after how long.
struct Again {
    why: Option<String>,
    pause: Option<Duration>,
}

impl Again {
    /// When the server has asked for it, if it has.
    fn after(refused: &Answer) -> Self {
        let asked = refused.retry_after.map(|asked| asked.clamp(FIRST_PAUSE, LONGEST_ASKED));
        Self { why: Some(refused.words()), pause: asked }
    }

    /// Every watch ends some day. Who is listed and then refused a watch, again and again, is not asked every second.
    fn is_a_fresh_start(&self, followed: Duration) -> bool {
        self.why.is_none() || LONGEST_PAUSE <= followed
    }
}

pub(super) async fn follow(api: Api, what: What, learner: impl Learner) {
    let mut watch = Watch { api, what, learner, known: BTreeMap::new(), heard: clock::boot() };
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    while !watch.learner.is_over() {
        let began = clock::boot();
        let again = watch.run().await;
        if again.is_a_fresh_start(clock::boot().since(began)) {
            pause = FIRST_PAUSE;
        }
        if let Some(why) = &again.why {
            if again.why != last {
                let What { name, meanwhile, .. } = watch.what;
                tracing::warn!("{name} are not followed: {why}; {meanwhile}");
            }
            watch.learner.lost(why);
        }
        last = again.why;
        // Nodes that lost one server must not all come back in one moment.
        let jitter = Duration::from_millis(fastrand::u64(0..1000));
        tokio::time::sleep(again.pause.unwrap_or(pause) + jitter).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

struct Watch<L> {
    api: Api,
    what: What,
    learner: L,
    known: BTreeMap<String, Value>,
    heard: BootTime,
}

impl<L: Learner> Watch<L> {
    async fn run(&mut self) -> Again {
        let mut version = match self.list().await {
            Ok(version) => version,
            Err(again) => return again,
        };
        loop {
            self.learner.learn(&self.known).await;
            match self.watch(&mut version).await {
                Ok(()) => {}
                Err(again) => return again,
            }
        }
    }

    async fn list(&mut self) -> Result<String, Again> {
        let failed = |why: String, pause| Again { why: Some(why), pause };
        let list = self.what.list;
        let path = format!("{}?{}", list.path("", ""), self.what.selector);
        let asked = self.api.ask(list, path.trim_end_matches('?'), Send::Nothing).await;
        let mut answer = asked.map_err(|error| failed(error, None))?;
        match answer.code {
            200 => {}
            404 => return Err(failed(self.what.absent.to_owned(), Some(NOT_THERE))),
            401 | 403 => return Err(failed(answer.words(), Some(NOT_THERE))),
            _other => return Err(Again::after(&answer)),
        }
        let items = answer.body["items"].as_array_mut().map(core::mem::take).unwrap_or_default();
        self.hear();
        self.known = items.into_iter().map(|item| (name(&item), self.learner.keep(item))).collect();
        Ok(answer.body["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned())
    }

    /// Until the first changes, or the end of one watch.
    async fn watch(&mut self, version: &mut String) -> Result<(), Again> {
        let failed = |why: String| Again { why: Some(why), pause: None };
        let selector = &self.what.selector;
        let and = if selector.is_empty() { "" } else { "&" };
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}{and}{selector}",
            self.what.watch.path("", "")
        );
        let opened = tokio::time::timeout(ANSWERS_WITHIN, self.api.watch(self.what.watch, &path)).await;
        let late = || failed(format!("no answer within {} s", ANSWERS_WITHIN.as_secs()));
        let mut events = match opened.map_err(|_elapsed| late())?.map_err(failed)? {
            Ok(events) => events,
            // What was kept of the history begins later: everything is listed anew.
            Err(refused) if refused.code == 410 => return Err(Again { why: None, pause: None }),
            Err(refused) => return Err(Again::after(&refused)),
        };
        let end = clock::after(ENDS_WITHIN);
        let mut settles = None;
        loop {
            let until = settles.unwrap_or(end).min(end);
            match tokio::time::timeout_at(until, events.next()).await {
                Ok(Some(Ok(event))) => {
                    self.hear();
                    if self.take(event, version)? {
                        settles.get_or_insert_with(|| clock::after(GATHER));
                    }
                }
                Ok(Some(Err(error))) => return Err(failed(error)),
                // Not even a bookmark, which servers send once a minute: the list says whether all that still holds.
                Ok(None) if WATCH_SECONDS <= clock::boot().since(self.heard).as_secs() => {
                    return Err(Again { why: None, pause: None });
                }
                // The server's own end, or something to tell.
                Ok(None) => {
                    tokio::time::sleep(FIRST_PAUSE).await;
                    return Ok(());
                }
                Err(_elapsed) => match settles.take() {
                    Some(_) => self.learner.learn(&self.known).await,
                    // The server did not end it in time: its connection is dead.
                    None => return Err(Again { why: None, pause: None }),
                },
            }
        }
    }

    fn hear(&mut self) {
        self.heard = clock::boot();
        self.learner.heard(self.heard);
    }

    /// Whether an object has changed.
    fn take(&mut self, event: WatchEvent<Value>, version: &mut String) -> Result<bool, Again> {
        let newer = |object: &Value| object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        let found = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let found = newer(&object);
                self.known.insert(name(&object), self.learner.keep(object));
                found
            }
            WatchEvent::Deleted(object) => {
                self.known.remove(&name(&object));
                newer(&object)
            }
            WatchEvent::Bookmark(bookmark) => {
                *version = bookmark.metadata.resource_version;
                return Ok(false);
            }
            // The same, told within a watch.
            WatchEvent::Error(status) if status.code == 410 => return Err(Again { why: None, pause: None }),
            WatchEvent::Error(status) => {
                let why = crate::text::printable(&status.message).into_owned();
                return Err(Again { why: Some(why), pause: None });
            }
        };
        if let Some(found) = found {
            *version = found;
        }
        Ok(true)
    }
}

fn name(object: &Value) -> String {
    let part = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    let inside = part("namespace");
    if inside.is_empty() { part("name").to_owned() } else { format!("{inside}/{}", part("name")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_watch_that_lasted_costs_no_longer_pause() {
        let fresh = |why: Option<&str>, seconds| {
            let again = Again { why: why.map(str::to_owned), pause: None };
            again.is_a_fresh_start(Duration::from_secs(seconds))
        };
        assert!(fresh(Some("connection reset"), 240));
        assert!(fresh(None, 0));
        assert!(!fresh(Some("403 watch is not granted"), 0));
    }

    #[test]
    fn a_server_that_says_when_is_asked_then_within_reason() {
        let after = |seconds: Option<u64>| {
            let retry_after = seconds.map(Duration::from_secs);
            Again::after(&Answer { code: 429, retry_after, body: Value::Null }).pause
        };
        assert_eq!(after(None), None);
        assert_eq!(after(Some(0)), Some(FIRST_PAUSE));
        assert_eq!(after(Some(7)), Some(Duration::from_secs(7)));
        assert_eq!(after(Some(24 * 3600)), Some(LONGEST_ASKED));
    }
}
