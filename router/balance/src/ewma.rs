//! Peak EWMA: a latency estimate that rises at once and falls slowly.
//!
//! It is for the `ewma` balancer. It is not for success rates: see `policy`. Called by `endpoint`.
//! Source: data-plane reference section 9, "Peak EWMA".

use crate::cell::SharedFloat;
use std::sync::atomic::{AtomicU64, Ordering};

/// The load of an endpoint that has requests outstanding but never finished one: (2^63 - 1) >> 16.
/// Source: data-plane reference section 9.
const PENALTY: f64 = 140_737_488_355_327.0;

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
    pub(crate) fn observe(&self, round_trip: u64, now: u64, decay_ns: u64) {
        let stamp = self.stamp.fetch_max(now, Ordering::Relaxed);
        let keep = keep(stamp, now, decay_ns);
        let sample = round_trip as f64;
        self.cost.update(|cost| if sample > cost { sample } else { cost * keep + sample * (1.0 - keep) });
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
        ewma.observe(100, SECOND, 10 * SECOND);
        assert_eq!(ewma.load(0, SECOND, 10 * SECOND), 100.0);
        let e = (-1.0f64).exp();
        assert!((ewma.load(0, 11 * SECOND, 10 * SECOND) - 100.0 * e).abs() < 1e-9);
        ewma.observe(10, 11 * SECOND, 10 * SECOND);
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
    fn odd_times_and_decays_stay_finite() {
        let ewma = PeakEwma::new(SECOND);
        for (round_trip, now, decay) in [(0, 0, 0), (u64::MAX, 0, 0), (1, u64::MAX, 1), (u64::MAX, 5, u64::MAX)] {
            ewma.observe(round_trip, now, decay);
            let load = ewma.load(u32::MAX, now, decay);
            assert!(load.is_finite() && load >= 0.0, "{load}");
        }
    }
}
