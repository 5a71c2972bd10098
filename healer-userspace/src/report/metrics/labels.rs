//! Label sets, one per family. Text that came from outside is escaped on its way in.

use prometheus_client::encoding::EncodeLabelSet;

use crate::{
    engine::report::{Score, Undoing},
    report::view::Sensor,
    text::printable,
};

macro_rules! labels {
    ($($name:ident { $($label:ident: $type:ty),* })*) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
        pub(super) struct $name { $(pub(super) $label: $type),* }
    )*};
}

labels! {
    SignalLabels { signal: String }
    RingLabels { ring: &'static str }
    SensorLabels { sensor: String, via: String }
    DiagnosisLabels { class: &'static str, certainty: &'static str }
    ActionLabels { action: &'static str, outcome: &'static str, mode: &'static str }
    ScoreLabels { policy: String, rule: String, outcome: &'static str }
    UndoLabels { action: &'static str, complete: &'static str }
    GateLabels { gate: String, verdict: &'static str }
    BreakerLabels { workload: String, class: &'static str }
    ClassLabels { class: &'static str }
    ExitLabels { workload: String, cause: &'static str }
    WorkloadLabels { workload: String }
    HashLabels { hash: String }
    PolicyLabels { version: String, mode_cap: String }
    WebhookLabels { outcome: &'static str }
    OutcomeLabels { outcome: &'static str }
    NodeLabels {}
    ModeLabels { sensor: String, mode: String }
    CapabilityLabels { capability: &'static str }
    PartLabels { part: &'static str }
    ReclaimLabels { found: &'static str }
    StateLabels { state: &'static str }
    VersionLabels { version: &'static str }
}

impl From<&Score> for ScoreLabels {
    fn from(score: &Score) -> Self {
        let [policy, rule] = [&score.policy, &score.rule].map(|name| printable(name).into_owned());
        Self { policy, rule, outcome: score.outcome.name() }
    }
}

impl From<&Undoing> for UndoLabels {
    fn from(undone: &Undoing) -> Self {
        Self { action: undone.action.name(), complete: if undone.complete { "yes" } else { "no" } }
    }
}

impl From<&Sensor> for SensorLabels {
    fn from(sensor: &Sensor) -> Self {
        let via = sensor.via.as_deref().filter(|_| sensor.is_up());
        Self {
            sensor: printable(&sensor.name).into_owned(),
            via: printable(via.unwrap_or("none")).into_owned(),
        }
    }
}
