//! A sum over a sliding span of time, kept in slices.
//!
//! It is for retry budgets and for counting recent requests. It is not a histogram. Called by `budget` and `policy`.
//! Source: data-plane reference sections 10 (5 slices) and 11.3 (10 slices).

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// A sum over the current slice and the `N - 1` before it. Adding is a few atomics. The first call after the end of a
/// slice takes a lock to drop what is too old.
#[derive(Debug)]
pub(crate) struct SlidingSum<const N: usize> {
    slice_ns: u64,
    slice_end: AtomicU64,
    current: AtomicUsize,
    slices: [AtomicI64; N],
    /// Always the sum of `slices`, apart from calls in flight.
    sum: AtomicI64,
    rolling: Mutex<()>,
}

impl<const N: usize> SlidingSum<N> {
    /// An empty window of `span_ns` nanoseconds that starts at `now`.
    pub(crate) fn new(span_ns: u64, now: u64) -> Self {
        let slice_ns = (span_ns / N as u64).max(1);
        Self {
            slice_ns,
            slice_end: AtomicU64::new(now.saturating_add(slice_ns)),
            current: AtomicUsize::new(0),
            slices: std::array::from_fn(|_| AtomicI64::new(0)),
            sum: AtomicI64::new(0),
            rolling: Mutex::new(()),
        }
    }

    /// Adds to the current slice.
    pub(crate) fn add(&self, amount: i64, now: u64) {
        self.roll(now);
        self.sum.fetch_add(amount, Ordering::Relaxed);
        self.current_slice().fetch_add(amount, Ordering::Relaxed);
    }

    /// The sum of the window.
    pub(crate) fn sum(&self, now: u64) -> i64 {
        self.roll(now);
        self.sum.load(Ordering::Relaxed)
    }

    /// Subtracts `amount` if the sum is then at least `floor`. Says whether it did. Two callers never take the same
    /// tokens.
    pub(crate) fn try_take(&self, amount: i64, floor: i64, now: u64) -> bool {
        self.roll(now);
        let mut seen = self.sum.load(Ordering::Relaxed);
        loop {
            let wanted = seen.saturating_sub(amount);
            if wanted < floor {
                return false;
            }
            match self.sum.compare_exchange_weak(seen, wanted, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => seen = other,
            }
        }
        self.current_slice().fetch_sub(amount, Ordering::Relaxed);
        true
    }

    fn current_slice(&self) -> &AtomicI64 {
        &self.slices[self.current.load(Ordering::Relaxed) % N]
    }

    /// Moves on to the slice of `now`. A `now` before the current slice changes nothing.
    fn roll(&self, now: u64) {
        if now >= self.slice_end.load(Ordering::Acquire) {
            self.roll_slowly(now);
        }
    }

    #[cold]
    fn roll_slowly(&self, now: u64) {
        let _guard = self.rolling.lock().unwrap_or_else(PoisonError::into_inner);
        let end = self.slice_end.load(Ordering::Relaxed);
        if now < end {
            return;
        }
        let passed = (now - end) / self.slice_ns + 1;
        let current = self.current.load(Ordering::Relaxed);
        for step in 1..=passed.min(N as u64) as usize {
            let expired = self.slices[(current + step) % N].swap(0, Ordering::Relaxed);
            self.sum.fetch_sub(expired, Ordering::Relaxed);
        }
        self.current.store((current + (passed % N as u64) as usize) % N, Ordering::Relaxed);
        self.slice_end.store(end.saturating_add(passed.saturating_mul(self.slice_ns)), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_leave_after_the_span() {
        let window = SlidingSum::<5>::new(50, 100);
        window.add(3, 100);
        window.add(4, 125);
        assert_eq!(window.sum(149), 7);
        assert_eq!(window.sum(150), 4);
        assert_eq!(window.sum(169), 4);
        assert_eq!(window.sum(170), 0);
    }

    #[test]
    fn a_long_silence_empties_it_and_old_times_are_harmless() {
        let window = SlidingSum::<10>::new(10, 0);
        window.add(9, 5);
        assert_eq!(window.sum(1_000_003), 0);
        window.add(2, 1);
        assert_eq!(window.sum(1_000_003), 2);
        assert_eq!(window.sum(u64::MAX), 0);
    }

    #[test]
    fn takes_only_down_to_the_floor() {
        let window = SlidingSum::<10>::new(10, 0);
        assert!(window.try_take(5, -10, 0));
        assert!(window.try_take(5, -10, 0));
        assert!(!window.try_take(1, -10, 0));
        assert!(window.try_take(1, -10, 10));
        assert_eq!(window.sum(10), -1);
    }
}
