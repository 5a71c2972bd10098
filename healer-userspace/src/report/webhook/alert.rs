//! From facts to alerts (Alertmanager, api/v2/openapi.yaml, `postableAlert`).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    engine::{
        class::Class,
        command::IncidentId,
        report::{Outcome, Report, ReportFact},
    },
    report::wall::{self, Now},
    text,
};

/// Alerts kept at most: the oldest is dropped.
const ALERTS_MAX: usize = 1024;

/// Labels make an alert: the same incident and class told twice are one.
pub(super) type Key = (IncidentId, Class);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Alert {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: String,
    /// The patient is well again. Without it Alertmanager takes the alert for resolved when it has not heard of it
    /// for its `resolve_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<String>,
    /// Closed: nothing more will be told.
    #[serde(skip)]
    is_last: bool,
}

pub(super) struct Alerts {
    node: String,
    alerts: BTreeMap<Key, Alert>,
}

impl Alerts {
    pub(super) fn new(node: String) -> Self {
        Self { node, alerts: BTreeMap::new() }
    }

    /// Whether there is something to tell.
    pub(super) fn take(&mut self, now: Now, report: &Report) -> bool {
        let Some(incident) = report.incident else { return false };
        match &report.fact {
            ReportFact::Notify { class, sentence, reason } => {
                let alert = self.alert(now, report, *class, sentence, reason);
                self.alerts.entry((incident, *class)).or_insert(alert);
                while self.alerts.len() > ALERTS_MAX {
                    self.alerts.pop_first();
                }
                true
            }
            ReportFact::Closed(closed) => {
                let mut is_news = false;
                for (_, alert) in self.alerts.iter_mut().filter(|(key, _)| key.0 == incident) {
                    // Of the dead, the death is an alert of its own.
                    let is_over = [Outcome::Healed, Outcome::RecoveredAlone, Outcome::Died];
                    let is_over = is_over.contains(&closed.outcome);
                    alert.ends_at = is_over.then(|| wall::rfc3339(now, report.at));
                    alert.is_last = true;
                    alert.annotations.insert("outcome", closed.outcome.name().to_owned());
                    alert.annotations.insert("description", text::printable(&closed.says).into_owned());
                    is_news = true;
                }
                is_news
            }
            ReportFact::Diagnosis(_)
            | ReportFact::Plan(_)
            | ReportFact::Gate(_)
            | ReportFact::Intent(_)
            | ReportFact::Result(_)
            | ReportFact::Verification(_)
            | ReportFact::Score { .. }
            | ReportFact::Undone(_)
            | ReportFact::Agent { .. } => false,
        }
    }

    fn alert(&self, now: Now, report: &Report, class: Class, sentence: &str, reason: &str) -> Alert {
        let incident = report.incident.map(|id| id.to_string()).unwrap_or_default();
        let workload = report.workload.as_ref().map(|key| text::printable(&key.0).into_owned());
        let labels = [
            ("alertname", "HealerNotification".to_owned()),
            ("class", class.name().to_owned()),
            ("incident", incident),
            ("node", self.node.clone()),
            ("workload", workload.unwrap_or_default()),
        ];
        let annotations = [
            ("summary", text::printable(sentence).into_owned()),
            ("reason", text::printable(reason).into_owned()),
        ];
        Alert {
            labels: labels.into(),
            annotations: annotations.into(),
            starts_at: wall::rfc3339(now, report.at),
            ends_at: None,
            is_last: false,
        }
    }

    pub(super) fn to_tell(&self) -> BTreeMap<Key, Alert> {
        self.alerts.clone()
    }

    /// What is closed, and was told so, is over.
    pub(super) fn told(&mut self, batch: &BTreeMap<Key, Alert>) {
        let is_over = |key: &Key| batch.get(key).is_some_and(|alert| alert.is_last);
        self.alerts.retain(|key, _| !is_over(key));
    }

    pub(super) fn are_open(&self) -> bool {
        !self.alerts.is_empty()
    }
}
