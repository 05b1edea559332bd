//! A floating point number shared between threads.
//!
//! It is for weights, costs and averages. It is not for ordering other memory: all accesses are relaxed. Called by
//! `endpoint`, `ewma` and `policy`.

use std::sync::atomic::{AtomicU64, Ordering};

/// An `f64` kept as its bits.
#[derive(Debug)]
pub(crate) struct SharedFloat(AtomicU64);

impl SharedFloat {
    /// A cell holding `value`.
    pub(crate) fn new(value: f64) -> Self {
        Self(AtomicU64::new(value.to_bits()))
    }

    /// The value now.
    pub(crate) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Replaces the value.
    pub(crate) fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Replaces the value by a function of itself. No update is lost: a raced one is computed again.
    pub(crate) fn update(&self, next: impl Fn(f64) -> f64) {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let wanted = next(f64::from_bits(seen)).to_bits();
            match self.0.compare_exchange_weak(seen, wanted, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
    }
}
