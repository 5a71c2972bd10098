//! What happened, told to everybody: log, metrics, audit, incident book.
//! One value per fact; [`Reporter::write`] writes all of them from it.

pub mod audit;
pub mod book;
pub mod deaths;
pub mod dependencies;
pub mod history;
pub mod http;
pub mod incidents;
pub mod log;
pub mod metrics;
pub mod openapi;
pub mod readiness;
pub mod record;
pub mod scores;
pub mod view;
pub mod wall;
pub mod webhook;
mod workloads;

use std::{collections::BTreeMap, io, sync::Arc};

use self::{
    log::Lines,
    metrics::{BreakerState, Metrics, WebhookOutcome},
    record::ActName,
    view::{Policies, Sensor, Shared},
    wall::ReadClock,
    webhook::Webhook,
};
use crate::{
    config,
    engine::{
        class::Class,
        command::{ActionKey, IncidentId, Intent},
        death::Death,
        policy::PolicySet,
        report::{GateReport, Report, ReportFact, Verdict},
        safety::PROBING,
        time::BootTime,
    },
    kubernetes::{Events, Statuses},
    signal::{Fact, Ring, Signal},
    store::{row::Stamp, worker::StoreStatus},
};

/// Where records are kept for good.
pub trait Audit {
    /// Appends one fact, or queues it for whoever does. Gives the hash of the chain's new head, empty if it is
    /// not known yet: then [`Reporter::set_store_status`] brings it.
    ///
    /// # Errors
    /// The file cannot be written: disk full, read-only, gone.
    fn append(&mut self, report: &Report) -> io::Result<String>;
}

impl<Append: FnMut(&Report) -> io::Result<String>> Audit for Append {
    fn append(&mut self, report: &Report) -> io::Result<String> {
        self(report)
    }
}

/// Writes every fact to all who want to know.
pub struct Reporter {
    pub metrics: Arc<Metrics>,
    pub shared: Shared,
    audit: Box<dyn Audit>,
    clock: ReadClock,
    boot_id: String,
    lines: Lines,
    /// Acts whose result has not come yet.
    acts: BTreeMap<ActionKey, ActName>,
    /// Classes of the open incidents, for the gauge.
    open: BTreeMap<IncidentId, Class>,
    audit_broken: bool,
    webhook: Option<Webhook>,
    events: Option<Events>,
    statuses: Option<Statuses>,
}

impl Reporter {
    /// `boot_id` is the content of /proc/sys/kernel/random/boot_id.
    pub fn new(audit: Box<dyn Audit>, clock: ReadClock, boot_id: String) -> Self {
        Self {
            metrics: Arc::default(),
            shared: Shared::default(),
            audit,
            clock,
            boot_id,
            lines: Lines::default(),
            acts: BTreeMap::new(),
            open: BTreeMap::new(),
            audit_broken: false,
            webhook: None,
            events: None,
            statuses: None,
        }
    }

    /// Notifications go there too from now on.
    pub fn set_events(&mut self, events: Option<Events>) {
        self.events = events;
    }

    /// Of the cluster's policies.
    pub fn set_statuses(&mut self, statuses: Option<Statuses>) {
        self.statuses = statuses;
    }

    pub fn policies_judged(&mut self, verdicts: Vec<config::Verdict>) {
        if let Some(statuses) = &mut self.statuses {
            statuses.judged(verdicts);
        }
    }

    /// Now and then: what is told in batches.
    pub fn look(&mut self) {
        if let Some(statuses) = &mut self.statuses {
            statuses.look();
        }
    }

    pub fn set_webhook(&mut self, webhook: Webhook) {
        self.webhook = Some(webhook);
    }

