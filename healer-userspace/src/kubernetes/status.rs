//! What becomes of a cluster's policy on this node, written into its status: each node has an entry of its own, so that
//! none overwrites another's.

use core::time::Duration;
use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    api::{Answer, Api, MANAGER, Send, now},
    rights::POLICY_STATUS,
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
    let mut written: BTreeMap<String, Entry> = BTreeMap::new();
    let mut is_heard = true;
    while let Some(mut wanted) = changes.recv().await {
        while let Ok(newer) = changes.try_recv() {
            wanted = newer;
        }
        written.retain(|name, _| wanted.contains_key(name));
        for (name, entry) in wanted {
            if written.get(&name) == Some(&entry) {
                continue;
            }
            match write(&api, &name, &entry).await {
                Ok(()) => {
                    is_heard = true;
                    written.insert(name, entry);
                }
                Err(error) if is_heard => {
                    is_heard = false;
                    tracing::warn!("the status of HealPolicy {} is not written: {error}", printable(&name));
                }
                Err(_) => {}
            }
        }
    }
}

async fn write(api: &Api, name: &str, entry: &Entry) -> Result<(), String> {
    let path = POLICY_STATUS.path("", name);
    let path = format!("{path}?fieldManager={MANAGER}-{}&force=true", api.node());
    let body = body(api.node(), name, entry);
    let answer: Answer = api.ask(&POLICY_STATUS, &path, Send::Apply(&body)).await?;
    // 404: deleted meanwhile.
    if answer.is_ok() || answer.code == 404 { Ok(()) } else { Err(answer.words()) }
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
    json!({
        "apiVersion": "healer.dev/v1alpha1",
        "kind": "HealPolicy",
        "metadata": {"name": name},
        "status": {"nodes": [own]},
    })
}
