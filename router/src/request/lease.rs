//! What must end however a request ends: its share of an endpoint's load, and the counting of a dispatch.
//!
//! Both settle when they are dropped, so that a cancelled request leaves nothing behind. Held by `attempt` and by whoever
//! passes the answer on. Not for: picking endpoints (crate `balance`).

use crate::clock;
use crate::error::Kind;
use crate::route::Leaf;
use balance::Endpoint;
use std::sync::Arc;
use telemetry::RequestStats;

/// A unit of load on an endpoint, from the pick to the end of the response body (data-plane reference §9).
pub(crate) struct Lease {
    inner: balance::Lease,
}

impl Lease {
    /// The lease that a balancer gave.
    pub(crate) fn new(inner: balance::Lease) -> Lease {
        Lease { inner }
    }

    /// Where the request goes.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        self.inner.endpoint()
    }

    /// When it began, in nanoseconds of the process clock.
    pub(crate) fn began(&self) -> u64 {
        self.inner.began()
    }

    /// Tells the endpoint how its answer was.
    pub(crate) fn judge(&mut self, success: bool, now: u64) {
        if success { self.inner.succeed(now) } else { self.inner.fail(now, &mut random) }
    }

    /// Notes that the answer was there at `at`: a tunnel that lasts for hours is not a slow endpoint.
    pub(crate) fn answered(&mut self, at: u64) {
        self.inner.answered(at);
    }

    /// Tells it that no connection could be made.
    pub(crate) fn connect_failed(&mut self) {
        self.inner.connect_failed(clock::now(), &mut random);
    }
}

/// For draws and jitter.
pub(crate) fn random() -> u64 {
    fastrand::u64(..)
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.inner.end(clock::now());
    }
}

/// Counts one dispatch in the client's and the client's service's scope, cancellation included.
pub(crate) struct Dispatch<'a> {
    stats: [&'a RequestStats; 2],
    started: u64,
    done: bool,
}

impl<'a> Dispatch<'a> {
    /// Begins to count.
    pub(crate) fn new(leaf: &'a Leaf, started: u64) -> Dispatch<'a> {
        let stats = [&leaf.client.stats.requests, &leaf.stats];
        stats.iter().for_each(|stats| stats.begin());
        Dispatch { stats, started, done: false }
    }

    /// Counts the end; the latency in milliseconds.
    pub(crate) fn finish(&mut self, success: bool, now: u64) -> u64 {
        self.done = true;
        let latency = now.saturating_sub(self.started);
        self.stats.iter().for_each(|stats| stats.finish(success, latency));
        latency / 1_000_000
    }
}

impl Dispatch<'_> {
    /// Leaves the end to whoever sees the trailers.
    pub(crate) fn defer(mut self, leaf: &Arc<Leaf>) -> Unsettled {
        self.done = true;
        Unsettled { leaf: leaf.clone(), started: self.started, done: false }
    }
}

/// A dispatch whose verdict comes with the end of its response.
pub(crate) struct Unsettled {
    leaf: Arc<Leaf>,
    started: u64,
    done: bool,
}

impl Unsettled {
    /// Counts the end; `class` says what a failure was.
    pub(crate) fn settle(mut self, success: bool, class: &'static str, now: u64) {
        self.count(success, class, now);
    }

    fn count(&mut self, success: bool, class: &'static str, now: u64) {
        self.done = true;
        let latency = now.saturating_sub(self.started);
        [&self.leaf.client.stats.requests, &self.leaf.stats].iter().for_each(|stats| stats.finish(success, latency));
        if !success {
            self.leaf.client.stats.failures.record(class);
            self.leaf.failures.record(class);
        }
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if !self.done {
            self.count(false, Kind::ClientGone.class(), clock::now());
        }
    }
}

impl Drop for Dispatch<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.finish(false, clock::now());
        }
    }
}
