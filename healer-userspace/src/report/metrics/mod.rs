//! Every metric of the agent. Names and meaning are in METRICS.md; a test compares the two.

mod capped;
mod labels;
mod memory;
mod own_cost;
mod register;
mod sensors;
pub mod text004;

use core::time::Duration;
use std::sync::{Mutex, atomic::AtomicU64};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use self::{capped::Capped, labels::*, own_cost::OwnCost, register::Registrar};
use super::{dependencies::EdgeState, record::ActName, view::Sensor};
use crate::{
    engine::{
        class::Class,
        diagnosis::Diagnosis,
        report::{Closed, GateReport, Score, Undoing, Verdict},
    },
    sense::govern::Overhead,
    signal::{Exit, Ring, network::PeerCounts},
};

type Histograms<Labels> = Family<Labels, Histogram, fn() -> Histogram>;

pub struct Metrics {
    registry: Registry,
    signals: Family<SignalLabels, Counter>,
    ring_lost: Family<RingLabels, Counter>,
    sensor_up: Family<SensorLabels, Gauge>,
    sensor_mode: Family<ModeLabels, Gauge>,
    capability_held: Family<CapabilityLabels, Gauge>,
    overhead: Family<PartLabels, Gauge<f64, AtomicU64>>,
    overhead_budget: Gauge<f64, AtomicU64>,
    system_calls: Family<NodeLabels, Gauge>,
    /// What `sensor_up` stands for: a signal is exported while an attached sensor brings it.
    sensors: Mutex<Vec<Sensor>>,
    diagnoses: Family<DiagnosisLabels, Counter>,
    actions: Family<ActionLabels, Counter>,
    scores: Family<ScoreLabels, Counter>,
    undone: Family<UndoLabels, Counter>,
    gate_verdicts: Family<GateLabels, Counter>,
    breaker_state: Capped<BreakerLabels, Gauge>,
    time_to_detect: Histograms<ClassLabels>,
    time_to_act: Histogram,
    time_to_recover: Histogram,
    incidents_open: Family<ClassLabels, Gauge>,
    workload_exits: Capped<ExitLabels, Counter>,
    workload_oom_kills: Capped<WorkloadLabels, Counter>,
    audit_head: Family<HashLabels, Gauge>,
    audit_failures: Counter,
    store_writable: Gauge,
    store_lost: Counter,
    policy_info: Family<PolicyLabels, Gauge>,
    paused: Gauge,
    webhook_posts: Family<WebhookLabels, Counter>,
    connections: Family<OutcomeLabels, Counter>,
    retransmits: Counter,
    dependencies: Family<StateLabels, Gauge>,
    memory_cgroups: Gauge,
    memory_watches: Capped<WorkloadLabels, Counter>,
    reclaims: Family<ReclaimLabels, Counter>,
    /// Types, names and help as registered, for the test against METRICS.md.
    #[cfg(test)]
    catalogue: Vec<register::Described>,
}

/// As in `healer_breaker_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    Allowing,
    Tripped,
    Probing,
}

/// As in `healer_webhook_posts_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookOutcome {
    Taken,
    Failed,
    /// The sender was too far behind.
    Lost,
}

/// Workloads beyond this many share the label `other`.
pub const WORKLOAD_SERIES_CAP: usize = 500;

/// Kernel to diagnosis: from 100 µs to the slow detectors.
const DETECT_BUCKETS: [f64; 13] =
    [1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];
