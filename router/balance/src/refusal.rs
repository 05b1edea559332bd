//! The short time an endpoint is avoided after a connection to it failed.
//!
//! It is for skipping a dead address at once, before failure accrual has seen enough failures. It is not fail-fast: it
//! never refuses traffic, it only makes the balancer look elsewhere. Called by `endpoint`.
//! Source: an addition to data-plane reference section 10; the schedule is the equal jitter described there.

use crate::backoff::{Backoff, Schedule};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How long an endpoint is avoided after its first failed connection: 250 ms, in nanoseconds.
pub const REFUSAL_FIRST_NS: u64 = 250_000_000;
/// The longest time an endpoint is avoided after a failed connection: 8 s, in nanoseconds.
pub const REFUSAL_MAX_NS: u64 = 8_000_000_000;

/// The refusal state of one endpoint.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Avoided before this time, nanoseconds; 0 when the last connection succeeded.
    until: AtomicU64,
    /// Boxed, because it is only used when a connection fails.
    schedule: Box<Mutex<Schedule>>,
}

impl Refusal {
    /// No refusal.
    pub(crate) fn new() -> Self {
        let backoff = Backoff::EqualJittered { start_ns: REFUSAL_FIRST_NS, max_ns: REFUSAL_MAX_NS };
        Self { until: AtomicU64::new(0), schedule: Box::new(Mutex::new(Schedule::new(backoff))) }
    }

    /// Whether the endpoint is avoided at `now`.
    pub(crate) fn active(&self, now: u64) -> bool {
        self.until.load(Ordering::Relaxed) > now
    }

    /// A connection failed. Failures inside a period do not lengthen it: they are the same event seen by others.
    pub(crate) fn failed(&self, now: u64, rng: &mut dyn FnMut() -> u64) {
        let mut schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.active(now) {
            self.until.store(now.saturating_add(schedule.advance(rng)), Ordering::Relaxed);
        }
    }

    /// A connection succeeded.
    pub(crate) fn clear(&self) {
        if self.until.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        schedule.reset();
        self.until.store(0, Ordering::Relaxed);
    }
}
