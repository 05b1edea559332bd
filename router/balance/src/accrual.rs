//! The failure accrual state machine of one endpoint.
//!
//! It is for keeping an endpoint out after failures and for letting one probe through when its time is over. It is not
//! the rule that says when: see `policy`. It never refuses traffic; the balancer reads it. Called by `endpoint`.
//! Source: data-plane reference section 10.
//!
//! ```text
//! Alive ──policy says so──▶ Dead(until) ──time passes──▶ ProbeOpen ──first request──▶ ProbeClosed
//!   ▲                          ▲                            ▲                             │
//!   │                          └── failure, policy agrees ──┼─────────────────────────────┤
//!   │                              no verdict, or declines ─┴─────────────────────────────┤
//!   └── success ──────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! There is no timer. The move from Dead to `ProbeOpen` is made by whoever looks first after the dead period.

use crate::backoff::Schedule;
use crate::policy::{AccrualConfig, Policy};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What failure accrual did to an endpoint since it was made. Source: data-plane reference section 10.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccrualCounts {
    /// Times it went from alive to dead. Failed probes do not count.
    pub removals: u64,
    /// Times a probe succeeded.
    pub revivals: u64,
    /// Probes sent.
    pub probes: u64,
    /// The sum of all dead periods, those after failed probes included, in milliseconds.
    pub removed_for_ms: u64,
}

/// One word: the first three values are phases, all others are the end of a dead period in nanoseconds.
const ALIVE: u64 = 0;
const PROBE_OPEN: u64 = 1;
const PROBE_CLOSED: u64 = 2;
const FIRST_DEAD: u64 = 3;

/// The accrual state of one endpoint. The phase changes by compare-and-swap. The lock guards the back-off and orders
/// deaths and revivals against each other.
#[derive(Debug)]
pub(crate) struct Accrual {
    phase: AtomicU64,
    policy: Policy,
    schedule: Mutex<Schedule>,
    removals: AtomicU64,
    revivals: AtomicU64,
    probes: AtomicU64,
    removed_for_ms: AtomicU64,
}

impl Accrual {
    /// An alive endpoint.
    pub(crate) fn new(config: &AccrualConfig, now: u64) -> Self {
        Self {
            phase: AtomicU64::new(ALIVE),
            policy: Policy::new(config, now),
            schedule: Mutex::new(Schedule::new(config.backoff())),
            removals: AtomicU64::new(0),
            revivals: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            removed_for_ms: AtomicU64::new(0),
        }
    }

    /// Whether the balancer may choose the endpoint: alive, or waiting for its probe.
    pub(crate) fn is_open(&self, now: u64) -> bool {
        matches!(self.phase_at(now), ALIVE | PROBE_OPEN)
    }

    /// Whether the dead period is over and no verdict on a probe is in.
    pub(crate) fn is_probing(&self, now: u64) -> bool {
        matches!(self.phase_at(now), PROBE_OPEN | PROBE_CLOSED)
    }

    /// A request begins. The first one after a dead period is the probe.
    pub(crate) fn on_begin(&self, now: u64) {
        if self.phase_at(now) == PROBE_OPEN && self.shift(PROBE_OPEN, PROBE_CLOSED) {
            self.probes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request succeeded. For an alive endpoint without failures: two relaxed loads.
    pub(crate) fn on_success(&self, now: u64) {
        if self.phase.load(Ordering::Relaxed) == PROBE_CLOSED {
            self.revive(now);
        }
        self.policy.record_success(now);
    }

    /// A request failed. Counts only while alive or while a probe is out.
    pub(crate) fn on_failure(&self, now: u64, rng: &mut dyn FnMut() -> u64) {
        let phase = self.phase.load(Ordering::Relaxed);
        if !matches!(phase, ALIVE | PROBE_CLOSED) {
            return;
        }
        self.policy.record_failure(now);
        if phase == PROBE_CLOSED || self.policy.wants_death(now) {
            self.judge(now, rng);
        }
    }

    /// A request ended without a verdict. If it was the probe, the next request is one.
    pub(crate) fn on_ignored(&self) {
        if self.phase.load(Ordering::Relaxed) == PROBE_CLOSED {
            self.shift(PROBE_CLOSED, PROBE_OPEN);
        }
    }

    /// The counts so far.
    pub(crate) fn counts(&self) -> AccrualCounts {
        AccrualCounts {
            removals: self.removals.load(Ordering::Relaxed),
            revivals: self.revivals.load(Ordering::Relaxed),
            probes: self.probes.load(Ordering::Relaxed),
            removed_for_ms: self.removed_for_ms.load(Ordering::Relaxed),
        }
    }

    /// The phase at `now`: a dead period that is over becomes `PROBE_OPEN` first.
    fn phase_at(&self, now: u64) -> u64 {
        let phase = self.phase.load(Ordering::Relaxed);
        if phase < FIRST_DEAD || phase > now {
            return phase;
        }
        self.shift(phase, PROBE_OPEN);
        self.phase.load(Ordering::Relaxed)
    }

    /// Moves the phase if it is still `from`. Says whether it did.
    fn shift(&self, from: u64, to: u64) -> bool {
        self.phase.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn revive(&self, now: u64) {
        let mut schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shift(PROBE_CLOSED, ALIVE) {
            self.policy.revived(now);
            schedule.reset();
            self.revivals.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Dead with the next back-off if the policy says so; else a failed probe is sent again. Asks under the lock: a
    /// revival may have come between.
    #[cold]
    fn judge(&self, now: u64, rng: &mut dyn FnMut() -> u64) {
        let mut schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        let phase = self.phase.load(Ordering::Relaxed);
        if !matches!(phase, ALIVE | PROBE_CLOSED) {
            return;
        }
        if !self.policy.wants_death(now) {
            if phase == PROBE_CLOSED {
                self.shift(PROBE_CLOSED, PROBE_OPEN);
            }
            return;
        }
        let dead_ns = schedule.advance(rng);
        if self.shift(phase, now.saturating_add(dead_ns).max(FIRST_DEAD)) {
            self.removals.fetch_add(u64::from(phase == ALIVE), Ordering::Relaxed);
            self.removed_for_ms.fetch_add(dead_ns / 1_000_000, Ordering::Relaxed);
        }
    }
}