const HEAL_BUCKETS: [f64; 13] =
    [1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

impl Default for Metrics {
    fn default() -> Self {
        Self::with_cap(WORKLOAD_SERIES_CAP)
    }
}

impl Metrics {
    pub fn with_cap(cap: usize) -> Self {
        let mut to = Registrar::default();
        let detect: fn() -> Histogram = || Histogram::new(DETECT_BUCKETS);
        to.collector(Box::new(OwnCost));
        to.build_info();
        Self {
            signals: to.family("signals", "Signals that reached the engine"),
            ring_lost: to.family("ring_lost", "Kernel records lost because a ring was full"),
            sensor_up: to.gauges("sensor_up", "1 while the sensor is attached, 0 while it is not"),
            sensor_mode: to.gauges("sensor_mode", "1 for how much a governed sensor sees"),
            capability_held: to
                .gauges("capability_held", "1 for a right that healer had at its start, 0 if it lacked it"),
            overhead: to.shares("overhead_cpu_ratio", "CPU time that sensing uses, of one CPU"),
            overhead_budget: to.share("overhead_budget_cpu_ratio", "What it may use"),
            system_calls: to.gauges("system_calls_per_second", "System calls of the node, as last counted"),
            sensors: Mutex::default(),
            diagnoses: to.family("diagnoses", "Diagnoses made"),
            actions: to.family("actions", "Acts that came to an end, real ones and dry runs"),
            scores: to.family("shadow_outcomes", "What became of patients that nobody touched, by rule"),
            undone: to.family("undone", "Leases that came to an end, or could not be undone"),
            gate_verdicts: to.family("gate_verdicts", "Verdicts of the safety gates"),
            breaker_state: Capped::new(
                to.gauges("breaker_state", "Breaker: 0 allowing, 1 tripped, 2 probing"),
                cap,
            ),
            time_to_detect: to.histograms(
                "time_to_detect_seconds",
                "From the first kernel evidence to the diagnosis",
                detect,
            ),
            time_to_act: to.histogram(
                "time_to_act_seconds",
                "From the diagnosis to the confirmed act",
                HEAL_BUCKETS,
            ),
            time_to_recover: to.histogram(
                "time_to_recover_seconds",
                "From the confirmed act to the verified recovery",
                HEAL_BUCKETS,
            ),
            incidents_open: to.gauges("incidents_open", "Incidents not closed yet"),
            workload_exits: Capped::new(
                to.family("workload_exits", "Ends of main processes of workloads, by cause"),
                cap,
            ),
            workload_oom_kills: Capped::new(
                to.family("workload_oom_kills", "Processes of the workload killed by the OOM killer"),
                cap,
            ),
            audit_head: to.gauges("audit_head_info", "Hash of the last record of the audit chain"),
            audit_failures: to.counter("audit_failures", "Records that could not be written to the audit"),
            store_writable: to.gauge(
                "store_writable",
                "1 while journal and audit can be written: without them nothing is acted on",
            ),
            store_lost: to.counter("store_lost", "Records and journal entries that no disk will ever see"),
            policy_info: to.gauges("policy_info", "Version of the policies in force"),
            paused: to.gauge("paused", "1 while healer is paused and acts on nothing"),
            webhook_posts: to.family("webhook_posts", "Posts to the webhook, and notifications lost to it"),
            connections: to.family("connections", "TCP connections that processes asked for, by outcome"),
            retransmits: to.counter("tcp_retransmits", "TCP segments that clients sent again"),
            dependencies: to
                .gauges("dependencies", "Edges of the dependency map, by what happened last on them"),
            memory_cgroups: to.gauge("memory_cgroups", "Cgroups with a memory limit that are looked at"),
            memory_watches: Capped::new(
                to.family("memory_watches", "Words about memory that grows towards a limit, no diagnoses"),
                cap,
            ),
            reclaims: to
                .family("reclaims", "Reclaims by tasks of cgroups near their limit, by what they gave"),
            #[cfg(test)]
            catalogue: to.catalogue.clone(),
            registry: to.registry,
        }
    }

    /// OpenMetrics 1.0 text.
    pub fn openmetrics(&self) -> String {
        let mut text = String::new();
        let written = encode(&mut text, &self.registry);
        debug_assert!(written.is_ok(), "writing to a string does not fail");
        text
    }

    /// Prometheus text format 0.0.4.
    pub fn text004(&self) -> String {
        text004::from_openmetrics(&self.openmetrics())
    }

    /// What sensing costs now.
    pub fn overhead(&self, overhead: &Overhead) {
        let ratio = |ppm: u64| ppm as f64 / 1e6;
        self.overhead.get_or_create_owned(&PartLabels { part: "agent" }).set(ratio(overhead.agent));
        self.overhead.get_or_create_owned(&PartLabels { part: "programs" }).set(ratio(overhead.programs));
        self.overhead_budget.set(ratio(overhead.budget.cpu));
        match overhead.calls_per_second {
            Some(calls) => {
                let gauge = self.system_calls.get_or_create_owned(&NodeLabels {});
                gauge.set(i64::try_from(calls).unwrap_or(i64::MAX));
            }
            // Not counted is not zero.
            None => self.system_calls.clear(),
        }
    }

    pub fn webhook(&self, outcome: WebhookOutcome) {
        let outcome = match outcome {
            WebhookOutcome::Taken => "taken",
            WebhookOutcome::Failed => "failed",
            WebhookOutcome::Lost => "lost",
        };
        self.webhook_posts.get_or_create_owned(&WebhookLabels { outcome }).inc();
    }

    /// What a look at the kernel's counters showed.
    pub fn peers(&self, counts: &[PeerCounts]) {
        let count = |outcome, of: fn(&PeerCounts) -> u32| {
            let sum: u64 = counts.iter().map(|counts| u64::from(of(counts))).sum();
            if sum != 0 {
                self.connections.get_or_create_owned(&OutcomeLabels { outcome }).inc_by(sum);
            }
        };
        count("ok", |counts| counts.ok);
        count("refused", |counts| counts.refused);
        count("unreachable", |counts| counts.unreachable);
        count("timed_out", |counts| counts.timed_out);
        count("reset", |counts| counts.reset);
        count("abandoned", |counts| counts.abandoned);
        let again =
            counts.iter().map(|counts| u64::from(counts.retransmits) + u64::from(counts.syn_retransmits));
        self.retransmits.inc_by(again.sum());
    }

    pub fn dependencies(&self, edges: [(EdgeState, usize); 2]) {
        for (state, count) in edges {
            let gauge = self.dependencies.get_or_create_owned(&StateLabels { state: state.name() });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// The ring exists from now on: its losses start at 0.
    pub fn ring_opened(&self, ring: Ring) {
        self.ring_lost.get_or_create_owned(&RingLabels { ring: ring_name(ring) });
    }

    pub fn signal(&self, name: &str) {
        self.signals.get_or_create_owned(&SignalLabels { signal: name.into() }).inc();
    }

    pub fn lost(&self, ring: Ring, count: u64) {
        self.ring_lost.get_or_create_owned(&RingLabels { ring: ring_name(ring) }).inc_by(count);
    }

    pub fn main_process_ended(&self, workload: &str, exit: &Exit) {
        let cause = match (exit.signal, exit.code) {
            (Some(_), _) => "signal",
            (None, 0) => "success",
            (None, _) => "failure",
        };
        let series = |workload: &str| ExitLabels { workload: workload.into(), cause };
        self.workload_exits.with(workload, series, |counter| {
            counter.inc();
        });
    }

    pub fn diagnosis(&self, diagnosis: &Diagnosis) {
        let class = diagnosis.class.name();
        let labels = DiagnosisLabels { class, certainty: diagnosis.certainty.name() };
        self.diagnoses.get_or_create_owned(&labels).inc();
        let took = diagnosis.detected_at.since(diagnosis.fault_at);
        self.time_to_detect.get_or_create_owned(&ClassLabels { class }).observe(took.as_secs_f64());
    }

    pub fn incidents_open(&self, class: Class, change: i64) {
        let class = class.name();
        self.incidents_open.get_or_create_owned(&ClassLabels { class }).inc_by(change);
    }

    pub fn gate(&self, gate: &GateReport) {
        let verdict = match gate.verdict {
            Verdict::Pass => "pass",
            Verdict::Hold => "hold",
            Verdict::Refuse => "refuse",
        };
        let labels = GateLabels { gate: gate.gate.clone(), verdict };
        self.gate_verdicts.get_or_create_owned(&labels).inc();
    }

    pub fn breaker(&self, workload: &str, class: Class, state: BreakerState) {
        let class = class.name();
        let series = |workload: &str| BreakerLabels { workload: workload.into(), class };
        let value = match state {
            BreakerState::Allowing => 0,
            BreakerState::Tripped => 1,
            BreakerState::Probing => 2,
        };
        self.breaker_state.with(workload, series, |gauge| {
            gauge.set(value);
        });
    }

    pub fn action(&self, act: Option<&ActName>, outcome: &'static str) {
        let labels = ActionLabels {
            action: act.map_or("unknown", |act| act.action),
            outcome,
            mode: act.map_or("unknown", |act| act.mode),
        };
        self.actions.get_or_create_owned(&labels).inc();
    }

    pub fn scored(&self, score: &Score) {
        self.scores.get_or_create_owned(&score.into()).inc();
    }

    pub fn undone(&self, undone: &Undoing) {
        self.undone.get_or_create_owned(&undone.into()).inc();
    }

    pub fn closed(&self, closed: &Closed) {
        let observe = |histogram: &Histogram, took: Option<Duration>| {
            if let Some(took) = took {
                histogram.observe(took.as_secs_f64());
            }
        };
        observe(&self.time_to_act, closed.to_act);
        observe(&self.time_to_recover, closed.to_recover);
    }

    pub fn audit_head(&self, hash: &str) {
        self.audit_head.clear();
        self.audit_head.get_or_create_owned(&HashLabels { hash: hash.into() }).set(1);
    }

    pub fn audit_failed(&self) {
        self.audit_failures.inc();
    }

    /// `lost` since start.
    pub fn store(&self, writable: bool, lost: u64) {
        self.store_writable.set(i64::from(writable));
        self.store_lost.inc_by(lost.saturating_sub(self.store_lost.get()));
    }

    pub fn policy(&self, version: &str, mode_cap: &str) {
        self.policy_info.clear();
        let labels = PolicyLabels { version: version.into(), mode_cap: mode_cap.into() };
        self.policy_info.get_or_create_owned(&labels).set(1);
    }

    pub fn paused(&self, paused: bool) {
        self.paused.set(i64::from(paused));
    }

    /// Its series go with the workload.
    pub fn forget_workload(&self, workload: &str) {
        self.breaker_state.forget(workload);
        self.workload_exits.forget(workload);
        self.workload_oom_kills.forget(workload);
        self.memory_watches.forget(workload);
    }
}

pub(super) fn ring_name(ring: Ring) -> &'static str {
    match ring {
        Ring::Urgent => "urgent",
        Ring::Bulk => "bulk",
    }
}

#[cfg(test)]
mod tests;
