//! What becomes of a cluster's policy on this node, written into its status: each node has an entry of its own, so that
//! none overwrites another's.

use core::time::Duration;
use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    api::{Answer, Api, MANAGER, Send, now},
    rights::{LIST_POLICIES, POLICY_STATUS},
};
use crate::{
    clock,
    config::Verdict,
    engine::{
        command::IncidentId,
        report::{Outcome, Report, ReportFact},
    },
    text::printable,
};

/// An entry is written anew so often, changed or not; one that is older than a day is of a node that is gone.
const BEAT: Duration = Duration::from_secs(6 * 3600);
const GONE_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Nodes that start together do not look together.
const FIRST_BEAT_MIN_S: u64 = 300;
const FIRST_BEAT_MAX_S: u64 = 1800;
/// What could not be written is tried again after this, each time after twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(30);
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// Nodes that lost one server must not all come back in one moment.
const RETRY_JITTER_MS: u64 = 5000;
/// Counts alone are written at most this often.
const COUNTS_EVERY: Duration = Duration::from_secs(60);
const MESSAGE_MAX: usize = 500;
/// Incidents whose policy is remembered; the oldest goes.
const REMEMBERED: usize = 1024;
const QUEUE: usize = 16;

/// Since healer started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    answered: u64,
    acts: u64,
    healed: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    verdict: Verdict,
    counts: Counts,
}

/// The end at which facts are put in; never blocks.
pub struct Statuses {
    queue: mpsc::Sender<BTreeMap<String, Entry>>,
    entries: BTreeMap<String, Entry>,
    of: BTreeMap<IncidentId, String>,
    is_due: bool,
    sent_at: clock::BootTime,
}

impl Statuses {
    pub(super) fn start(api: Api) -> Self {
        let (queue, changes) = mpsc::channel(QUEUE);
        tokio::spawn(run(api, changes));
        Self {
            queue,
            entries: BTreeMap::new(),
            of: BTreeMap::new(),
            is_due: false,
            sent_at: clock::BootTime::default(),
        }
    }

    /// After a load of the policies.
    pub fn judged(&mut self, verdicts: Vec<Verdict>) {
        let counts = |name: &String| self.entries.get(name).map(|entry| entry.counts).unwrap_or_default();
        let entries = verdicts.into_iter().map(|verdict| {
            let counts = counts(&verdict.name);
            (verdict.name.clone(), Entry { verdict, counts })
        });
        self.entries = entries.collect();
        self.send();
    }

    pub fn tell(&mut self, report: &Report) {
        let Some(incident) = report.incident else { return };
        let (name, count): (String, fn(&mut Counts)) = match &report.fact {
            ReportFact::Plan(plan) => {
                let Some(name) = plan.policy.clone().filter(|name| self.entries.contains_key(name)) else {
                    return;
                };
                self.of.insert(incident, name.clone());
                while REMEMBERED < self.of.len() {
                    self.of.pop_first();
                }
                (name, |counts| counts.answered += 1)
            }
            ReportFact::Result(result) if result.outcome.name() == "done" => match self.of.get(&incident) {
                Some(name) => (name.clone(), |counts| counts.acts += 1),
                None => return,
            },
            ReportFact::Closed(closed) => match self.of.remove(&incident) {
                Some(name) if closed.outcome == Outcome::Healed => (name, |counts| counts.healed += 1),
                Some(_) | None => return,
            },
            ReportFact::Result(_)
            | ReportFact::Diagnosis(_)
            | ReportFact::Gate(_)
            | ReportFact::Intent(_)
            | ReportFact::Verification(_)
            | ReportFact::Score { .. }
            | ReportFact::Notify { .. }
            | ReportFact::Undone(_)
            | ReportFact::Agent { .. } => return,
        };
        if let Some(entry) = self.entries.get_mut(&name) {
            count(&mut entry.counts);
            self.is_due = true;
        }
    }

