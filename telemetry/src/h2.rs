//! Streams and frames of HTTP/2 connections (telemetry reference section 5, connection level).
//!
//! What it is for: `open_streams` and `stream/{local,remote}/*` of server and client scopes, and what a client counts of
//! making and watching its connections. What it is not: requests (`request`) and what became of their streams
//! (`streams`), or bytes of the socket (`transport`). Called by: the code that serves an HTTP/2 connection, and the one
//! that makes them.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::{Counter, GaugeGuard, Scope, Stat};

/// `open_streams` (gauge), and for what we send (`stream/local`) and receive (`stream/remote`): `data/bytes` (stat, per
/// frame), `data/frames`, `trailers`, `reset` (counters).
pub struct H2Transport {
    open: Arc<AtomicI64>,
    local: Side,
    remote: Side,
    _open: GaugeGuard,
}

struct Side {
    bytes: Arc<Stat>,
    frames: Arc<Counter>,
    trailers: Arc<Counter>,
    reset: Arc<Counter>,
}

/// One stream of a connection; open until it is dropped, and so never longer than its connection. A reset is counted
/// once per stream and side, however many readers and writers learn of it.
pub struct H2Stream {
    stats: Arc<H2Transport>,
    sent_reset: Cell<bool>,
    received_reset: Cell<bool>,
}

impl H2Transport {
    /// Registers them under `scope`.
    pub fn new(scope: &Scope) -> Arc<H2Transport> {
        let open = Arc::new(AtomicI64::new(0));
        let read = open.clone();
        Arc::new(H2Transport {
            open,
            local: Side::new(scope, "local"),
            remote: Side::new(scope, "remote"),
            _open: scope.gauge("open_streams", move || read.load(Ordering::Relaxed) as f64),
        })
    }

    /// A stream begins.
    pub fn open(self: &Arc<H2Transport>) -> H2Stream {
        self.open.fetch_add(1, Ordering::Relaxed);
        H2Stream { stats: self.clone(), sent_reset: Cell::new(false), received_reset: Cell::new(false) }
    }

    /// Streams that are open now, of all connections of the scope that were counted with this handle.
    pub fn open_streams(&self) -> i64 {
        self.open.load(Ordering::Relaxed)
    }
}

impl Side {
    fn new(scope: &Scope, side: &str) -> Side {
        let scope = scope.scope("stream").scope(side);
        Side {
            bytes: scope.stat("data/bytes"),
            frames: scope.counter("data/frames"),
            trailers: scope.counter("trailers"),
            reset: scope.counter("reset"),
        }
    }

    fn data(&self, bytes: u64) {
        self.frames.incr();
        self.bytes.add(bytes);
    }

    fn reset(&self, before: &Cell<bool>) {
        if !before.replace(true) {
            self.reset.incr();
        }
    }
}

impl H2Stream {
    /// DATA of so many bytes was given to the connection, to be sent.
    #[inline]
    pub fn sent_data(&self, bytes: u64) {
        self.stats.local.data(bytes);
    }

    /// DATA of so many bytes came.
    #[inline]
    pub fn received_data(&self, bytes: u64) {
        self.stats.remote.data(bytes);
    }

    /// Trailers were given to the connection.
    pub fn sent_trailers(&self) {
        self.stats.local.trailers.incr();
    }

    /// Trailers came.
    pub fn received_trailers(&self) {
        self.stats.remote.trailers.incr();
    }

    /// We reset the stream.
    pub fn sent_reset(&self) {
        self.stats.local.reset(&self.sent_reset);
    }

    /// The peer reset the stream.
    pub fn received_reset(&self) {
        self.stats.remote.reset(&self.received_reset);
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        self.stats.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a client counts of its HTTP/2 connections beside `connects`.
pub struct H2Connects {
    /// `connects/fail`: connections that could not be made.
    pub fail: Arc<Counter>,
    /// `connects/dead`: connections that were found closed when a request wanted them.
    pub dead: Arc<Counter>,
}

impl H2Connects {
    /// Registers them under `scope`.
    pub fn new(scope: &Scope) -> H2Connects {
        H2Connects { fail: scope.counter("connects/fail"), dead: scope.counter("connects/dead") }
    }
}

/// `failure_detector/*`: what a client learns by PING.
pub struct PingStats {
    /// `ping`: PINGs that were sent.
    pub ping: Arc<Counter>,
    /// `close`: connections given up because one was not answered in time.
    pub close: Arc<Counter>,
    /// `ping_latency_us`: microseconds until the answer.
    pub latency_us: Arc<Stat>,
}

impl PingStats {
    /// Registers them under `scope`.
    pub fn new(scope: &Scope) -> PingStats {
        let scope = scope.scope("failure_detector");
        PingStats {
            ping: scope.counter("ping"),
            close: scope.counter("close"),
            latency_us: scope.stat("ping_latency_us"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JsonQuery, Metrics};

    fn json(metrics: &Metrics) -> serde_json::Value {
        serde_json::from_str(&metrics.render_json(&JsonQuery::default()).expect("JSON")).expect("JSON")
    }

    #[test]
    fn streams_are_open_until_they_are_dropped() {
        let metrics = Metrics::new();
        let stats = H2Transport::new(&metrics.root());
        let other = H2Transport::new(&metrics.root());
        let streams: Vec<H2Stream> = (0..3).map(|_| stats.open()).collect();
        let one = other.open();
        assert_eq!((stats.open_streams(), json(&metrics)["open_streams"].as_f64()), (3, Some(4.0)));
        // As a connection that ends takes its streams with it.
        drop(streams);
        assert_eq!(json(&metrics)["open_streams"], 1.0);
        drop(one);
        assert_eq!(json(&metrics)["open_streams"], 0.0);
    }

    #[test]
    fn frames_of_both_sides_and_a_reset_once() {
        let metrics = Metrics::new();
        let stats = H2Transport::new(&metrics.root());
        let stream = stats.open();
        stream.sent_data(10);
        stream.sent_data(0);
        stream.received_data(16_384);
        stream.received_trailers();
        stream.received_reset();
        stream.received_reset();
        let second = stats.open();
        second.received_reset();
        second.sent_reset();
        second.sent_trailers();
        let shown = json(&metrics);
        for (name, wanted) in [
            ("local/data/frames", 2),
            ("local/data/bytes.count", 2),
            ("local/data/bytes.sum", 10),
            ("local/trailers", 1),
            ("local/reset", 1),
            ("remote/data/frames", 1),
            ("remote/data/bytes.max", 16_384),
            ("remote/trailers", 1),
            ("remote/reset", 2),
        ] {
            assert_eq!(shown[format!("stream/{name}")], wanted, "{name}");
        }
    }

    #[test]
    fn what_a_client_counts_of_its_connections() {
        let metrics = Metrics::new();
        metrics.root().counter("connects").add(5);
        let (connects, pings) = (H2Connects::new(&metrics.root()), PingStats::new(&metrics.root()));
        connects.fail.incr();
        connects.dead.add(2);
        pings.ping.add(3);
        pings.close.incr();
        pings.latency_us.add(250);
        let shown = json(&metrics);
        for (name, wanted) in [
            ("connects", 5),
            ("connects/fail", 1),
            ("connects/dead", 2),
            ("failure_detector/ping", 3),
            ("failure_detector/close", 1),
            ("failure_detector/ping_latency_us.max", 250),
        ] {
            assert_eq!(shown[name], wanted, "{name}");
        }
    }
}
