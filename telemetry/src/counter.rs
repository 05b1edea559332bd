//! A counter: a number that only grows.
//!
//! What it is for: the hot path; one relaxed `fetch_add` per event. What it is not: named or placed; the tree does
//! that. Called by: everything that counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// A 64-bit count, cumulative since it was created and never reset (telemetry reference section 2).
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at 0 that no tree knows. [`crate::Scope::counter`] gives one that is exported.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one event.
    #[inline]
    pub fn incr(&self) {
        self.add(1);
    }

    /// Counts `n` events at once; wraps at 2⁶⁴.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Events since creation.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