    /// Now and then.
    pub fn look(&mut self) {
        if self.is_due && COUNTS_EVERY <= clock::boot().since(self.sent_at) {
            self.send();
        }
    }

    fn send(&mut self) {
        self.sent_at = clock::boot();
        // Full: tried again at the next look.
        self.is_due = self.queue.try_send(self.entries.clone()).is_err();
    }
}

async fn run(api: Api, mut changes: mpsc::Receiver<BTreeMap<String, Entry>>) {
    let mut book = Book { api, written: BTreeMap::new(), is_heard: true };
    let mut wanted = BTreeMap::new();
    let mut retry = Retry::default();
    let mut beat = clock::boot() + Duration::from_secs(fastrand::u64(FIRST_BEAT_MIN_S..FIRST_BEAT_MAX_S));
    loop {
        let wake = retry.at.map_or(beat, |at| at.min(beat));
        tokio::select! {
            change = changes.recv() => match change {
                Some(newer) => wanted = newer,
                None => return,
            },
            () = tokio::time::sleep(wake.since(clock::boot())) => {}
        }
        while let Ok(newer) = changes.try_recv() {
            wanted = newer;
        }
        if beat <= clock::boot() {
            beat = clock::boot() + BEAT;
            book.written.clear();
            sweep(&book.api).await;
        }
        let is_written = book.write_all(&wanted).await;
        let jitter = Duration::from_millis(fastrand::u64(0..RETRY_JITTER_MS));
        retry.note(is_written, clock::boot() + jitter);
    }
}

/// What the server has of this node.
struct Book {
    api: Api,
    written: BTreeMap<String, Entry>,
    is_heard: bool,
}

impl Book {
    /// Whether the server has all of it now.
    async fn write_all(&mut self, wanted: &BTreeMap<String, Entry>) -> bool {
        self.written.retain(|name, _| wanted.contains_key(name));
        for (name, entry) in wanted {
            if self.written.get(name) == Some(entry) {
                continue;
            }
            match write(&self.api, name, entry).await {
                Ok(()) => {
                    self.is_heard = true;
                    self.written.insert(name.clone(), entry.clone());
                }
                Err(error) if self.is_heard => {
                    self.is_heard = false;
                    tracing::warn!("the status of HealPolicy {} is not written: {error}", printable(name));
                }
                Err(_) => {}
            }
        }
        // A failed one may have been written earlier, with other counts.
        self.written == *wanted
    }
}

/// When what the server does not have is written again.
#[derive(Debug, Default)]
struct Retry {
    pause: Duration,
    at: Option<clock::BootTime>,
}

impl Retry {
    fn note(&mut self, is_written: bool, now: clock::BootTime) {
        if is_written {
            *self = Self::default();
            return;
        }
        self.pause = (self.pause * 2).clamp(FIRST_RETRY, LONGEST_RETRY);
        self.at = Some(now + self.pause);
    }
}

/// What gone nodes have written; tried again at the next beat.
async fn sweep(api: &Api) {
    let listed = api.ask(&LIST_POLICIES, &LIST_POLICIES.path("", ""), Send::Nothing).await;
    let Ok(listed) = listed else { return };
    for (name, node) in gone(&listed.body, api.node(), clock::wall()) {
        let path = format!("{}?fieldManager={}&force=true", POLICY_STATUS.path("", &name), manager(&node));
        // In the name of the one that is gone: what it had set and does not set any more the server takes away.
        let nothing = object(&name);
        match api.ask(&POLICY_STATUS, &path, Send::Apply(&nothing)).await {
            Ok(answer) if answer.is_ok() => {
                tracing::info!("HealPolicy {name}: the entry of node {node} was a day old and is removed");
            }
            Ok(_) | Err(_) => return,
        }
    }
}

