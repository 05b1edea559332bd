//! The five metrics every request scope has.
//!
//! What it is for: servers, services, clients and client/service scopes count requests the same way (telemetry reference
//! sections 4.1 to 4.3, and 5 for routers of HTTP/2). What it is not: status codes (`status`), failure classes
//! (`failures`) or streams (`streams`). Called by: the request path, [`RequestStats::begin`] once and
//! [`RequestStats::finish`] once per request or attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::{Counter, GaugeGuard, Scope, Stat};

const NANOS_PER_MS: u64 = 1_000_000;

/// `requests`, `success`, `failures` (counters), `request_latency_ms` (stat) and `pending` (gauge) of one scope. Share it:
/// the gauge `pending` disappears when this is dropped.
pub struct RequestStats {
    /// Finished requests, whatever the outcome; of a router of HTTP/2, requests that began.
    pub requests: Arc<Counter>,
    /// Requests classified as successful.
    pub success: Arc<Counter>,
    /// All others; the classes below it are counted by [`crate::Failures`].
    pub failures: Arc<Counter>,
    /// Milliseconds from receipt to response head, failures included.
    pub request_latency_ms: Arc<Stat>,
    pending: Arc<AtomicI64>,
    /// None in a router of HTTP/2.
    listed: Option<GaugeGuard>,
}

impl RequestStats {
    /// Registers the five at 0 under `scope`.
    pub fn new(scope: &Scope) -> Self {
        let pending = Arc::new(AtomicI64::new(0));
        let read = pending.clone();
        let listed = scope.gauge("pending", move || read.load(Ordering::Relaxed) as f64);
        Self::with(scope, pending, Some(listed))
    }

    /// Registers under `scope` as in a router of HTTP/2: without `pending`, and `requests` counts at the start.
    pub fn of_streams(scope: &Scope) -> Self {
        Self::with(scope, Arc::default(), None)
    }

    fn with(scope: &Scope, pending: Arc<AtomicI64>, listed: Option<GaugeGuard>) -> Self {
        Self {
            requests: scope.counter("requests"),
            success: scope.counter("success"),
            failures: scope.counter("failures"),
            request_latency_ms: scope.stat("request_latency_ms"),
            pending,
            listed,
        }
    }

    /// A request starts. Each call must be followed by exactly one [`RequestStats::finish`], also when the caller hangs
    /// up: call it from a drop guard.
    #[inline]
    pub fn begin(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        if self.listed.is_none() {
            self.requests.incr();
        }
    }

    /// A request ends after `latency_ns` nanoseconds; whole milliseconds are recorded.
    #[inline]
    pub fn finish(&self, success: bool, latency_ns: u64) {
        self.responded(latency_ns);
        self.settle(success);
    }

    /// The first half of [`RequestStats::finish`], for a request whose success is known only at the end of its response:
    /// the head of the response is there.
    #[inline]
    pub fn responded(&self, latency_ns: u64) {
        self.request_latency_ms.add(latency_ns / NANOS_PER_MS);
    }

    /// The second half of [`RequestStats::finish`].
    #[inline]
    pub fn settle(&self, success: bool) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
        if self.listed.is_some() {
            self.requests.incr();
        }
        if success {
            self.success.incr();
        } else {
            self.failures.incr();
        }
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

    /// Telemetry reference section 5.
    #[test]
    fn of_streams_requests_count_at_the_start_and_pending_is_not_shown() {
        let metrics = Metrics::new();
        let stats = RequestStats::of_streams(&metrics.root());
        let shown = || {
            let text = metrics.render_json(&JsonQuery::default()).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        };
        stats.begin();
        stats.begin();
        assert_eq!((shown()["requests"].as_u64(), stats.pending()), (Some(2), 2));
        stats.responded(2_000_000);
        assert_eq!((shown()["request_latency_ms.max"].as_u64(), shown()["success"].as_u64()), (Some(2), Some(0)));
        stats.settle(true);
        stats.finish(false, 0);
        let last = shown();
        assert_eq!(
            (last["requests"].as_u64(), last["success"].as_u64(), last["failures"].as_u64()),
            (Some(2), Some(1), Some(1))
        );
        assert_eq!((last.get("pending"), stats.pending()), (None, 0));
    }
}
