//! One process-wide registry of metrics, and the meter of busy time for tasks that sessions share.
//!
//! Names carry their unit (`_seconds`, `_bytes`, `_total`) and every metric has a help text. Asking twice for the same
//! name returns the same metric, so a crate may call the helpers wherever it needs one.

mod busy;

pub use busy::{BusyGuard, BusyMeter, Metered, waiting};

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use prometheus::core::Collector;
pub use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
use prometheus::{HistogramOpts, Opts, Registry, TextEncoder};

/// Buckets for durations in seconds, from 10 microseconds to 10 seconds.
pub const SECONDS_BUCKETS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Buckets for counts of things handled together, from 1 to 4096.
pub const COUNT_BUCKETS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0,
];

/// Buckets for sizes in bytes, from 64 B to 64 MiB.
pub const BYTES_BUCKETS: &[f64] = &[
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// The process's registry. For collectors that the helpers below do not cover.
pub fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let registry = Registry::new();
        busy::register(&registry);
        registry
    })
}

/// All metrics in the Prometheus text format.
pub fn render() -> String {
    let families = registry().gather();
    // Encoding fails only for a family without a name or samples, which the registry does not hand out.
    TextEncoder::new()
        .encode_to_string(&families)
        .unwrap_or_default()
}

/// A counter; `name` ends in `_total`.
pub fn counter(name: &str, help: &str) -> IntCounter {
    known(name, || IntCounter::new(name, help))
}

/// Counters told apart by `labels`.
pub fn counter_vec(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    known(name, || IntCounterVec::new(Opts::new(name, help), labels))
}

/// A gauge of whole numbers.
pub fn gauge(name: &str, help: &str) -> IntGauge {
    known(name, || IntGauge::new(name, help))
}

/// Gauges of whole numbers told apart by `labels`.
pub fn gauge_vec(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    known(name, || IntGaugeVec::new(Opts::new(name, help), labels))
}

/// A gauge of fractions, for seconds.
pub fn gauge_f64(name: &str, help: &str) -> Gauge {
    known(name, || Gauge::new(name, help))
}

/// Gauges of fractions told apart by `labels`.
pub fn gauge_f64_vec(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    known(name, || GaugeVec::new(Opts::new(name, help), labels))
}

/// A histogram over `buckets` (see the constants above).
pub fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    known(name, || {
        Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
    })
}

/// Histograms told apart by `labels`.
pub fn histogram_vec(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    known(name, || {
        HistogramVec::new(
            HistogramOpts::new(name, help).buckets(buckets.to_vec()),
            labels,
        )
    })
}

type Table = BTreeMap<String, Box<dyn std::any::Any + Send>>;

/// The metric registered under `name`, made by `make` when there is none yet.
///
/// Panics when the name is malformed or belongs to a metric of another type: a mistake in our code that the first
/// test of it shows.
fn known<M>(name: &str, make: impl FnOnce() -> prometheus::Result<M>) -> M
where
    M: Collector + Clone + Send + 'static,
{
    static TABLE: OnceLock<Mutex<Table>> = OnceLock::new();
    let mut table = TABLE
        .get_or_init(Default::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(metric) = table.get(name) {
        let metric = metric.downcast_ref::<M>();
        return metric
            .unwrap_or_else(|| panic!("metric {name} is registered with another type"))
            .clone();
    }
    let metric = make().unwrap_or_else(|error| panic!("metric {name}: {error}"));
    if let Err(error) = registry().register(Box::new(metric.clone())) {
        panic!("metric {name}: {error}");
    }
    table.insert(name.to_owned(), Box::new(metric.clone()));
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_is_the_same_metric() {
        counter("test_things_total", "things").inc();
        counter("test_things_total", "things").inc_by(2);
        gauge_vec("test_level_bytes", "level", &["kind"])
            .with_label_values(&["a"])
            .set(7);
        histogram("test_wait_seconds", "wait", SECONDS_BUCKETS).observe(0.5);
        let text = render();
        assert!(text.contains("test_things_total 3"), "{text}");
        assert!(text.contains("test_level_bytes{kind=\"a\"} 7"), "{text}");
        assert!(text.contains("test_wait_seconds_count 1"), "{text}");
    }
}