/// Policies, and nodes whose entry nobody has renewed.
fn gone(listed: &Value, own: &str, now: jiff::Timestamp) -> Vec<(String, String)> {
    let is_name = |text: &str| text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-.".contains(&c));
    let is_old = |entry: &Value| {
        let time = entry["time"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        time.is_some_and(|time| {
            i64::try_from(GONE_AFTER.as_secs()).is_ok_and(|s| s < now.as_second() - time.as_second())
        })
    };
    let mut found = Vec::new();
    for policy in listed["items"].as_array().into_iter().flatten() {
        let entries = policy["status"]["nodes"].as_array().into_iter().flatten();
        for entry in entries.filter(|entry| is_old(entry)) {
            if let (Some(name), Some(node)) = (policy["metadata"]["name"].as_str(), entry["node"].as_str())
                && node != own
                && is_name(name)
                && is_name(node)
            {
                found.push((name.to_owned(), node.to_owned()));
            }
        }
    }
    found
}

async fn write(api: &Api, name: &str, entry: &Entry) -> Result<(), String> {
    let path = POLICY_STATUS.path("", name);
    let path = format!("{path}?fieldManager={}&force=true", manager(api.node()));
    let body = body(api.node(), name, entry);
    let answer: Answer = api.ask(&POLICY_STATUS, &path, Send::Apply(&body)).await?;
    // 404: deleted meanwhile.
    if answer.is_ok() || answer.code == 404 { Ok(()) } else { Err(answer.words()) }
}

/// The API takes 128 bytes; a node's name may have 253.
fn manager(node: &str) -> String {
    format!("{MANAGER}-{node}").chars().take(128).collect()
}

fn body(node: &str, name: &str, entry: &Entry) -> Value {
    let Entry { verdict, counts } = entry;
    let mut own = json!({
        "node": node,
        "accepted": verdict.refused.is_none(),
        "observedGeneration": verdict.generation,
        "answered": counts.answered,
        "acts": counts.acts,
        "healed": counts.healed,
        "time": now(),
    });
    if let Some(why) = &verdict.refused {
        own["message"] = json!(why.chars().take(MESSAGE_MAX).collect::<String>());
    }
    let mut body = object(name);
    body["status"] = json!({"nodes": [own]});
    body
}

fn object(name: &str) -> Value {
    json!({"apiVersion": "healer.dev/v1alpha1", "kind": "HealPolicy", "metadata": {"name": name}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_renews_is_swept() {
        let entry = |node: &str, time: &str| json!({"node": node, "time": time});
        let listed = json!({"items": [{"metadata": {"name": "web"}, "status": {"nodes": [
            entry("gone", "2026-01-01T00:00:00Z"),
            entry("lives", "2026-01-02T00:00:00Z"),
            entry("own", "2026-01-01T00:00:00Z"),
            entry("odd/../name", "2026-01-01T00:00:00Z"),
            entry("timeless", "yesterday"),
        ]}}, {"metadata": {"name": "new"}}]});
        let now = "2026-01-02T01:00:00Z".parse().expect("a time");
        assert_eq!(gone(&listed, "own", now), [("web".to_owned(), "gone".to_owned())]);
        assert_eq!(gone(&json!({"message": "forbidden"}), "own", now), []);
    }

    #[test]
    fn what_was_not_written_is_tried_again_ever_more_rarely() {
        let now = clock::BootTime(7);
        let mut retry = Retry::default();
        for seconds in [30, 60, 120, 240, 300, 300] {
            retry.note(false, now);
            assert_eq!(retry.at, Some(now + Duration::from_secs(seconds)));
        }
        retry.note(true, now);
        assert_eq!(retry.at, None);
        retry.note(false, now);
        assert_eq!(retry.at, Some(now + FIRST_RETRY), "it begins anew");
    }

    #[test]
    fn a_long_node_name_is_cut_as_the_server_wants_it() {
        assert_eq!(manager("node-1"), "healer-node-1");
        assert_eq!(manager(&"n".repeat(253)).len(), 128);
    }
}
