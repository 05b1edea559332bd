//! [`Lease`]: one request's use of an endpoint, from the pick to the last byte of the response.
//!
//! It is for counting load, for telling endpoint and balancer how a request went, and for the claim on a probe. It is not
//! for connections. `Replicas::pick` makes it; the router's attempts hold it.
//! Source: data-plane reference section 9, "Load unit", and section 10.

use crate::aperture::Aperture;
use crate::endpoint::Endpoint;
use crate::ewma::Outcome;
use crate::heap::Heap;
use std::sync::Arc;

/// What must know of leases besides the endpoint.
#[derive(Debug)]
pub(crate) enum Link {
    /// Nothing.
    None,
    /// The order of a heap, and the place of the endpoint in it.
    Heap(Arc<Heap>, usize),
    /// The size of an aperture.
    Aperture(Arc<Aperture>),
}

/// A unit of load. All times are nanoseconds on the monotonic process clock.
///
/// It gets at most one verdict: `succeed`, `fail` or `connect_failed`; further ones are ignored. Without one the request
/// was cancelled, or its outcome says nothing about the endpoint. `end` ends it after the last byte. A lease that is
/// dropped before that is taken for one without a duration, and never holds load or a probe back.
#[derive(Debug)]
pub struct Lease {
    endpoint: Arc<Endpoint>,
    link: Link,
    began: u64,
    /// For the latency; 0 if it is not recorded.
    decay_ns: u64,
    probe: bool,
    outcome: Outcome,
    /// How long the answer took, where what follows it says nothing about the endpoint.
    latency: Option<u64>,
    ended: bool,
}

impl Lease {
    /// Begins a lease. `probe` says that the caller has claimed the probe.
    pub(crate) fn begin(endpoint: &Arc<Endpoint>, link: Link, now: u64, decay_ns: u64, probe: bool) -> Self {
        endpoint.acquire();
        match &link {
            Link::None => {}
            Link::Heap(heap, slot) => heap.changed(*slot, endpoint, now),
            Link::Aperture(aperture) => aperture.changed(1, now),
        }
        let endpoint = Arc::clone(endpoint);
        Self { endpoint, link, began: now, decay_ns, probe, outcome: Outcome::Unknown, latency: None, ended: false }
    }

    /// See `Endpoint::lease`.
    pub(crate) fn unbalanced(endpoint: &Arc<Endpoint>, now: u64) -> Self {
        Self::begin(endpoint, Link::None, now, 0, endpoint.claim_probe(now))
    }

    /// The endpoint to use.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// When it was picked, nanoseconds.
    pub fn began(&self) -> u64 {
        self.began
    }

    /// Whether it is the one request that decides if a dead endpoint comes back.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// Verdict: the request succeeded, by the service's classifier. Source: data-plane reference section 10.
    pub fn succeed(&mut self, now: u64) {
        if self.judge(Outcome::Success) {
            self.endpoint.succeeded(self.probe, now);
        }
    }

    /// Verdict: the request failed, by the service's classifier. `rng` gives 64 uniform bits for the jitter.
    /// Source: data-plane reference section 10.
    pub fn fail(&mut self, now: u64, rng: &mut dyn FnMut() -> u64) {
        if self.judge(Outcome::Failure) {
            self.endpoint.failed(self.probe, now, rng);
        }
    }

    /// Verdict: no connection could be made. Counts as a failure, and makes the endpoint `Busy` at once for
    /// `REFUSAL_FIRST_NS`, growing with equal jitter to `REFUSAL_MAX_NS`. Failures inside a period do not lengthen it.
    pub fn connect_failed(&mut self, now: u64, rng: &mut dyn FnMut() -> u64) {
        if self.judge(Outcome::Failure) {
            self.endpoint.refused(now, rng);
            self.endpoint.failed(self.probe, now, rng);
        }
    }

    /// Notes that the answer was there at `at`: a tunnel that lasts for hours is not a slow endpoint.
    pub fn answered(&mut self, at: u64) {
        self.latency = Some(at.saturating_sub(self.began));
    }

    /// The end, after the last byte of the response, however it went. A second call does nothing.
    pub fn end(&mut self, now: u64) {
        let decay_ns = self.decay_ns;
        self.settle(now, decay_ns);
    }

    /// Whether this is the first verdict.
    fn judge(&mut self, outcome: Outcome) -> bool {
        let first = self.outcome == Outcome::Unknown;
        if first {
            self.outcome = outcome;
        }
        first
    }

    fn settle(&mut self, now: u64, decay_ns: u64) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if self.probe && self.outcome == Outcome::Unknown {
            self.endpoint.probe_ignored();
        }
        let latency = self.latency.unwrap_or(now.saturating_sub(self.began));
        self.endpoint.release(latency, self.outcome, now, decay_ns);
        match &self.link {
            Link::None => {}
            Link::Heap(heap, slot) => heap.changed(*slot, &self.endpoint, now),
            Link::Aperture(aperture) => aperture.changed(-1, now),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.settle(self.began, 0);
    }
}
