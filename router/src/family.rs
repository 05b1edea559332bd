//! [`Family`]: which names the metrics of a router have: those of HTTP/1 or those of HTTP/2 (telemetry reference
//! sections 4 and 5).
//!
//! It is the router's protocol that decides, not that of a request: what comes over HTTP/2 to an `http` router is counted
//! like all else there, and the other way round. Called by whoever makes the counters of a server, a service or a client.
//! Not for: counting.

use crate::config::{Protocol, RouterParams};
use std::sync::Arc;
use telemetry::{BodyStats, Counter, GrpcStats, H2Connects, H2Transport, Late, PingStats, RequestStats};
use telemetry::{Scope, StatusStats, StreamStats};

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Family {
    /// `pending`, `status/*`, `time/*`, `nacks`, sizes of bodies, `http/stream/*`.
    #[default]
    Http,
    /// `request/stream/*`, `response/stream/*`, `stream/*`, `open_streams`.
    H2,
}

impl Family {
    /// That of a router.
    pub fn of(router: &RouterParams) -> Family {
        match router.protocol {
            Protocol::Http => Family::Http,
            Protocol::H2 => Family::H2,
        }
    }

    /// The request counters of a scope.
    pub fn requests(self, scope: &Scope) -> RequestStats {
        match self {
            Family::Http => RequestStats::new(scope),
            Family::H2 => RequestStats::of_streams(scope),
        }
    }

    /// `status/*` and `time/*`.
    pub fn status(self, scope: &Scope) -> StatusStats {
        match self {
            Family::Http => StatusStats::new(scope),
            Family::H2 => StatusStats::none(),
        }
    }

    /// `request_payload_bytes`, `response_payload_bytes`, `http/stream/*`.
    pub fn bodies(self, scope: &Scope) -> BodyStats {
        match self {
            Family::Http => BodyStats::new(scope),
            Family::H2 => BodyStats::none(),
        }
    }

    /// A counter that only routers of HTTP/1 show.
    pub fn http_counter(self, scope: &Scope, name: &str) -> Arc<Counter> {
        match self {
            Family::Http => scope.counter(name),
            Family::H2 => Arc::default(),
        }
    }

    /// `request/stream/*`, `response/stream/*`, `stream/*`; none in a router of HTTP/1.
    pub fn streams(self, scope: &Scope) -> Option<Arc<StreamStats>> {
        (self == Family::H2).then(|| StreamStats::new(scope))
    }

    /// Requests that had as many attempts as they may, by the name that each family has for it.
    pub fn attempts_exhausted(self, scope: &Scope) -> Arc<Counter> {
        match self {
            Family::Http => scope.counter("retries/attempts_exhausted"),
            Family::H2 => scope.counter("retries/backoffs_exhausted"),
        }
    }

    /// `open_streams` and `stream/{local,remote}/*` of connections; in a router of HTTP/1 from the first stream on.
    pub fn transport(self, scope: &Scope) -> Late<Arc<H2Transport>> {
        self.prepared(Late::new(scope, H2Transport::new))
    }

    /// `connects/{fail,dead}`; in a router of HTTP/1 from the first on.
    pub fn connects(self, scope: &Scope) -> Late<H2Connects> {
        self.prepared(Late::new(scope, H2Connects::new))
    }

    fn prepared<T>(self, late: Late<T>) -> Late<T> {
        match self {
            Family::Http => late,
            Family::H2 => late.registered(),
        }
    }
}

/// `failure_detector/*`, from the first PING on.
pub fn pings(scope: &Scope) -> Late<PingStats> {
    Late::new(scope, PingStats::new)
}

/// `grpc/status/*`, from the first gRPC call on.
pub fn grpc(scope: &Scope) -> Late<GrpcStats> {
    Late::new(scope, GrpcStats::new)
}

/// What a service of a router of HTTP/2 counts beside `retries/{total,per_request,budget_exhausted}` (data-plane
/// reference §11.6): answers that were not judged or not tried again because they did not fit or took too long.
pub struct BufferStats {
    /// `retries/request_stream_too_long`: the request does not fit what is kept for another attempt.
    pub request_too_long: Arc<Counter>,
    /// `retries/response_stream_too_long`: the response was passed on before its class was known.
    pub response_too_long: Arc<Counter>,
    /// `retries/classification_timeout`: its class was not known in time.
    pub timeout: Arc<Counter>,
}

impl BufferStats {
    /// Registers them in the scope of a service; none in a router of HTTP/1.
    pub fn new(family: Family, scope: &Scope) -> Option<BufferStats> {
        (family == Family::H2).then(|| BufferStats {
            request_too_long: scope.counter("retries/request_stream_too_long"),
            response_too_long: scope.counter("retries/response_stream_too_long"),
            timeout: scope.counter("retries/classification_timeout"),
        })
    }
}

#[cfg(test)]
#[path = "family_tests.rs"]
mod tests;
