//! What became of the streams of a router of HTTP/2 (telemetry reference section 5).
//!
//! What it is for: `request/stream/*`, `response/stream/*` and `stream/*` of server, service, client and client/service
//! scopes: how long each direction took, how much went through, how it ended. What it is not: `requests`, `success`,
//! `failures` and `request_latency_ms`, which [`crate::RequestStats`] counts for both protocols. Called by: the request
//! path, which carries one [`StreamRun`] per request through the scopes of a server and a service, and one per attempt
//! through those of a client.

use std::sync::Arc;

use crate::{Counter, Failures, Scope, Stat};

const NANOS_PER_MS: u64 = 1_000_000;
/// How many scopes one stream is counted in.
const SCOPES: usize = 2;

/// The class of what was given up before it ended, as it is when a caller hangs up.
pub const CANCELLED: &str = "com.twitter.finagle.CancelledRequestException";

/// The streams of one scope. Share it.
pub struct StreamStats {
    request: Direction,
    response: Direction,
    total_latency_ms: Arc<Stat>,
    success: Arc<Counter>,
    failures: Arc<Counter>,
    data_bytes: Arc<Stat>,
}

/// `stream_duration_ms`, `data_bytes` (stats), `stream_success`, `stream_failures`, `failures/<class>` (counters).
struct Direction {
    duration_ms: Arc<Stat>,
    success: Arc<Counter>,
    failures: Arc<Counter>,
    classes: Failures,
    data_bytes: Arc<Stat>,
}

/// One stream: a request and its response. Times are nanoseconds of the caller's clock. Every end is counted once, the
/// first time it is told; what has not ended when this is dropped has failed as [`CANCELLED`]. Without a scope, as in a
/// router of HTTP/1, nothing is counted and all calls are cheap.
#[must_use = "a stream that is dropped has failed"]
pub struct StreamRun {
    scopes: [Option<Arc<StreamStats>>; SCOPES],
    clock: fn() -> u64,
    started: u64,
    head: Option<u64>,
    request: Half,
    response: Half,
    settled: bool,
}

/// What is known of one direction.
#[derive(Default, Clone, Copy)]
struct Half {
    bytes: u64,
    end: Option<End>,
}

#[derive(Clone, Copy)]
struct End {
    outcome: Result<(), &'static str>,
    nanos: u64,
}

impl StreamStats {
    /// Registers all at 0 under `scope`; classes of failures come with the first.
    pub fn new(scope: &Scope) -> Arc<StreamStats> {
        let both = scope.scope("stream");
        Arc::new(StreamStats {
            request: Direction::new(&scope.scope("request").scope("stream")),
            response: Direction::new(&scope.scope("response").scope("stream")),
            total_latency_ms: both.stat("total_latency_ms"),
            success: both.counter("stream_success"),
            failures: both.counter("stream_failures"),
            data_bytes: both.stat("data_bytes"),
        })
    }
}

impl Direction {
    fn new(scope: &Scope) -> Direction {
        Direction {
            duration_ms: scope.stat("stream_duration_ms"),
            success: scope.counter("stream_success"),
            failures: scope.counter("stream_failures"),
            classes: Failures::new(scope),
            data_bytes: scope.stat("data_bytes"),
        }
    }

    fn count(&self, half: Half) {
        let Some(end) = half.end else { return };
        self.duration_ms.add(end.nanos / NANOS_PER_MS);
        self.data_bytes.add(half.bytes);
        match end.outcome {
            Ok(()) => self.success.incr(),
            Err(class) => {
                self.failures.incr();
                self.classes.record(class);
            }
        }
    }
}

impl StreamRun {
    /// A request that began at `started`; `clock` is asked when this is dropped before its end.
    pub fn begin(started: u64, clock: fn() -> u64) -> StreamRun {
        StreamRun {
            scopes: [None, None],
            clock,
            started,
            head: None,
            request: Half::default(),
            response: Half::default(),
            settled: false,
        }
    }

    /// Counts in this scope as well, what has ended already included. Two scopes at most: a server and a service, or a
    /// client and its part for a service; a third is ignored. None, for a scope without streams, changes nothing.
    pub fn join(&mut self, stats: Option<&Arc<StreamStats>>) {
        let (Some(stats), Some(free)) = (stats, self.scopes.iter_mut().find(|scope| scope.is_none())) else { return };
        stats.request.count(self.request);
        stats.response.count(self.response);
        *free = Some(stats.clone());
    }

    /// Bytes of the request body, without framing.
    #[inline]
    pub fn request_data(&mut self, bytes: u64) {
        self.request.bytes = self.request.bytes.saturating_add(bytes);
    }

    /// The request is complete at `now`, or broke off for a reason of that class. Tell it as complete, too, when the
    /// service answered in full and wants no more of it.
    pub fn request_end(&mut self, outcome: Result<(), &'static str>, now: u64) {
        if self.request.end.is_some() {
            return;
        }
        self.request.end = Some(End { outcome, nanos: now.saturating_sub(self.started) });
        let half = self.request;
        self.scopes().for_each(|scope| scope.request.count(half));
        self.settle_if_over(now);
    }

    /// The head of the response is there: its stream begins.
    pub fn response_head(&mut self, now: u64) {
        self.head.get_or_insert(now);
    }

    /// Bytes of the response body, without framing.
    #[inline]
    pub fn response_data(&mut self, bytes: u64) {
        self.response.bytes = self.response.bytes.saturating_add(bytes);
    }

    /// The response is complete at `now`, trailers included, or broke off for a reason of that class.
    pub fn response_end(&mut self, outcome: Result<(), &'static str>, now: u64) {
        if self.response.end.is_some() {
            return;
        }
        let from = *self.head.get_or_insert(now);
        self.response.end = Some(End { outcome, nanos: now.saturating_sub(from) });
        let half = self.response;
        self.scopes().for_each(|scope| scope.response.count(half));
        self.settle_if_over(now);
    }

    /// Both directions are complete: the request at `read`, if that is known, the response at `now`.
    pub fn end(&mut self, read: Option<u64>, now: u64) {
        self.request_end(Ok(()), read.unwrap_or(now));
        self.response_end(Ok(()), now);
    }

    /// It is over at `now`: whatever has not ended has failed for a reason of that class. A response without a head
    /// never was a stream, and counts in `stream/stream_failures` alone. After both ends this changes nothing.
    pub fn fail(&mut self, class: &'static str, now: u64) {
        if self.settled {
            return;
        }
        self.request_end(Err(class), now);
        if self.head.is_some() {
            self.response_end(Err(class), now);
        }
        self.settle(now);
    }

    fn scopes(&self) -> impl Iterator<Item = &Arc<StreamStats>> {
        self.scopes.iter().flatten()
    }

    fn settle_if_over(&mut self, now: u64) {
        if self.request.end.is_some() && self.response.end.is_some() {
            self.settle(now);
        }
    }

    /// Counts both directions together, once.
    fn settle(&mut self, now: u64) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let whole = [self.request, self.response].iter().all(|half| half.end.is_some_and(|end| end.outcome.is_ok()));
        let bytes = self.request.bytes.saturating_add(self.response.bytes);
        let latency = now.saturating_sub(self.started) / NANOS_PER_MS;
        for scope in self.scopes() {
            scope.total_latency_ms.add(latency);
            scope.data_bytes.add(bytes);
            if whole { scope.success.incr() } else { scope.failures.incr() }
        }
    }
}

impl Drop for StreamRun {
    fn drop(&mut self) {
        if !self.settled && self.scopes().next().is_some() {
            self.fail(CANCELLED, (self.clock)());
        }
    }
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
