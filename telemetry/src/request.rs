//! The five metrics every request scope has.
//!
//! What it is for: servers, services, clients and client/service scopes count requests the same way (telemetry reference
//! sections 4.1 to 4.3). What it is not: status codes (`status`) or failure classes (`failures`). Called by: the request
//! path, [`RequestStats::begin`] once and [`RequestStats::finish`] once per request or attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::{Counter, GaugeGuard, Scope, Stat};

const NANOS_PER_MS: u64 = 1_000_000;

/// `requests`, `success`, `failures` (counters), `request_latency_ms` (stat) and `pending` (gauge) of one scope. Share it:
/// the gauge `pending` disappears when this is dropped.
pub struct RequestStats {
    /// Finished requests, whatever the outcome.
    pub requests: Arc<Counter>,
    /// Requests classified as successful.
    pub success: Arc<Counter>,
    /// All others; the classes below it are counted by [`crate::Failures`].
    pub failures: Arc<Counter>,
    /// Milliseconds from receipt to response head, failures included.
    pub request_latency_ms: Arc<Stat>,
    pending: Arc<AtomicI64>,
    _guard: GaugeGuard,
}

impl RequestStats {
    /// Registers the five at 0 under `scope`.
    pub fn new(scope: &Scope) -> Self {
        let pending = Arc::new(AtomicI64::new(0));
        let read = pending.clone();
        Self {
            requests: scope.counter("requests"),
            success: scope.counter("success"),
            failures: scope.counter("failures"),
            request_latency_ms: scope.stat("request_latency_ms"),
            pending,
            _guard: scope.gauge("pending", move || read.load(Ordering::Relaxed) as f64),
        }
    }

    /// A request starts. Each call must be followed by exactly one [`RequestStats::finish`], also when the caller hangs
    /// up: call it from a drop guard.
    #[inline]
    pub fn begin(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// A request ends after `latency_ns` nanoseconds; whole milliseconds are recorded.
    #[inline]
    pub fn finish(&self, success: bool, latency_ns: u64) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
        self.requests.incr();
        if success {
            self.success.incr();
        } else {
            self.failures.incr();
        }
        self.request_latency_ms.add(latency_ns / NANOS_PER_MS);
    }

    /// Requests in flight.
    pub fn pending(&self) -> i64 {
        self.pending.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JsonQuery, Metrics};

    #[test]
    fn a_success_and_a_failure() {
        let metrics = Metrics::new();
        let stats = RequestStats::new(&metrics.root());
        stats.begin();
        stats.begin();
        stats.begin();
        stats.finish(true, 3_999_999);
        stats.finish(false, 10_000_000);
        assert_eq!(stats.pending(), 1);
        let text = metrics.render_json(&JsonQuery::default()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["requests"], 2);
        assert_eq!(value["success"], 1);
        assert_eq!(value["failures"], 1);
        assert_eq!(value["pending"], 1.0);
        assert_eq!(value["request_latency_ms.min"], 3);
        assert_eq!(value["request_latency_ms.max"], 10);
    }

    #[test]
    fn two_of_the_same_scope_share_counters_and_sum_pending() {
        let metrics = Metrics::new();
        let (a, b) = (RequestStats::new(&metrics.root()), RequestStats::new(&metrics.root()));
        a.begin();
        b.begin();
        b.finish(true, 0);
        b.begin();
        let text = metrics.render_json(&JsonQuery::default()).unwrap();
        assert!(text.contains("\"pending\":2.0") && text.contains("\"requests\":1"), "{text}");
        drop(b);
        assert!(metrics.render_json(&JsonQuery::default()).unwrap().contains("\"pending\":1.0"));
    }
}