    /// Intents that an earlier life of the agent left open: their results will come to this one.
    pub fn remember_acts<'a>(&mut self, open: impl IntoIterator<Item = &'a Intent>) {
        let named = open.into_iter().map(|intent| (intent.act.key.clone(), ActName::from(intent)));
        self.acts.extend(named);
    }

    /// Log, metrics, incident book and audit, in this order: a full disk silences none of the others.
    ///
    /// # Errors
    /// The audit could not be written. Said in the log once, until it works again.
    pub fn write(&mut self, report: &Report) -> io::Result<()> {
        let act = self.act_of(&report.fact);
        for line in self.lines.of(report, act.as_ref()) {
            log::write(&line);
        }
        self.count(report, act.as_ref());
        let stamp = Stamp { boot_id: self.boot_id.clone(), moment: (self.clock)() };
        if self.webhook.as_mut().is_some_and(|webhook| !webhook.tell(stamp.moment, report)) {
            self.metrics.webhook(WebhookOutcome::Lost);
        }
        if let Some(events) = &mut self.events {
            events.tell(report, act.as_ref());
        }
        if let Some(statuses) = &mut self.statuses {
            statuses.tell(report);
        }
        let record = record::record(report, act.as_ref(), &stamp);
        self.shared.update(|view| {
            view.book.add(&record);
            view.scores.add(&record);
            workloads::follow_report(&mut view.workloads, report);
        });
        self.keep(report)
    }

    /// Every signal that the engine is given.
    pub fn signal(&mut self, signal: &Signal) {
        self.metrics.signal(signal.fact.name());
        self.shared.update(|view| {
            workloads::follow_signal(&mut view.workloads, signal);
            view.dependencies.follow(signal);
            if let Fact::Lost { ring, count } = &signal.fact {
                view.readiness.lost(signal.at, *count);
                *view.lost.entry(metrics::ring_name(*ring)).or_default() += count;
            }
        });
        self.count_signal(signal);
    }

    /// Every end that was no plain success; neither log nor audit hear of it.
    pub fn died(&self, death: Death) {
        self.shared.update(|view| view.deaths.add(death));
    }

    /// The self-probe came back through the kernel path.
    pub fn probe_seen(&self, at: BootTime) {
        self.shared.update(|view| view.readiness.probe_seen(at));
    }

    /// At start and whenever one of them changes.
    pub fn set_sensors(&self, sensors: Vec<Sensor>) {
        self.metrics.set_sensors(&sensors);
        if sensors.iter().any(Sensor::is_kernel) {
            [Ring::Urgent, Ring::Bulk].into_iter().for_each(|ring| self.metrics.ring_opened(ring));
        }
        self.shared.update(|view| view.sensors = sensors);
    }

    /// At start and after each reload that was taken.
    pub fn set_policies(&self, set: &PolicySet) {
        let cap = set.mode_cap.map_or("none", |mode| mode.name());
        self.metrics.policy(&set.version, cap);
        self.shared.update(|view| view.policies = Policies::from(set));
    }

    /// None: it acts again.
    pub fn set_paused(&self, by: Option<String>) {
        self.metrics.paused(by.is_some());
        self.shared.update(|view| view.agent.paused = by);
    }

    /// Whenever the store has written: where the audit's chain ends, and what no disk will ever see.
    /// Acts stop while the journal cannot be written.
    pub fn set_not_writable(&self, why: Option<String>) {
        self.shared.update(|view| view.agent.not_writable = why);
    }

    pub fn set_store_status(&self, status: &StoreStatus) {
        self.metrics.store(status.writable, status.lost);
        self.set_audit_head(&status.head.hash);
    }

    fn set_audit_head(&self, hash: &str) {
        let changed = self.shared.update(|view| {
            let changed = !hash.is_empty() && view.audit_head.as_deref() != Some(hash);
            if changed {
                view.audit_head = Some(hash.to_owned());
            }
            changed
        });
        if changed {
            self.metrics.audit_head(hash);
        }
    }

    fn act_of(&mut self, fact: &ReportFact) -> Option<ActName> {
        match fact {
            ReportFact::Intent(intent) => {
                let act = ActName::from(intent);
                self.acts.insert(intent.act.key.clone(), act.clone());
                Some(act)
            }
            ReportFact::Result(result) => self.acts.remove(&result.key),
            ReportFact::Diagnosis(_)
            | ReportFact::Plan(_)
            | ReportFact::Gate(_)
            | ReportFact::Verification(_)
            | ReportFact::Score { .. }
            | ReportFact::Notify { .. }
            | ReportFact::Closed(_)
            | ReportFact::Undone(_)
            | ReportFact::Agent { .. } => None,
        }
    }

    fn count(&mut self, report: &Report, act: Option<&ActName>) {
        match &report.fact {
            ReportFact::Diagnosis(diagnosis) => {
                self.metrics.diagnosis(diagnosis);
                self.open_incident(report.incident, diagnosis.class);
            }
            ReportFact::Gate(gate) => {
                self.metrics.gate(gate);
                self.count_breaker(report, gate);
            }
            ReportFact::Result(result) => self.metrics.action(act, result.outcome.name()),
            ReportFact::Closed(closed) => {
                self.metrics.closed(closed);
                self.close_incident(report.incident);
            }
            ReportFact::Agent { event, .. } if event == "memory_watch" => {
                self.metrics.memory_watch(report.workload.as_ref().map_or("", |key| &key.0));
            }
            ReportFact::Undone(undone) => self.metrics.undone(undone),
            ReportFact::Score(score) => self.metrics.scored(score),
            ReportFact::Plan(_)
            | ReportFact::Intent(_)
            | ReportFact::Verification(_)
            | ReportFact::Notify { .. }
            | ReportFact::Agent { .. } => {}
        }
    }

    fn count_breaker(&self, report: &Report, gate: &GateReport) {
        let class = report.incident.and_then(|incident| self.open.get(&incident));
        if let (Some(workload), Some(class), "breaker") = (&report.workload, class, gate.gate.as_str()) {
            let state = match gate.verdict {
                Verdict::Pass if gate.reason == PROBING => BreakerState::Probing,
                Verdict::Pass => BreakerState::Allowing,
                Verdict::Hold | Verdict::Refuse => BreakerState::Tripped,
            };
            self.metrics.breaker(&workload.0, *class, state);
        }
    }

    fn open_incident(&mut self, incident: Option<IncidentId>, class: Class) {
        if let Some(incident) = incident
            && !self.open.contains_key(&incident)
        {
            self.open.insert(incident, class);
            self.metrics.incidents_open(class, 1);
        }
    }

    fn close_incident(&mut self, incident: Option<IncidentId>) {
        if let Some(class) = incident.and_then(|incident| self.open.remove(&incident)) {
            self.metrics.incidents_open(class, -1);
        }
    }

    fn count_signal(&self, signal: &Signal) {
        let workload = signal.process.as_ref().map(|of| (of.workload.0.as_str(), of.main));
        match (&signal.fact, workload) {
            (Fact::Exited(exit), Some((workload, true))) => {
                self.metrics.main_process_ended(workload, exit);
            }
            (Fact::OomKilled(_), Some((workload, _))) => self.metrics.oom_kill(workload),
            (Fact::Deregistered, Some((workload, _))) => self.metrics.forget_workload(workload),
            (Fact::Lost { ring, count }, _) => self.metrics.lost(*ring, *count),
            (Fact::Memory(snapshot), _) => self.metrics.memory(snapshot),
            (Fact::Peers(counts), _) => {
                self.metrics.peers(counts);
                self.metrics.dependencies(self.shared.read(|view| view.dependencies.counts()));
            }
            (
                Fact::Exited(_)
                | Fact::Execed
                | Fact::SignalSent(_)
                | Fact::OomKilled(_)
                | Fact::Registered(_)
                | Fact::Deregistered
                | Fact::StopAsked { .. }
                | Fact::MeantToEnd
                | Fact::Answered { .. }
                | Fact::Waits(_)
                | Fact::Work(_)
                | Fact::Probed(_)
                | Fact::ConnectionFailed(_)
                | Fact::Retransmitted(_)
                | Fact::SyscallError(_)
                | Fact::Levels(_)
                | Fact::Listens(_)
                | Fact::NoRoute(_)
                | Fact::ReclaimStalled(_)
                | Fact::TaskHung(_)
                | Fact::Flows(_),
                _,
            ) => {}
        }
    }

    fn keep(&mut self, report: &Report) -> io::Result<()> {
        match self.audit.append(report) {
            Ok(head) => {
                if std::mem::take(&mut self.audit_broken) {
                    tracing::info!("the audit can be written again");
                }
                self.set_audit_head(&head);
                Ok(())
            }
            Err(error) => {
                self.metrics.audit_failed();
                if !std::mem::replace(&mut self.audit_broken, true) {
                    tracing::error!("the audit cannot be written: {error}; sensing goes on");
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests;
