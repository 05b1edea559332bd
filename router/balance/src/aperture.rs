//! The size of the aperture of one weight class.
//!
//! It is for the `aperture` balancer: how many endpoints of the class get traffic. It is not the choice among them: see
//! `draw`. It outlives snapshots, so an update of discovery does not close an aperture that load has opened. Called by
//! `lease` when a lease starts and ends. Source: data-plane reference section 9, row `aperture`.

use crate::balancer::Tally;
use crate::cell::SharedFloat;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// The options of `Algorithm::Aperture` that concern the size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Band {
    pub(crate) window_ns: u64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) min: u32,
}

/// See the module. Relaxed: under races the size is late by a moment, but never out of its bounds.
#[derive(Debug)]
pub(crate) struct Aperture {
    band: Band,
    /// Leases outstanding in the class.
    total: AtomicI64,
    /// The moving average of `total`; NaN before the first lease.
    average: SharedFloat,
    /// When `average` was last updated, nanoseconds.
    stamp: AtomicU64,
    size: AtomicU32,
    /// Endpoints in the class.
    limit: AtomicU32,
    tally: Arc<Tally>,
}

impl Aperture {
    /// An aperture at its smallest.
    pub(crate) fn new(band: Band, tally: Arc<Tally>) -> Self {
        let min = band.min.max(1);
        Self {
            band: Band { min, ..band },
            total: AtomicI64::new(0),
            average: SharedFloat::new(f64::NAN),
            stamp: AtomicU64::new(0),
            size: AtomicU32::new(min),
            limit: AtomicU32::new(min),
            tally,
        }
    }

    /// The class has `members` endpoints now.
    pub(crate) fn resize(&self, members: usize) {
        let limit = u32::try_from(members).unwrap_or(u32::MAX).max(1);
        self.limit.store(limit, Ordering::Relaxed);
        let least = self.band.min.min(limit);
        self.size.fetch_max(least, Ordering::Relaxed);
        self.size.fetch_min(limit, Ordering::Relaxed);
    }

    /// How many endpoints get traffic.
    pub(crate) fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed) as usize
    }

    /// The moving average of leases outstanding.
    pub(crate) fn offered_load(&self) -> f64 {
        let average = self.average.get();
        if average.is_nan() { 0.0 } else { average }
    }

    /// A lease started (1) or ended (-1).
    pub(crate) fn changed(&self, by: i64, now: u64) {
        let total = (self.total.fetch_add(by, Ordering::Relaxed) + by) as f64;
        let elapsed = now.saturating_sub(self.stamp.fetch_max(now, Ordering::Relaxed)) as f64;
        let keep = (-elapsed / self.band.window_ns.max(1) as f64).exp();
        self.average.update(|old| if old.is_nan() { total } else { old * keep + total * (1.0 - keep) });
        let size = self.size.load(Ordering::Relaxed);
        let load = self.average.get() / f64::from(size.max(1));
        let limit = self.limit.load(Ordering::Relaxed);
        if load >= self.band.high && size < limit {
            if self.swap(size, size + 1) {
                self.tally.widened.fetch_add(1, Ordering::Relaxed);
            }
        } else if load <= self.band.low && size > self.band.min.min(limit) && self.swap(size, size - 1) {
            self.tally.narrowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One step per change of load, whoever makes it.
    fn swap(&self, from: u32, to: u32) -> bool {
        self.size.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn aperture(members: usize) -> Aperture {
        let band = Band { window_ns: 5 * SECOND, low: 0.5, high: 2.0, min: 2 };
        let aperture = Aperture::new(band, Arc::default());
        aperture.resize(members);
        aperture
    }

    #[test]
    fn widens_and_narrows_by_the_average() {
        let aperture = aperture(10);
        // The average follows slowly: 40 leases at once move it only with time.
        (0..40).for_each(|_| aperture.changed(1, SECOND));
        assert_eq!((aperture.size(), aperture.offered_load()), (2, 1.0));
        (2..60).for_each(|second| {
            aperture.changed(1, second * SECOND);
            aperture.changed(-1, second * SECOND);
        });
        assert_eq!(aperture.size(), 10, "never more than there are");
        (0..40).for_each(|_| aperture.changed(-1, 60 * SECOND));
        (61..120).for_each(|second| {
            aperture.changed(1, second * SECOND);
            aperture.changed(-1, second * SECOND);
        });
        assert_eq!(aperture.size(), 2, "never fewer than asked for");
        assert!(aperture.tally.widened.load(Ordering::Relaxed) >= 8);
        assert!(aperture.tally.narrowed.load(Ordering::Relaxed) >= 8);
    }

    #[test]
    fn follows_the_number_of_endpoints() {
        let aperture = aperture(1);
        assert_eq!(aperture.size(), 1, "fewer than the minimum are there");
        aperture.resize(5);
        assert_eq!(aperture.size(), 2);
        aperture.resize(0);
        assert_eq!(aperture.size(), 1);
    }
}
