//! Metrics as declarations: name, unit, help and closed label sets stand once, beside the guard that counts.
//!
//! The registry, the reference page, the dashboards and the alert rules are made from [`Declaration`]s. A guard asks the
//! [`Registry`] for handles when it is built and only touches handles on the way of a request (2 ns each).
//!
//! Invariant: a label value is from a closed list or a configured name. Whatever else comes is counted as `_other`,
//! and one metric never has more than [`MAX_SERIES`] series.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::{counter, gauge, histogram};
use prometheus_client::registry::Unit;

/// A count that only grows.
pub type Counter = counter::Counter<u64, AtomicU64>;
/// A value that goes up and down.
pub type Gauge = gauge::Gauge<i64, AtomicI64>;
/// A distribution over [`EDGES_SECONDS`].
pub type Histogram = histogram::Histogram;

/// The edges of every histogram, in seconds. 0.05 and 1.2 are SLO limits and must stay edges (CONVENTIONS).
pub const EDGES_SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.2, 2.5, 5.0, 10.0];

/// At most this many series of one metric; further label sets are counted in the series whose labels are all `_other`.
pub const MAX_SERIES: usize = 4096;

/// The label value for what is in no list.
pub const OTHER: &str = "_other";

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution of seconds; its name ends in `_seconds`.
    Histogram,
}

/// Where the values of a label come from.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// Exactly these.
    Closed(&'static [&'static str]),
    /// Names from the config: routes, upstreams, policies. The text says which.
    Configured(&'static str),
}

/// One label.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: Values,
}

/// One metric as it is declared beside its guard.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// Full name without the prefix, with `_total` or the unit as CONVENTIONS write it (`http_requests_total`).
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// One sentence for people.
    pub help: &'static str,
    /// Its labels, in order.
    pub labels: &'static [Label],
}

type Labels = Vec<(&'static str, String)>;

enum Family {
    Counter(prometheus_client::metrics::family::Family<Labels, Counter>),
    Gauge(prometheus_client::metrics::family::Family<Labels, Gauge>),
    Histogram(prometheus_client::metrics::family::Family<Labels, Histogram, fn() -> Histogram>),
}

struct Held {
    family: Family,
    series: HashSet<Vec<String>>,
}

struct Inner {
    registry: prometheus_client::registry::Registry,
    families: BTreeMap<&'static str, Held>,
}

/// All metrics of one process. Handles are made at start and on reload, never on the way of a request.
pub struct Registry {
    inner: Mutex<Inner>,
}

impl Registry {
    /// An empty registry whose names start with `prefix` and an underscore.
    #[must_use]
    pub fn new(prefix: &str) -> Registry {
        let registry = prometheus_client::registry::Registry::with_prefix(prefix);
        Registry { inner: Mutex::new(Inner { registry, families: BTreeMap::new() }) }
    }

    /// The counter of `declaration` for these label values, starting at 0. The same values give the same counter.
    ///
    /// # Panics
    /// When `declaration` is not a counter or the number of values is not the number of labels: a mistake of the
    /// programmer that every start shows.
    pub fn counter(&self, declaration: &'static Declaration, values: &[&str]) -> Counter {
        self.with(declaration, Kind::Counter, values, |family, labels| match family {
            Family::Counter(family) => family.get_or_create(labels).clone(),
            _ => unreachable!("kind was checked"),
        })
    }

    /// The gauge of `declaration` for these label values, starting at 0. Panics as [`Registry::counter`] does.
    pub fn gauge(&self, declaration: &'static Declaration, values: &[&str]) -> Gauge {
        self.with(declaration, Kind::Gauge, values, |family, labels| match family {
            Family::Gauge(family) => family.get_or_create(labels).clone(),
            _ => unreachable!("kind was checked"),
        })
    }

    /// The histogram of `declaration` for these label values. Panics as [`Registry::counter`] does.
    pub fn histogram(&self, declaration: &'static Declaration, values: &[&str]) -> Histogram {
        self.with(declaration, Kind::Histogram, values, |family, labels| match family {
            Family::Histogram(family) => family.get_or_create(labels).clone(),
            _ => unreachable!("kind was checked"),
        })
    }

    /// The exposition text (OpenMetrics 1.0) of everything that was asked for so far.
    #[must_use]
    pub fn render(&self) -> String {
        let inner = self.lock();
        let mut text = String::with_capacity(16 * 1024);
        prometheus_client::encoding::text::encode(&mut text, &inner.registry).expect("writing to a String cannot fail");
        text
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A panic while the lock was held can only have come from a programmer's mistake in a declaration;
        // the maps are still whole, so go on rather than lose all metrics.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn with<R>(
        &self,
        declaration: &'static Declaration,
        kind: Kind,
        values: &[&str],
        get: impl FnOnce(&Family, &Labels) -> R,
    ) -> R {
        assert_eq!(declaration.kind, kind, "{} is no {kind:?}", declaration.name);
        assert_eq!(declaration.labels.len(), values.len(), "{} takes other labels", declaration.name);
        let mut inner = self.lock();
        let Inner { registry, families } = &mut *inner;
        let held = families
            .entry(declaration.name)
            .or_insert_with(|| Held { family: register(registry, declaration), series: HashSet::new() });
        let mut key: Vec<String> =
            declaration.labels.iter().zip(values).map(|(label, value)| known(label, value).to_owned()).collect();
        if !held.series.contains(&key) {
            if held.series.len() >= MAX_SERIES {
                key.fill(OTHER.to_owned());
            }
            held.series.insert(key.clone());
        }
        let labels: Labels = declaration.labels.iter().map(|label| label.name).zip(key).collect();
        get(&held.family, &labels)
    }
}

fn known<'a>(label: &Label, value: &'a str) -> &'a str {
    match label.values {
        Values::Closed(list) if !list.contains(&value) => OTHER,
        _ => value,
    }
}

