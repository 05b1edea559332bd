//! One upstream address: its load, its health, its weight.
//!
//! It is for everything the workers share about an address. It holds no connections: each worker has its own and asks
//! `is_closed` before reusing one. Called by the router's client and by `replicas`.
//! Source: data-plane reference sections 9 and 10.

use crate::accrual::{Accrual, AccrualCounts};
use crate::cell::SharedFloat;
use crate::ewma::PeakEwma;
use crate::policy::AccrualConfig;
use crate::refusal::Refusal;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// The greatest weight. Larger ones are cut to it, so that sums of weights stay finite.
const MAX_WEIGHT: f64 = 1e9;
/// The weight of an address without weight metadata, also used for one that is not a number.
const DEFAULT_WEIGHT: f64 = 1.0;

/// Whether the balancer should choose an endpoint. `Open` is greater than `Busy`.
/// Source: data-plane reference section 9, "Endpoint status".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Dead, on probation with its probe out, refused, or removed from discovery: chosen only if nothing else is there.
    Busy,
    /// Fit for traffic.
    Open,
}

/// One address of a client, shared by all workers as `Arc<Endpoint>`.
///
/// All times are nanoseconds on the monotonic process clock. A request calls `begin` once, then one of `on_success`,
/// `on_failure`, `connect_failed` and `on_ignored`, then `end` once.
#[derive(Debug)]
pub struct Endpoint {
    /// Signed, so that one `end` too many cannot make it huge.
    outstanding: AtomicI32,
    closed: AtomicBool,
    accrual: Accrual,
    refusal: Refusal,
    ewma: PeakEwma,
    weight: SharedFloat,
    uid: u64,
    addr: SocketAddr,
}

impl Endpoint {
    /// An alive endpoint without load. `uid` is the caller's: any number that tells endpoints apart. See `set_weight`
    /// for unusual weights.
    pub fn new(uid: u64, addr: SocketAddr, weight: f64, accrual: AccrualConfig, now: u64) -> Self {
        Self {
            outstanding: AtomicI32::new(0),
            closed: AtomicBool::new(false),
            accrual: Accrual::new(&accrual, now),
            refusal: Refusal::new(),
            ewma: PeakEwma::new(now),
            weight: SharedFloat::new(safe_weight(weight)),
            uid,
            addr,
        }
    }

    /// The caller's number for this endpoint.
    pub fn uid(&self) -> u64 {
        self.uid
    }

    /// Where to connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The weight: finite and at least 0, without unit. Source: data-plane reference section 9, "Weights".
    pub fn weight(&self) -> f64 {
        self.weight.get()
    }

    /// Changes the weight. It counts from the next `Replicas::new`. A weight of 0 or less is 0: never chosen unless all
    /// are 0. NaN and infinity are 1, the weight of an address without metadata. The greatest weight is 1e9.
    pub fn set_weight(&self, weight: f64) {
        self.weight.set(safe_weight(weight));
    }

    /// Leases outstanding: requests between `begin` and `end`, of all workers.
    /// Source: data-plane reference section 9, "Load unit".
    pub fn load(&self) -> u32 {
        u32::try_from(self.outstanding.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// The peak-EWMA load at `now`, in nanoseconds times leases: finite and at least 0.
    /// Source: data-plane reference section 9, "Peak EWMA".
    pub fn ewma_load(&self, now: u64, decay_ns: u64) -> f64 {
        self.ewma.load(self.load(), now, decay_ns)
    }

    /// Whether the balancer should choose this endpoint at `now`. When a dead period is over, looking makes the
    /// endpoint ready for its probe, and it is `Open`.
    pub fn status(&self, now: u64) -> Status {
        let open = self.accrual.is_open(now) && !self.refusal.active(now) && !self.is_closed();
        if open { Status::Open } else { Status::Busy }
    }

    /// Whether a dead period is over and the verdict on a probe is still missing.
    pub fn probing(&self, now: u64) -> bool {
        self.accrual.is_probing(now)
    }

    /// A lease starts, before connecting. The first one after a dead period is the probe.
    pub fn begin(&self, now: u64) {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        self.accrual.on_begin(now);
    }

    /// A lease that started at `began` ends, after the last byte of the response, however it went. `decay_ns` is
    /// `Algorithm::decay_ns`; with 0 the latency is not recorded.
    pub fn end(&self, now: u64, began: u64, decay_ns: u64) {
        if decay_ns != 0 {
            self.ewma.observe(now.saturating_sub(began), now, decay_ns);
        }
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
    }

    /// Verdict: the request succeeded, by the service's classifier. Source: data-plane reference section 10.
    pub fn on_success(&self, now: u64) {
        self.accrual.on_success(now);
    }

    /// Verdict: the request failed, by the service's classifier. `rng` gives 64 uniform bits for the jitter.
    /// Source: data-plane reference section 10.
    pub fn on_failure(&self, now: u64, rng: &mut dyn FnMut() -> u64) {
        self.accrual.on_failure(now, rng);
    }

    /// No verdict: the request was cancelled or its outcome says nothing about the endpoint. A probe that ends so is
    /// sent again. Source: data-plane reference section 10, "ignorable".
    pub fn on_ignored(&self, _now: u64) {
        self.accrual.on_ignored();
    }

    /// Verdict: no connection could be made. Counts as a failure, and makes the endpoint `Busy` at once for
    /// `REFUSAL_FIRST_NS`, growing with equal jitter to `REFUSAL_MAX_NS`. Failures inside a period do not lengthen it.
    pub fn connect_failed(&self, now: u64, rng: &mut dyn FnMut() -> u64) {
        self.refusal.failed(now, rng);
        self.accrual.on_failure(now, rng);
    }

    /// A connection was made: ends the refusal. This is no verdict on the request.
    pub fn connected(&self) {
        self.refusal.clear();
    }

    /// The address left discovery. Requests in flight finish; workers drop idle connections.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether the address left discovery.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// What failure accrual did so far. Source: data-plane reference section 10.
    pub fn accrual_counts(&self) -> AccrualCounts {
        self.accrual.counts()
    }
}

fn safe_weight(weight: f64) -> f64 {
    if weight.is_nan() || weight == f64::INFINITY { DEFAULT_WEIGHT } else { weight.clamp(0.0, MAX_WEIGHT) + 0.0 }
}
