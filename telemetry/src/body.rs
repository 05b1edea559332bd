//! Bodies: how large, and of the streamed ones how many, how long, how many broke off (telemetry reference §4.1).
//!
//! What it is for: the sizes of all bodies, and `http/stream/*` of those that Linkerd 1 streams, that is chunked and large
//! ones. What it is not: for each piece of a body; where one piece ends is chance. Called by: the request path, once per
//! body; it holds an [`OpenStream`] while a streamed one is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use crate::{Counter, GaugeGuard, Late, Scope, Stat};

/// The bodies of one scope, both ways. `http/stream/*` is registered with the first streamed body.
pub struct BodyStats {
    /// `request_payload_bytes`: bytes of each request body, without framing.
    pub request_bytes: BodyBytes,
    /// `response_payload_bytes`: bytes of each response body, without framing.
    pub response_bytes: BodyBytes,
    streams: Option<Streams>,
}

struct Streams {
    request: Late<Arc<Counts>>,
    response: Late<Arc<Counts>>,
}

/// Sizes of bodies; nothing in a router of HTTP/2.
pub struct BodyBytes(Option<Arc<Stat>>);

struct Counts {
    opened: Arc<Counter>,
    closed: Arc<Counter>,
    failures: Arc<Counter>,
    duration_ms: Arc<Stat>,
    pending: Arc<AtomicI64>,
    _pending: GaugeGuard,
}

/// A body that is under way. Dropping it says that it broke off.
#[must_use = "a stream that is dropped has broken off"]
pub struct OpenStream {
    open: Option<(Arc<Counts>, Instant)>,
    whole: bool,
}

impl BodyStats {
    /// Registers the sizes under `scope`; streams will be counted there.
    pub fn new(scope: &Scope) -> BodyStats {
        BodyStats {
            request_bytes: BodyBytes(Some(scope.stat("request_payload_bytes"))),
            response_bytes: BodyBytes(Some(scope.stat("response_payload_bytes"))),
            streams: Some(Streams {
                request: Late::new(scope, |scope| Counts::new(scope, "request")),
                response: Late::new(scope, |scope| Counts::new(scope, "response")),
            }),
        }
    }

    /// Counts nothing, as in a router of HTTP/2 (telemetry reference section 5).
    pub fn none() -> BodyStats {
        BodyStats { request_bytes: BodyBytes(None), response_bytes: BodyBytes(None), streams: None }
    }

    /// A streamed body of a request begins.
    pub fn open_request(&self) -> OpenStream {
        OpenStream::begin(self.streams.as_ref().map(|streams| &streams.request))
    }

    /// A streamed body of a response begins.
    pub fn open_response(&self) -> OpenStream {
        OpenStream::begin(self.streams.as_ref().map(|streams| &streams.response))
    }
}

impl BodyBytes {
    /// A body of so many bytes was passed on, or as many of it.
    #[inline]
    pub fn add(&self, bytes: u64) {
        if let Some(stat) = &self.0 {
            stat.add(bytes);
        }
    }
}

impl Counts {
    fn new(scope: &Scope, side: &str) -> Arc<Counts> {
        let name = |what: &str| format!("http/stream/{side}/{what}");
        let pending = Arc::new(AtomicI64::new(0));
        let read = pending.clone();
        Arc::new(Counts {
            opened: scope.counter(&name("opened")),
            closed: scope.counter(&name("closed")),
            failures: scope.counter(&name("failures")),
            duration_ms: scope.stat(&name("duration_ms")),
            _pending: scope.gauge(&name("pending"), move || read.load(Ordering::Relaxed) as f64),
            pending,
        })
    }
}

impl OpenStream {
    fn begin(counts: Option<&Late<Arc<Counts>>>) -> OpenStream {
        let open = counts.map(|counts| {
            let counts = counts.get();
            counts.opened.incr();
            counts.pending.fetch_add(1, Ordering::Relaxed);
            (counts.clone(), Instant::now())
        });
        OpenStream { open, whole: false }
    }

    /// The body is complete.
    pub fn end(mut self) {
        self.whole = true;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let Some((counts, since)) = &self.open else { return };
        counts.closed.incr();
        if !self.whole {
            counts.failures.incr();
        }
        counts.pending.fetch_sub(1, Ordering::Relaxed);
        counts.duration_ms.add(u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JsonQuery, Metrics};

    #[test]
    fn streams_end_or_break_off() {
        let metrics = Metrics::new();
        let stats = BodyStats::new(&metrics.root());
        let json = || {
            let text = metrics.render_json(&JsonQuery::default()).expect("JSON");
            serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
        };
        assert_eq!(json().get("http/stream/response/opened"), None, "nothing before the first stream");
        let (one, two, three) = (stats.open_response(), stats.open_response(), stats.open_response());
        one.end();
        drop(two);
        for (name, wanted) in [("opened", 3.0), ("closed", 2.0), ("failures", 1.0), ("pending", 1.0)] {
            assert_eq!(json()[format!("http/stream/response/{name}")].as_f64(), Some(wanted), "{name}");
        }
        assert_eq!(json()["http/stream/response/duration_ms.count"], 2);
        assert_eq!(json().get("http/stream/request/opened"), None);
        drop(three);
    }

    #[test]
    fn none_counts_nothing() {
        let stats = BodyStats::none();
        stats.request_bytes.add(1);
        drop(stats.open_request());
        stats.open_response().end();
    }
}