fn register(registry: &mut prometheus_client::registry::Registry, declaration: &'static Declaration) -> Family {
    // The library appends `_total` and the unit itself.
    let name = declaration.name;
    match declaration.kind {
        Kind::Counter => {
            let family = prometheus_client::metrics::family::Family::<Labels, Counter>::default();
            registry.register(name.strip_suffix("_total").unwrap_or(name), declaration.help, family.clone());
            Family::Counter(family)
        }
        Kind::Gauge => {
            let family = prometheus_client::metrics::family::Family::<Labels, Gauge>::default();
            match name.strip_suffix("_seconds") {
                Some(bare) => registry.register_with_unit(bare, declaration.help, Unit::Seconds, family.clone()),
                None => registry.register(name, declaration.help, family.clone()),
            }
            Family::Gauge(family)
        }
        Kind::Histogram => {
            let make: fn() -> Histogram = || Histogram::new(EDGES_SECONDS);
            let family = prometheus_client::metrics::family::Family::new_with_constructor(make);
            let bare = name.strip_suffix("_seconds").unwrap_or(name);
            registry.register_with_unit(bare, declaration.help, Unit::Seconds, family.clone());
            Family::Histogram(family)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static REQUESTS: Declaration = Declaration {
        name: "requests_total",
        kind: Kind::Counter,
        help: "Requests",
        labels: &[Label { name: "result", values: Values::Closed(&["allowed", "refused"]) }],
    };
    static BY_ROUTE: Declaration = Declaration {
        name: "by_route_total",
        kind: Kind::Counter,
        help: "Requests by route",
        labels: &[Label { name: "route", values: Values::Configured("routes") }],
    };
    static DURATION: Declaration =
        Declaration { name: "request_duration_seconds", kind: Kind::Histogram, help: "Time", labels: &[] };

    #[test]
    fn series_start_at_zero_and_count_in_the_exposition() {
        let registry = Registry::new("portcullis");
        let _ = registry.counter(&REQUESTS, &["refused"]);
        registry.counter(&REQUESTS, &["allowed"]).inc();
        registry.histogram(&DURATION, &[]).observe(0.05);
        let text = registry.render();
        assert!(text.contains("portcullis_requests_total{result=\"allowed\"} 1"), "{text}");
        assert!(text.contains("portcullis_requests_total{result=\"refused\"} 0"), "{text}");
        assert!(text.contains("portcullis_request_duration_seconds_bucket{le=\"0.05\"} 1"), "{text}");
        assert!(text.contains("# UNIT portcullis_request_duration_seconds seconds"), "{text}");
    }

    #[test]
    fn a_value_outside_the_closed_list_is_counted_as_other() {
        let registry = Registry::new("p");
        registry.counter(&REQUESTS, &["made-up"]).inc();
        assert!(registry.render().contains("p_requests_total{result=\"_other\"} 1"));
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let registry = Registry::new("p");
        for index in 0..MAX_SERIES + 100 {
            registry.counter(&BY_ROUTE, &[&format!("route-{index}")]).inc();
        }
        let text = registry.render();
        assert!(text.contains("p_by_route_total{route=\"_other\"} 100"));
        assert!(text.lines().filter(|line| line.starts_with("p_by_route_total{")).count() <= MAX_SERIES + 1);
    }

    #[test]
    fn the_same_labels_give_the_same_handle() {
        let registry = Registry::new("p");
        registry.counter(&REQUESTS, &["allowed"]).inc();
        registry.counter(&REQUESTS, &["allowed"]).inc();
        assert_eq!(registry.counter(&REQUESTS, &["allowed"]).get(), 2);
    }
}
