//! One upstream address: its load, its health, its weight.
//!
//! It is for everything the workers share about an address. It holds no connections: each worker has its own and asks
//! `is_closed` before reusing one. Called by the router's client, by `lease` and by the balancers.
//! Source: data-plane reference sections 9 and 10.

use crate::accrual::{Accrual, AccrualCounts, Health};
use crate::cell::SharedFloat;
use crate::ewma::{Outcome, PeakEwma};
use crate::lease::Lease;
use crate::policy::AccrualConfig;
use crate::refusal::Refusal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

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

/// The same in detail: what comes later is better. When nothing is open, a request goes where a connection can be made
/// rather than where the last one was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// The address left discovery.
    Gone,
    /// The last connection to it failed a moment ago.
    Refused,
    /// Dead, or on probation with its probe out.
    Out,
    /// Fit for traffic.
    Open,
    /// Fit for one request. It goes first: one request says more than any load.
    ProbeDue,
}

impl Standing {
    pub(crate) fn is_open(self) -> bool {
        self >= Self::Open
    }
}

/// One address of a client, shared by all workers as `Arc<Endpoint>`.
///
/// All times are nanoseconds on the monotonic process clock. What requests do to it they do through a [`Lease`].
#[derive(Debug)]
pub struct Endpoint {
    /// Signed, so that one `end` too many cannot make it huge.
    outstanding: AtomicI32,
    closed: AtomicBool,
    accrual: Accrual,
    refusal: Refusal,
    ewma: PeakEwma,
    /// Whether it was part of a snapshot yet.
    joined: AtomicBool,
    /// The span of its slow start, nanoseconds; the end is 0 if it has none.
    warm_from: AtomicU64,
    warm_until: AtomicU64,
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
            joined: AtomicBool::new(false),
            warm_from: AtomicU64::new(0),
            warm_until: AtomicU64::new(0),
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

    /// Leases outstanding, of all workers.
    /// Source: data-plane reference section 9, "Load unit".
    pub fn load(&self) -> u32 {
        u32::try_from(self.outstanding.load(Ordering::SeqCst)).unwrap_or(0)
    }

    /// The peak-EWMA load at `now`, in nanoseconds times leases: finite and at least 0.
    /// Source: data-plane reference section 9, "Peak EWMA".
    pub fn ewma_load(&self, now: u64, decay_ns: u64) -> f64 {
        self.ewma.load(self.load(), now, decay_ns)
    }

    /// Whether the balancer should choose this endpoint at `now`. When a dead period is over, looking makes the
    /// endpoint ready for its probe, and it is `Open` until one request has claimed that.
    pub fn status(&self, now: u64) -> Status {
        if self.standing(now).is_open() { Status::Open } else { Status::Busy }
    }

    pub(crate) fn standing(&self, now: u64) -> Standing {
        if self.is_closed() {
            return Standing::Gone;
        }
        if self.refusal.active(now) {
            return Standing::Refused;
        }
        match self.accrual.health(now) {
            Health::Alive => Standing::Open,
            Health::ProbeDue => Standing::ProbeDue,
            Health::Out => Standing::Out,
        }
    }

    /// Whether the last connection to it failed, and it is avoided at `now` for that.
    pub fn is_refused(&self, now: u64) -> bool {
        self.refusal.active(now)
    }

    /// Whether a dead period is over and the verdict on a probe is still missing.
    pub fn probing(&self, now: u64) -> bool {
        self.accrual.is_probing(now)
    }

    /// A lease on an endpoint that was not chosen by a balancer. It is the probe if one is due.
    pub fn lease(self: &Arc<Self>, now: u64) -> Lease {
        Lease::unbalanced(self, now)
    }

    /// One lease more. Sequentially consistent, as `load` is: see `tree`.
    pub(crate) fn acquire(&self) {
        self.outstanding.fetch_add(1, Ordering::SeqCst);
    }

    /// One lease less, after `round_trip` nanoseconds. With `decay_ns` 0 the latency is not recorded.
    pub(crate) fn release(&self, round_trip: u64, outcome: Outcome, now: u64, decay_ns: u64) {
        if decay_ns != 0 {
            self.ewma.observe(round_trip, outcome, now, decay_ns);
        }
        self.outstanding.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether the request that asks is the probe.
    pub(crate) fn claim_probe(&self, now: u64) -> bool {
        self.accrual.claim_probe(now)
    }

    /// A request succeeded. What was measured before a dead period is forgotten, so that a service which failed slowly
    /// does not stay out for that.
    pub(crate) fn succeeded(&self, probe: bool, now: u64) {
        if self.accrual.on_success(probe, now) {
            self.ewma.forget();
        }
    }

    /// A request failed.
    pub(crate) fn failed(&self, probe: bool, now: u64, rng: &mut dyn FnMut() -> u64) {
        self.accrual.on_failure(probe, now, rng);
    }

    /// No connection could be made. Says nothing to failure accrual.
    pub(crate) fn refused(&self, now: u64, rng: &mut dyn FnMut() -> u64) {
        self.refusal.failed(now, rng);
    }

    /// The probe ended without a verdict.
    pub(crate) fn probe_ignored(&self) {
        self.accrual.on_probe_ignored();
    }

    /// The endpoint is part of a snapshot from `now` on. The first time, it starts slowly over `slow_start_ns`.
    pub(crate) fn join(&self, now: u64, slow_start_ns: u64) {
        if !self.joined.swap(true, Ordering::Relaxed) && slow_start_ns > 0 {
            self.warm_from.store(now, Ordering::Relaxed);
            self.warm_until.store(now.saturating_add(slow_start_ns), Ordering::Relaxed);
        }
    }

    /// When the slow start is over, nanoseconds; none if that is already so.
    pub(crate) fn warm_until(&self, now: u64) -> Option<u64> {
        let until = self.warm_until.load(Ordering::Relaxed);
        (until > now).then_some(until)
    }

    /// The part of its slow start that is over, 0 to 1.
    pub(crate) fn warmth(&self, now: u64) -> f64 {
        let (from, until) = (self.warm_from.load(Ordering::Relaxed), self.warm_until.load(Ordering::Relaxed));
        (now.saturating_sub(from) as f64 / until.saturating_sub(from).max(1) as f64).min(1.0)
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
