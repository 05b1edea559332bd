//! Peak EWMA: a latency estimate that rises at once and falls slowly.
//!
//! It is for the `ewma` balancer. It is not for success rates: see `policy`. Called by `endpoint`.
//! Source: data-plane reference section 9, "Peak EWMA". It differs there: in the reference a failure is a latency like any
//! other, so an endpoint that fails fast looks best. Here a failure counts as [`FAILURE_NS`], and a request that was
//! given up shows only that the endpoint was not faster. Neither ever makes an endpoint look better.

use crate::cell::SharedFloat;
use std::sync::atomic::{AtomicU64, Ordering};

/// The load of an endpoint that has requests outstanding but never finished one: (2^63 - 1) >> 16.
/// Source: data-plane reference section 9.
const PENALTY: f64 = 140_737_488_355_327.0;

/// What a failure counts as at least: 5 s. As it goes into a moving average over time, an endpoint that fails one
/// request in a hundred looks 50 ms slower, and one that fails all of them 5 s slower.
const FAILURE_NS: f64 = 5e9;

/// How a lease went, for the estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not known: cancelled, or the outcome says nothing about the endpoint.
    Unknown,
    /// The request succeeded.
    Success,
    /// The request failed, or no connection could be made.
    Failure,
}

/// The estimate of one endpoint. Under races it is approximate, but never NaN and never negative.
#[derive(Debug)]
pub(crate) struct PeakEwma {
    /// Nanoseconds; 0 means nothing was observed.
    cost: SharedFloat,
    /// When `cost` was last updated, nanoseconds.
    stamp: AtomicU64,
}

impl PeakEwma {
    /// An estimate without observations.
    pub(crate) fn new(now: u64) -> Self {
        Self { cost: SharedFloat::new(0.0), stamp: AtomicU64::new(now) }
    }

    /// A lease lasted `round_trip` nanoseconds and ended at `now`.
    pub(crate) fn observe(&self, round_trip: u64, outcome: Outcome, now: u64, decay_ns: u64) {
        let stamp = self.stamp.fetch_max(now, Ordering::Relaxed);
        let keep = keep(stamp, now, decay_ns);
        let sample = round_trip as f64;
        self.cost.update(|cost| {
            let aged = cost * keep;
            match outcome {
                Outcome::Success if sample <= aged => aged + sample * (1.0 - keep),
                Outcome::Success | Outcome::Unknown => sample.max(aged),
                Outcome::Failure if cost == 0.0 => sample.max(FAILURE_NS),
                Outcome::Failure => (aged + aged.max(FAILURE_NS) * (1.0 - keep)).max(sample),
            }
        });
    }

    /// Forgets everything: the endpoint is another one than before.
    pub(crate) fn forget(&self) {
        self.cost.set(0.0);
    }

    /// The load with `pending` leases outstanding. The reference stores the decayed cost on each read. Decaying
    /// without storing gives the same number, because decay over two spans is the product of both.
    pub(crate) fn load(&self, pending: u32, now: u64, decay_ns: u64) -> f64 {
        let cost = self.cost.get() * keep(self.stamp.load(Ordering::Relaxed), now, decay_ns);
        let pending = f64::from(pending);
        if cost == 0.0 && pending != 0.0 { PENALTY + pending } else { cost * (pending + 1.0) }
    }
}

/// The part of an old value that survives from `stamp` to `now`: in `[0, 1]`.
fn keep(stamp: u64, now: u64, decay_ns: u64) -> f64 {
    let elapsed = now.saturating_sub(stamp) as f64;
    (-elapsed / decay_ns.max(1) as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn rises_at_once_and_decays_by_the_formula() {
        let ewma = PeakEwma::new(0);
        ewma.observe(100, Outcome::Success, SECOND, 10 * SECOND);
        assert_eq!(ewma.load(0, SECOND, 10 * SECOND), 100.0);
        let e = (-1.0f64).exp();
        assert!((ewma.load(0, 11 * SECOND, 10 * SECOND) - 100.0 * e).abs() < 1e-9);
        ewma.observe(10, Outcome::Success, 11 * SECOND, 10 * SECOND);
        let expected = 100.0 * e + 10.0 * (1.0 - e);
        assert!((ewma.load(2, 11 * SECOND, 10 * SECOND) - expected * 3.0).abs() < 1e-9);
    }

    #[test]
    fn an_unmeasured_endpoint_with_requests_is_penalised() {
        let ewma = PeakEwma::new(0);
        assert_eq!(ewma.load(0, 5, SECOND), 0.0);
        assert_eq!(ewma.load(2, 5, SECOND), 140_737_488_355_329.0);
    }

    #[test]
    fn a_failure_never_lowers_the_cost() {
        let (decay, cost) = (10 * SECOND, |ewma: &PeakEwma, now| ewma.load(0, now, 10 * SECOND));
        let first = PeakEwma::new(0);
        first.observe(1, Outcome::Failure, 5, decay);
        assert_eq!(cost(&first, 5), FAILURE_NS, "nothing is known yet");
        let ewma = PeakEwma::new(0);
        ewma.observe(20_000_000, Outcome::Success, SECOND, decay);
        let mut last = cost(&ewma, SECOND);
        for step in 1..=1000 {
            let now = SECOND + step * 1_000_000;
            ewma.observe(1_000_000, Outcome::Failure, now, decay);
            let next = cost(&ewma, now);
            assert!(next > last, "{next} after {last}");
            last = next;
        }
        assert!((0.4e9..0.6e9).contains(&last), "a second of failures: {last}");
        ewma.observe(1, Outcome::Unknown, 2 * SECOND, decay);
        assert_eq!(cost(&ewma, 2 * SECOND), last, "given up after a nanosecond");
        ewma.observe(7 * SECOND, Outcome::Unknown, 2 * SECOND, decay);
        assert_eq!(cost(&ewma, 2 * SECOND), 7e9, "given up late");
        ewma.observe(9 * SECOND, Outcome::Failure, 2 * SECOND, decay);
        assert_eq!(cost(&ewma, 2 * SECOND), 9e9, "failed late");
        ewma.forget();
        assert_eq!(cost(&ewma, 2 * SECOND), 0.0);
    }

    #[test]
    fn odd_times_and_decays_stay_finite() {
        let ewma = PeakEwma::new(SECOND);
        for (round_trip, now, decay) in [(0, 0, 0), (u64::MAX, 0, 0), (1, u64::MAX, 1), (u64::MAX, 5, u64::MAX)] {
            for outcome in [Outcome::Unknown, Outcome::Success, Outcome::Failure] {
                ewma.observe(round_trip, outcome, now, decay);
                let load = ewma.load(u32::MAX, now, decay);
                assert!(load.is_finite() && load >= 0.0, "{load}");
            }
        }
    }
}
