//! Registers a family under the prefix `healer_` and remembers what it is called.

use core::{fmt::Debug, hash::Hash, sync::atomic::AtomicU64};

use prometheus_client::{
    collector::Collector,
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};

use super::{Histograms, labels::VersionLabels};

const PREFIX: &str = "healer";

#[derive(Default)]
pub(super) struct Registrar {
    pub(super) registry: Registry,
    #[cfg(test)]
    pub(super) catalogue: Vec<Described>,
}

/// `(name as scraped, type)`
#[cfg(test)]
pub(super) type Described = (String, &'static str);

impl Registrar {
    fn add(&mut self, name: &str, help: &str, _kind: &'static str, metric: impl Metric) {
        #[cfg(test)]
        {
            let suffix = if _kind == "counter" { "_total" } else { "" };
            self.catalogue.push((format!("{PREFIX}_{name}{suffix}"), _kind));
        }
        self.registry.register(format!("{PREFIX}_{name}"), help, metric);
    }

    pub(super) fn family<Labels>(&mut self, name: &str, help: &str) -> Family<Labels, Counter>
    where
        Labels: Clone + Debug + Hash + Eq + EncodeLabelSet + Send + Sync + 'static,
    {
        let family = Family::default();
        self.add(name, help, "counter", family.clone());
        family
    }

    pub(super) fn gauges<Labels>(&mut self, name: &str, help: &str) -> Family<Labels, Gauge>
    where
        Labels: Clone + Debug + Hash + Eq + EncodeLabelSet + Send + Sync + 'static,
    {
        let family = Family::default();
        self.add(name, help, "gauge", family.clone());
        family
    }

    pub(super) fn shares<Labels>(&mut self, name: &str, help: &str) -> Family<Labels, Gauge<f64, AtomicU64>>
    where
        Labels: Clone + Debug + Hash + Eq + EncodeLabelSet + Send + Sync + 'static,
    {
        let family = Family::default();
        self.add(name, help, "gauge", family.clone());
        family
    }

    pub(super) fn share(&mut self, name: &str, help: &str) -> Gauge<f64, AtomicU64> {
        let gauge = Gauge::default();
        self.add(name, help, "gauge", gauge.clone());
        gauge
    }

    pub(super) fn histograms<Labels>(
        &mut self,
        name: &str,
        help: &str,
        make: fn() -> Histogram,
    ) -> Histograms<Labels>
    where
        Labels: Clone + Debug + Hash + Eq + EncodeLabelSet + Send + Sync + 'static,
    {
        let family = Family::new_with_constructor(make);
        self.add(name, help, "histogram", family.clone());
        family
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.add(name, help, "counter", counter.clone());
        counter
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.add(name, help, "gauge", gauge.clone());
        gauge
    }

    pub(super) fn histogram<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        buckets: [f64; N],
    ) -> Histogram {
        let histogram = Histogram::new(buckets);
        self.add(name, help, "histogram", histogram.clone());
        histogram
    }

    pub(super) fn build_info(&mut self) {
        let family: Family<VersionLabels, Gauge> = self.gauges("build_info", "Version of healer");
        let version = env!("CARGO_PKG_VERSION");
        family.get_or_create_owned(&VersionLabels { version }).set(1);
    }

    pub(super) fn collector(&mut self, collector: Box<dyn Collector>) {
        self.registry.register_collector(collector);
    }
}
