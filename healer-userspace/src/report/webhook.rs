//! Notifications to an Alertmanager, or whoever takes its API v2: one alert per incident and class, from the
//! notification until the incident is closed.

mod alert;
mod names;
mod post;

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use self::{
    alert::{Alert, Alerts},
    names::Names,
};
use super::{
    metrics::{Metrics, WebhookOutcome},
    wall::Now,
};
use crate::engine::{
    command::IncidentId,
    report::{Report, ReportFact},
};

/// Open alerts are told again: Alertmanager takes one that it has not heard of for 5 minutes for resolved.
const AGAIN: Duration = Duration::from_secs(60);
/// News of one moment go in one post.
const GATHER: Duration = Duration::from_millis(100);
/// After a post that failed: the first pause, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Facts on their way to the sender: more are counted as lost.
const QUEUE: usize = 1024;

/// Where alerts are posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: Host,
    /// As the URL has it, for the `Host` header.
    pub authority: String,
    pub path: String,
    /// Of one post, from the look-up of the name to the answer.
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Address(SocketAddr),
    /// Looked up for each post: names move.
    Name {
        name: String,
        port: u16,
    },
}

/// The end at which facts are put in; never blocks.
pub struct Webhook {
    queue: mpsc::Sender<(Now, Report)>,
    /// The ends of `told`: none may be lost, or an alert would be told for ever.
    ends: mpsc::UnboundedSender<(Now, Report)>,
    told: BTreeSet<IncidentId>,
}

impl Webhook {
    /// Starts the sender as a task of the current runtime.
    pub fn start(target: Target, metrics: Arc<Metrics>, node: String) -> Self {
        let (queue, facts) = mpsc::channel(QUEUE);
        let (ends, over) = mpsc::unbounded_channel();
        let (alerts, names) = (Alerts::new(node), Names::default());
        let sender = Sender { target, names, metrics, alerts, due: None, pause: Duration::ZERO };
        tokio::spawn(sender.run(facts, over));
        Self { queue, ends, told: BTreeSet::new() }
    }

    /// False if the sender is so far behind that this fact is lost to it.
    pub(super) fn tell(&mut self, now: Now, report: &Report) -> bool {
        let Some(incident) = report.incident else { return true };
        match &report.fact {
            ReportFact::Notify { .. } => {
                let is_queued = self.queue.try_send((now, report.clone())).is_ok();
                if is_queued {
                    self.told.insert(incident);
                }
                is_queued
            }
            // Closed: the sender ends with the agent.
            ReportFact::Closed(_) if self.told.remove(&incident) => {
                self.ends.send((now, report.clone())).is_ok()
            }
            ReportFact::Closed(_)
            | ReportFact::Diagnosis(_)
            | ReportFact::Plan(_)
            | ReportFact::Gate(_)
            | ReportFact::Intent(_)
            | ReportFact::Result(_)
            | ReportFact::Verification(_)
            | ReportFact::Score { .. }
            | ReportFact::Undone(_)
            | ReportFact::Agent { .. } => true,
        }
    }
}

struct Sender {
    target: Target,
    names: Names,
    metrics: Arc<Metrics>,
    alerts: Alerts,
    /// When to post next; None while nothing is open.
    due: Option<Instant>,
    /// Zero while posts succeed.
    pause: Duration,
}

impl Sender {
    async fn run(
        mut self,
        mut facts: mpsc::Receiver<(Now, Report)>,
        mut ends: mpsc::UnboundedReceiver<(Now, Report)>,
    ) {
        loop {
            let due = self.due;
            tokio::select! {
                biased;
                fact = facts.recv() => match fact {
                    Some((now, report)) => self.take(now, &report),
                    None => return,
                },
                // After the facts: an end comes after its beginning.
                Some((now, report)) = ends.recv() => self.take(now, &report),
                () = async { if let Some(due) = due { sleep_until(due).await } }, if due.is_some() => {
                    self.post().await;
                }
            }
        }
    }

    /// A target that does not answer is not asked more often because more happens.
    fn take(&mut self, now: Now, report: &Report) {
        if self.alerts.take(now, report) && self.pause.is_zero() {
            let soon = Instant::now() + GATHER;
            self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        }
    }

    async fn post(&mut self) {
        let batch: BTreeMap<alert::Key, Alert> = self.alerts.to_tell();
        let body: Vec<&Alert> = batch.values().collect();
        match post::post(&self.target, &mut self.names, &body).await {
            Ok(()) => self.posted(&batch),
            Err(error) => self.failed(&error),
        }
    }

    fn posted(&mut self, batch: &BTreeMap<alert::Key, Alert>) {
        self.metrics.webhook(WebhookOutcome::Taken);
        if !self.pause.is_zero() {
            tracing::info!("the webhook {} takes alerts again", self.target.authority);
        }
        self.pause = Duration::ZERO;
        self.alerts.told(batch);
        self.due = self.alerts.are_open().then(|| Instant::now() + AGAIN);
    }

    fn failed(&mut self, error: &anyhow::Error) {
        self.metrics.webhook(WebhookOutcome::Failed);
        if self.pause.is_zero() {
            tracing::warn!(
                "the webhook {} did not take the alerts: {error:#}; tried again until it does, at least once a \
                 minute",
                self.target.authority
            );
        }
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.due = Some(Instant::now() + self.pause);
    }
}

#[cfg(test)]
mod tests;
