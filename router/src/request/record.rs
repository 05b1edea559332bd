//! [`Record`]: what is counted of a request, settled whatever ends it.
//!
//! Called by `exchange` and `answer`. Not for: the counters of a client, which `attempt` settles per dispatch.

use super::notes::Notes;
use crate::clock;
use crate::error::{Kind, RouteError};
use crate::route::PathService;
use crate::server::ServerStats;
use http::StatusCode;
use std::sync::Arc;
use telemetry::StreamRun;

/// The record of a request: whatever ends it, its counters are settled.
pub(crate) struct Record<'a> {
    pub(crate) session_stats: &'a ServerStats,
    pub(crate) service: Option<Arc<PathService>>,
    /// For who reads records of requests, if anybody does.
    pub(crate) notes: Option<Box<Notes>>,
    /// Bytes of the request body that were read, and of the response body that were passed on, without framing.
    pub(crate) bytes: (u64, u64),
    started: u64,
    done: bool,
    /// What became of its stream, where that is counted.
    pub(crate) run: StreamRun,
    /// The latency of a response whose verdict comes with its end.
    unsettled: Option<u64>,
}

impl<'a> Record<'a> {
    /// A request that came in now.
    pub(crate) fn begin(session_stats: &'a ServerStats, notes: Option<Box<Notes>>) -> Record<'a> {
        session_stats.requests.begin();
        let started = clock::now();
        let mut run = StreamRun::begin(started, clock::now);
        run.join(session_stats.streams.as_ref());
        Record { session_stats, service: None, notes, bytes: (0, 0), started, done: false, run, unsettled: None }
    }

    /// The request has this name.
    pub(crate) fn named(&mut self, service: &Arc<PathService>) {
        service.stats.begin();
        self.run.join(service.streams.as_ref());
        self.service = Some(service.clone());
    }

    /// How a call of gRPC ended.
    pub(crate) fn grpc_ended(&mut self, status: u32) {
        if let Some(service) = &self.service {
            service.grpc.get().record(status);
        }
        if let Some(notes) = &mut self.notes {
            notes.grpc_status = Some(status);
        }
    }

    /// When the request came in, in nanoseconds of the process clock.
    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    /// A response head was there at `now`. Without a verdict, [`Record::judged`] gives it later.
    pub(crate) fn responded(&mut self, status: StatusCode, success: Option<bool>, now: u64) {
        let latency = now.saturating_sub(self.started);
        self.run.response_head(now);
        self.session_stats.status.record(status.as_u16(), latency / 1_000_000);
        if let Some(notes) = &mut self.notes {
            notes.status = Some(status);
            notes.latency = latency;
        }
        self.done = true;
        match success {
            Some(success) => self.settle(success, latency),
            None => self.unsettled = Some(latency),
        }
    }

    /// The router has answered by itself.
    pub(crate) fn answered_here(&mut self, status: StatusCode) {
        let now = clock::now();
        self.responded(status, Some(true), now);
        self.run.end(None, now);
    }

    /// The verdict that comes with the end of a response.
    pub(crate) fn judged(&mut self, success: bool) {
        if let Some(latency) = self.unsettled.take() {
            self.settle(success, latency);
        }
    }

    fn settle(&mut self, success: bool, latency: u64) {
        self.session_stats.requests.finish(success, latency);
        if let Some(service) = &self.service {
            service.stats.finish(success, latency);
            if !success {
                service.failures.record(SYNTHETIC);
            }
        }
        if !success {
            self.session_stats.failures.record(SYNTHETIC);
        }
    }

    /// The router wrote a response of its own, with so many bytes of body.
    pub(crate) fn wrote(&mut self, bytes: usize, head_only: bool) {
        if let Some(notes) = &mut self.notes {
            notes.content_length = Some(bytes as u64);
        }
        self.bytes.1 = if head_only { 0 } else { bytes as u64 };
    }

    /// The body of a service's response was passed on, or broke off.
    pub(crate) fn relayed(&mut self, broke: Option<Kind>) {
        if let Some(notes) = &mut self.notes {
            notes.failure = broke.map(Kind::class);
        }
    }

    /// The request failed, and `status` is what its client is told.
    pub(crate) fn failed(&mut self, error: &RouteError, status: StatusCode) {
        if let Some(reason) = error.kind.rejected() {
            metrics::counter!("rejected_total", "reason" => reason).increment(1);
        }
        metrics::counter!("route_errors_total", "origin" => error.kind.origin().label()).increment(1);
        tracing::debug!(kind = ?error.kind, service = ?self.service.as_ref().map(|s| &s.dst.path), "{error}");
        let now = clock::now();
        let latency = now.saturating_sub(self.started);
        self.run.fail(error.kind.class(), now);
        self.session_stats.status.record(status.as_u16(), latency / 1_000_000);
        self.session_stats.requests.finish(false, latency);
        match &self.service {
            Some(service) => {
                service.stats.finish(false, latency);
                service.failures.record(error.kind.class());
                self.session_stats.failures.record(SYNTHETIC);
            }
            None => self.session_stats.failures.record(error.kind.class()),
        }
        if error.kind == Kind::Overload {
            self.session_stats.nacks.incr();
        }
        if let Some(notes) = &mut self.notes {
            notes.status = Some(status).filter(|_| error.kind != Kind::ClientGone);
            notes.latency = latency;
            notes.failure = Some(error.kind.class());
        }
        self.done = true;
    }
}

/// How Linkerd 1 names a failure that is a 5xx response (telemetry reference §4.1).
pub(crate) const SYNTHETIC: &str = "com.twitter.finagle.service.ResponseClassificationSyntheticException";

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.failed(&RouteError::new(Kind::ClientGone, "the connection ended"), StatusCode::BAD_GATEWAY);
        }
        self.judged(false);
        let (request, response) = self.bytes;
        self.session_stats.bodies.request_bytes.add(request);
        self.session_stats.bodies.response_bytes.add(response);
        if let Some(notes) = self.notes.take() {
            notes.end(self.started, self.service.as_ref().map(|service| &service.dst.path), self.bytes);
        }
    }
}
