//! HealPolicies of the cluster: listed, then watched. What is learnt is handed on whole, and only when it has changed.

use core::time::Duration;
use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use kube::core::WatchEvent;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    api::{ANSWERS_WITHIN, Api, Send},
    rights::{LIST_POLICIES, WATCH_POLICIES},
};
use crate::config::{FromCluster, yaml};

/// The server ends a watch after this; a connection that died is noticed a little later.
const WATCH_SECONDS: u64 = 240;
const ENDS_WITHIN: Duration = Duration::from_secs(WATCH_SECONDS + 30);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The cluster has no such kind: it may come.
const NOT_THERE: Duration = Duration::from_secs(60);
/// Several changes of one moment are one.
const GATHER: Duration = Duration::from_millis(200);

/// Why the list is to be made anew, and after how long.
struct Again {
    why: Option<String>,
    pause: Option<Duration>,
}

pub(super) async fn follow(api: Api, learnt: mpsc::Sender<Vec<FromCluster>>) {
    let mut watch = Watch { api, learnt, known: BTreeMap::new(), told: None };
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    while !watch.learnt.is_closed() {
        let again = watch.run().await;
        if again.why.is_none() {
            pause = FIRST_PAUSE;
        } else if again.why != last {
            tracing::warn!(
                "HealPolicies of the cluster are not followed: {}; those known stay in force",
                again.why.as_deref().unwrap_or_default()
            );
        }
        last = again.why;
        // Nodes that lost one server must not all come back in one moment.
        let jitter = Duration::from_millis(fastrand::u64(0..1000));
        tokio::time::sleep(again.pause.unwrap_or(pause) + jitter).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

struct Watch {
    api: Api,
    learnt: mpsc::Sender<Vec<FromCluster>>,
    /// By name.
    known: BTreeMap<String, Value>,
    told: Option<Vec<FromCluster>>,
}

impl Watch {
    async fn run(&mut self) -> Again {
        let mut version = match self.list().await {
            Ok(version) => version,
            Err(again) => return again,
        };
        loop {
            self.tell().await;
            match self.watch(&mut version).await {
                Ok(()) => {}
                Err(again) => return again,
            }
        }
    }

    async fn list(&mut self) -> Result<String, Again> {
        let failed = |why: String, pause| Again { why: Some(why), pause };
        let asked = self.api.ask(&LIST_POLICIES, &LIST_POLICIES.path("", ""), Send::Nothing).await;
        let answer = asked.map_err(|error| failed(error, None))?;
        match answer.code {
            200 => {}
            404 => {
                let why = "the cluster does not know the kind (deploy/kubernetes/base/crd.yaml)".to_owned();
                return Err(failed(why, Some(NOT_THERE)));
            }
            401 | 403 => return Err(failed(answer.words(), Some(NOT_THERE))),
            _other => return Err(failed(answer.words(), answer.retry_after)),
        }
        let items = answer.body["items"].as_array().cloned().unwrap_or_default();
        self.known = items.into_iter().map(|item| (name(&item), item)).collect();
        Ok(answer.body["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned())
    }

    /// Until the first changes, or the end of one watch.
    async fn watch(&mut self, version: &mut String) -> Result<(), Again> {
        let failed = |why: String| Again { why: Some(why), pause: None };
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}",
            WATCH_POLICIES.path("", "")
        );
        let opened = tokio::time::timeout(ANSWERS_WITHIN, self.api.watch(&WATCH_POLICIES, &path)).await;
        let late = || failed(format!("no answer within {} s", ANSWERS_WITHIN.as_secs()));
        let events = match opened.map_err(|_elapsed| late())? {
            Ok(events) => events,
            Err(error) if is_gone(&error) => return Err(Again { why: None, pause: None }),
            Err(error) => return Err(failed(super::api::chain(&error))),
        };
        let mut events = core::pin::pin!(events);
        let end = crate::clock::after(ENDS_WITHIN);
        let mut settles = None;
        loop {
            let until = settles.unwrap_or(end).min(end);
            match tokio::time::timeout_at(until, events.next()).await {
                Ok(Some(Ok(event))) => {
                    if self.take(event, version)? {
                        settles.get_or_insert_with(|| crate::clock::after(GATHER));
                    }
                }
                Ok(Some(Err(error))) if is_gone(&error) => return Err(Again { why: None, pause: None }),
                Ok(Some(Err(error))) => return Err(failed(super::api::chain(&error))),
                // The server's own end, or something to tell.
                Ok(None) => {
                    tokio::time::sleep(FIRST_PAUSE).await;
                    return Ok(());
                }
                Err(_elapsed) => {
                    let Some(_) = settles.take() else { return Ok(()) };
                    self.tell().await;
                }
            }
        }
    }

    /// Whether a policy has changed.
    fn take(&mut self, event: WatchEvent<Value>, version: &mut String) -> Result<bool, Again> {
        let object = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.known.insert(name(&object), object.clone());
                object
            }
            WatchEvent::Deleted(object) => {
                self.known.remove(&name(&object));
                object
            }
            WatchEvent::Bookmark(bookmark) => {
                *version = bookmark.metadata.resource_version;
                return Ok(false);
            }
            // What was kept of the history begins later (410): everything is listed anew.
            WatchEvent::Error(status) if status.code == 410 => return Err(Again { why: None, pause: None }),
            WatchEvent::Error(status) => {
                let why = crate::text::printable(&status.message).into_owned();
                return Err(Again { why: Some(why), pause: None });
            }
        };
        if let Some(newer) = object["metadata"]["resourceVersion"].as_str() {
            newer.clone_into(version);
        }
        Ok(true)
    }

    async fn tell(&mut self) {
        let policies: Vec<FromCluster> = self.known.values().map(rendered).collect();
        // A status that a node has written is no news.
        if self.told.as_ref() != Some(&policies) {
            self.told = Some(policies.clone());
            self.learnt.send(policies).await.ok();
        }
    }
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// As a file would have it: what the server adds is left out.
fn rendered(object: &Value) -> FromCluster {
    let name = name(object);
    let file = json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": {"name": name},
        "spec": object["spec"],
    });
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    FromCluster { name, generation, text: yaml::text(&file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_adds_is_no_part_of_a_policy() {
        let object = json!({
            "apiVersion": "healer.dev/v1alpha1", "kind": "HealPolicy", "spec": {"mode": "shadow"},
            "metadata": {"name": "web", "generation": 3, "resourceVersion": "9", "labels": {"a": "b"}},
            "status": {"nodes": []},
        });
        let rendered = rendered(&object);
        assert_eq!((rendered.name.as_str(), rendered.generation), ("web", 3));
        for absent in ["resourceVersion", "labels", "status"] {
            assert!(!rendered.text.contains(absent), "{}", rendered.text);
        }
    }
}
