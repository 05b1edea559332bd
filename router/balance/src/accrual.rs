//! The failure accrual state machine of one endpoint.
//!
//! It is for keeping an endpoint out after failures and for letting one probe through when its time is over. It is not
//! the rule that says when: see `policy`. It never refuses traffic; the balancer reads it. Called by `endpoint`.
//! Source: data-plane reference section 10.
//!
//! ```text
//! Alive ──policy says so──▶ Dead(until) ──time passes──▶ ProbeOpen ──claimed──▶ ProbeClosed
//!   ▲                          ▲                            ▲                       │
//!   │                          └── failure, policy agrees ──┼───────────────────────┤
//!   │                              no verdict, or declines ─┴───────────────────────┤
//!   └── success ────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! There is no timer. The move from Dead to `ProbeOpen` is made by whoever looks first after the dead period.
//!
//! The claim is one compare-and-swap, so one request has it, whatever threads do at the same time; to all others the
//! endpoint is out. Only the verdict on that request leaves `ProbeClosed`. In the reference several requests can slip
//! through, and the first to finish decides.

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

/// How an endpoint stands by its failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Fit for traffic.
    Alive,
    /// Fit for one request, the probe.
    ProbeDue,
    /// Dead, or its probe is out.
    Out,
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
    rare: Box<Rare>,
}

/// What only changes of health need. Apart, so that what every pick reads of an endpoint fits a few lines of cache.
#[derive(Debug)]
struct Rare {
    schedule: Mutex<Schedule>,
    removals: AtomicU64,
    revivals: AtomicU64,
    probes: AtomicU64,
    removed_for_ms: AtomicU64,
}

impl Accrual {
    /// An alive endpoint.
    pub(crate) fn new(config: &AccrualConfig, now: u64) -> Self {
        let rare = Box::new(Rare {
            schedule: Mutex::new(Schedule::new(config.backoff())),
            removals: AtomicU64::new(0),
            revivals: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            removed_for_ms: AtomicU64::new(0),
        });
        Self { phase: AtomicU64::new(ALIVE), policy: Policy::new(config, now), rare }
    }

    /// How the endpoint stands at `now`.
    pub(crate) fn health(&self, now: u64) -> Health {
        match self.phase_at(now) {
            ALIVE => Health::Alive,
            PROBE_OPEN => Health::ProbeDue,
            _ => Health::Out,
        }
    }

    /// Whether the dead period is over and no verdict on a probe is in.
    pub(crate) fn is_probing(&self, now: u64) -> bool {
        matches!(self.phase_at(now), PROBE_OPEN | PROBE_CLOSED)
    }

    /// Whether the request that asks is the probe. True for one request per dead period or lost verdict.
    pub(crate) fn claim_probe(&self, now: u64) -> bool {
        let claimed = self.phase_at(now) == PROBE_OPEN && self.shift(PROBE_OPEN, PROBE_CLOSED);
        if claimed {
            self.rare.probes.fetch_add(1, Ordering::Relaxed);
        }
        claimed
    }

    /// A request succeeded. Says whether that brought the endpoint back. For an alive endpoint without failures: one
    /// relaxed load.
    pub(crate) fn on_success(&self, probe: bool, now: u64) -> bool {
        let revived = probe && self.revive(now);
        self.policy.record_success(now);
        revived
    }

    /// A request failed. Counts only while alive, or as the probe.
    pub(crate) fn on_failure(&self, probe: bool, now: u64, rng: &mut dyn FnMut() -> u64) {
        if !probe && self.phase.load(Ordering::Relaxed) != ALIVE {
            return;
        }
        self.policy.record_failure(now);
        if probe || self.policy.wants_death(now) {
            self.judge(if probe { PROBE_CLOSED } else { ALIVE }, now, rng);
        }
    }

    /// The probe ended without a verdict: the next request is one.
    pub(crate) fn on_probe_ignored(&self) {
        self.shift(PROBE_CLOSED, PROBE_OPEN);
    }

    /// The counts so far.
    pub(crate) fn counts(&self) -> AccrualCounts {
        AccrualCounts {
            removals: self.rare.removals.load(Ordering::Relaxed),
            revivals: self.rare.revivals.load(Ordering::Relaxed),
            probes: self.rare.probes.load(Ordering::Relaxed),
            removed_for_ms: self.rare.removed_for_ms.load(Ordering::Relaxed),
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
    fn revive(&self, now: u64) -> bool {
        let mut schedule = self.rare.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        let revived = self.shift(PROBE_CLOSED, ALIVE);
        if revived {
            self.policy.revived(now);
            schedule.reset();
            self.rare.revivals.fetch_add(1, Ordering::Relaxed);
        }
        revived
    }

    /// Dead with the next back-off if the policy says so; else a failed probe is sent again. Asks under the lock: a
    /// revival may have come between.
    #[cold]
    fn judge(&self, from: u64, now: u64, rng: &mut dyn FnMut() -> u64) {
        let mut schedule = self.rare.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        if self.phase.load(Ordering::Relaxed) != from {
            return;
        }
        if !self.policy.wants_death(now) {
            if from == PROBE_CLOSED {
                self.shift(PROBE_CLOSED, PROBE_OPEN);
            }
            return;
        }
        let dead_ns = schedule.advance(rng);
        if self.shift(from, now.saturating_add(dead_ns).max(FIRST_DEAD)) {
            self.rare.removals.fetch_add(u64::from(from == ALIVE), Ordering::Relaxed);
            self.rare.removed_for_ms.fetch_add(dead_ns / 1_000_000, Ordering::Relaxed);
        }
    }
}
