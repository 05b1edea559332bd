//! Failure accrual policies: when is an endpoint bad enough to be taken out?
//!
//! It is for counting outcomes and giving that one answer. It is not the state machine: see `accrual`, which calls it.
//! Source: data-plane reference section 10, the table of kinds.

use crate::backoff::Backoff;
use crate::cell::SharedFloat;
use crate::window::SlidingSum;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests the windowed policy wants to see in its window. Source: data-plane reference section 10.
const MIN_WINDOW_REQUESTS: i64 = 5;

/// Which failures take an endpoint out, and for how long. Source: data-plane reference section 10.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AccrualConfig {
    /// Never (`none`).
    None,
    /// After this many failures without a success between them (`io.l5d.consecutiveFailures`).
    Consecutive {
        /// Failures in a row; 0 counts as 1.
        failures: u32,
        /// The lengths of the dead periods.
        backoff: Backoff,
    },
    /// When the success rate over recent requests is too low (`io.l5d.successRate`).
    SuccessRate {
        /// The wanted success rate, 0 to 1. NaN never takes an endpoint out.
        rate: f64,
        /// How many requests the average covers, and how many must be seen first.
        requests: u32,
        /// The lengths of the dead periods.
        backoff: Backoff,
    },
    /// When the success rate over recent time is too low (`io.l5d.successRateWindowed`). At least 5 requests in the
    /// last window are needed.
    SuccessRateWindowed {
        /// The wanted success rate, 0 to 1. NaN never takes an endpoint out.
        rate: f64,
        /// How much time the average covers, and how much must pass first, in nanoseconds.
        window_ns: u64,
        /// The lengths of the dead periods.
        backoff: Backoff,
    },
}

impl Default for AccrualConfig {
    /// 5 consecutive failures, equal jitter from 5 s to 300 s. Source: data-plane reference section 10.
    fn default() -> Self {
        Self::Consecutive { failures: 5, backoff: Backoff::default() }
    }
}

impl AccrualConfig {
    /// The lengths of the dead periods. For `None` the default, which is never used.
    pub(crate) fn backoff(&self) -> Backoff {
        match *self {
            Self::None => Backoff::default(),
            Self::Consecutive { backoff, .. }
            | Self::SuccessRate { backoff, .. }
            | Self::SuccessRateWindowed { backoff, .. } => backoff,
        }
    }
}

/// The counts behind an `AccrualConfig`.
#[derive(Debug)]
pub(crate) enum Policy {
    None,
    Consecutive(Consecutive),
    SuccessRate(SuccessRate),
    /// Boxed, because it is large and an endpoint should fit a few lines of cache.
    Windowed(Box<Windowed>),
}

impl Policy {
    /// A policy without outcomes.
    pub(crate) fn new(config: &AccrualConfig, now: u64) -> Self {
        match *config {
            AccrualConfig::None => Self::None,
            AccrualConfig::Consecutive { failures, .. } => Self::Consecutive(Consecutive::new(failures)),
            AccrualConfig::SuccessRate { rate, requests, .. } => Self::SuccessRate(SuccessRate::new(rate, requests)),
            AccrualConfig::SuccessRateWindowed { rate, window_ns, .. } => {
                Self::Windowed(Box::new(Windowed::new(rate, window_ns, now)))
            }
        }
    }

    /// A request succeeded.
    pub(crate) fn record_success(&self, now: u64) {
        match self {
            Self::None => {}
            Self::Consecutive(policy) => policy.record_success(),
            Self::SuccessRate(policy) => policy.record(1.0),
            Self::Windowed(policy) => policy.record(1.0, now),
        }
    }

    /// A request failed.
    pub(crate) fn record_failure(&self, now: u64) {
        match self {
            Self::None => {}
            Self::Consecutive(policy) => policy.record_failure(),
            Self::SuccessRate(policy) => policy.record(0.0),
            Self::Windowed(policy) => policy.record(0.0, now),
        }
    }

