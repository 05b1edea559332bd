//! [`InterfaceStats`]: what every interface counts, below `interface/<kind>` (namerd reference §1).
//!
//! Interfaces of one kind count together. Called by `serve` and by the protocols. Not for: the audit, the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use telemetry::{Counter, GaugeGuard, Metrics, RequestStats, Scope, StatusStats};

/// `requests`, `success`, `failures`, `refused`, `pending`, `request_latency_ms`, `stream_failures`, `watches`,
/// `connects`, `connections`, `accept_errors`, `protocol_errors`; for HTTP also `status/<code>`. Cloning shares it.
#[derive(Clone)]
pub struct InterfaceStats(Arc<Inner>);

struct Inner {
    scope: Scope,
    requests: RequestStats,
    status: StatusStats,
    refused: Arc<Counter>,
    stream_failures: Arc<Counter>,
    connects: Arc<Counter>,
    accept_errors: Arc<Counter>,
    protocol_errors: Arc<Counter>,
    connections: Level,
    watches: Level,
}

/// How many there are now.
struct Level {
    now: Arc<AtomicUsize>,
    _gauge: GaugeGuard,
}

/// One that a gauge counts, until it is dropped.
pub struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Level {
    fn new(scope: &Scope, name: &str) -> Level {
        let now = Arc::<AtomicUsize>::default();
        let read = now.clone();
        Level { now, _gauge: scope.gauge(name, move || read.load(Ordering::Relaxed) as f64) }
    }

    fn open(&self) -> Open {
        self.now.fetch_add(1, Ordering::Relaxed);
        Open(self.now.clone())
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, if only by what is wrong with it.
    Success,
    /// It was answered by what its caller may not do: a success that is also counted as `refused`.
    Refused,
    /// It was not answered, mostly because of namerd, its store or a namer.
    Failure,
}

/// A request under way. One that is dropped was given up by its client, which is no failure.
pub struct Request {
    stats: InterfaceStats,
    since: Instant,
    outcome: Outcome,
}

impl Request {
    /// It has ended so.
    pub fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// It has ended with this status of HTTP.
    pub fn end_http(self, status: u16) {
        let ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.stats.0.status.record(status, ms);
        self.end(match status {
            401 | 403 => Outcome::Refused,
            500.. => Outcome::Failure,
            _ => Outcome::Success,
        });
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let nanos = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.stats.0.requests.finish(self.outcome != Outcome::Failure, nanos);
        if self.outcome == Outcome::Refused {
            self.stats.0.refused.incr();
        }
    }
}

impl Default for InterfaceStats {
    /// Numbers that nobody sees.
    fn default() -> InterfaceStats {
        InterfaceStats::new(&Metrics::new().root())
    }
}

impl InterfaceStats {
    /// Numbers below `scope`, all there from the start.
    pub fn new(scope: &Scope) -> InterfaceStats {
        InterfaceStats(Arc::new(Inner {
            scope: scope.clone(),
            requests: RequestStats::new(scope),
            status: StatusStats::new(scope),
            refused: scope.counter("refused"),
            stream_failures: scope.counter("stream_failures"),
            connects: scope.counter("connects"),
            accept_errors: scope.counter("accept_errors"),
            protocol_errors: scope.counter("protocol_errors"),
            connections: Level::new(scope, "connections"),
            watches: Level::new(scope, "watches"),
        }))
    }

    /// Where they are, for what one kind alone counts.
    pub fn scope(&self) -> &Scope {
        &self.0.scope
    }

    /// A request begins.
    pub fn request(&self) -> Request {
        self.0.requests.begin();
        Request { stats: self.clone(), since: Instant::now(), outcome: Outcome::Success }
    }

    /// A connection was accepted.
    pub fn connection(&self) -> Open {
        self.0.connects.incr();
        self.0.connections.open()
    }

    /// A client follows something.
    pub fn watch(&self) -> Open {
        self.0.watches.open()
    }

    /// What a client followed has failed, and it was told so.
    pub fn stream_failed(&self) {
        self.0.stream_failures.incr();
    }

    /// No connection could be accepted.
    pub fn accept_failed(&self) {
        self.0.accept_errors.incr();
    }

    /// A client was cut off for what it said.
    pub fn cut_off(&self) {
        self.0.protocol_errors.incr();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::JsonQuery;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::new();
        let stats = InterfaceStats::new(&metrics.root().scope("interface").scope("io.l5d.mesh"));
        let (connection, watch) = (stats.connection(), stats.watch());
        drop(stats.connection());
        stats.request().end(Outcome::Success);
        stats.request().end(Outcome::Failure);
        stats.request().end_http(403);
        drop(stats.request());
        let _pending = stats.request();
        stats.stream_failed();
        stats.accept_failed();
        stats.cut_off();
        let value = |name: &str| {
            let all = metrics.render_json(&JsonQuery::default()).expect("metrics");
            let all: serde_json::Value = serde_json::from_str(&all).expect("JSON");
            all[format!("interface/io.l5d.mesh/{name}")].as_f64()
        };
        for (name, expected) in [
            ("requests", 4.0),
            ("success", 3.0),
            ("failures", 1.0),
            ("refused", 1.0),
            ("pending", 1.0),
            ("status/403", 1.0),
            ("connects", 2.0),
            ("connections", 1.0),
            ("watches", 1.0),
            ("stream_failures", 1.0),
            ("accept_errors", 1.0),
            ("protocol_errors", 1.0),
        ] {
            assert_eq!(value(name), Some(expected), "{name}");
        }
        drop((connection, watch));
        assert_eq!((value("connections"), value("watches")), (Some(0.0), Some(0.0)));
    }
}