    /// Whether an endpoint with these outcomes should be taken out. Asked only after a failure.
    pub(crate) fn wants_death(&self, now: u64) -> bool {
        match self {
            Self::None => false,
            Self::Consecutive(policy) => policy.wants_death(),
            Self::SuccessRate(policy) => policy.wants_death(),
            Self::Windowed(policy) => policy.wants_death(now),
        }
    }

    /// The endpoint is back: forget the past.
    pub(crate) fn revived(&self, now: u64) {
        match self {
            Self::None => {}
            Self::Consecutive(policy) => policy.record_success(),
            Self::SuccessRate(policy) => policy.revived(),
            Self::Windowed(policy) => policy.revived(now),
        }
    }
}

/// Failures without a success between them. Death does not reset the count.
#[derive(Debug)]
pub(crate) struct Consecutive {
    limit: u64,
    failures: AtomicU64,
}

impl Consecutive {
    fn new(limit: u32) -> Self {
        Self { limit: u64::from(limit), failures: AtomicU64::new(0) }
    }

    fn record_success(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    fn record_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    fn wants_death(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= self.limit.max(1)
    }
}

/// The average of outcomes over requests.
#[derive(Debug)]
pub(crate) struct SuccessRate {
    target: f64,
    requests: u64,
    /// What of the average survives one request.
    keep: f64,
    seen: AtomicU64,
    average: Average,
}

impl SuccessRate {
    fn new(target: f64, requests: u32) -> Self {
        let keep = (-1.0 / f64::from(requests)).exp();
        Self { target, requests: u64::from(requests), keep, seen: AtomicU64::new(0), average: Average::new() }
    }

    fn record(&self, sample: f64) {
        self.average.blend(sample, self.keep);
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    fn wants_death(&self) -> bool {
        self.seen.load(Ordering::Relaxed) >= self.requests && self.average.is_below(self.target)
    }

    fn revived(&self) {
        self.seen.store(0, Ordering::Relaxed);
        self.average.reset();
    }
}

/// The average of outcomes over time. The reference counts in milliseconds and so ignores all but the first outcome of
/// a millisecond. Nanoseconds give the same average without dropping outcomes.
#[derive(Debug)]
pub(crate) struct Windowed {
    target: f64,
    window_ns: u64,
    /// Creation or last revival, nanoseconds.
    started: AtomicU64,
    /// The last outcome, nanoseconds.
    stamp: AtomicU64,
    average: Average,
    recent: SlidingSum<5>,
}

impl Windowed {
    fn new(target: f64, window_ns: u64, now: u64) -> Self {
        Self {
            target,
            window_ns,
            started: AtomicU64::new(now),
            stamp: AtomicU64::new(now),
            average: Average::new(),
            recent: SlidingSum::new(window_ns, now),
        }
    }

    fn record(&self, sample: f64, now: u64) {
        let elapsed = now.saturating_sub(self.stamp.fetch_max(now, Ordering::Relaxed));
        let keep = (-(elapsed as f64) / self.window_ns.max(1) as f64).exp();
        self.average.blend(sample, keep);
        self.recent.add(1, now);
    }

    fn wants_death(&self, now: u64) -> bool {
        now.saturating_sub(self.started.load(Ordering::Relaxed)) >= self.window_ns
            && self.average.is_below(self.target)
            && self.recent.sum(now) >= MIN_WINDOW_REQUESTS
    }

    fn revived(&self, now: u64) {
        self.started.store(now, Ordering::Relaxed);
        self.average.reset();
    }
}

/// An exponential average of 1 (success) and 0 (failure). The first sample sets it.
#[derive(Debug)]
struct Average(SharedFloat);

impl Average {
    fn new() -> Self {
        Self(SharedFloat::new(f64::NAN))
    }

    fn reset(&self) {
        self.0.set(f64::NAN);
    }

    fn blend(&self, sample: f64, keep: f64) {
        self.0.update(|old| if old.is_nan() { sample } else { sample * (1.0 - keep) + old * keep });
    }

    /// False while there is no sample.
    fn is_below(&self, target: f64) -> bool {
        self.0.get() < target
    }
}
