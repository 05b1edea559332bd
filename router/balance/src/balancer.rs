//! [`Balancer`]: what a client keeps of its balancer while discovery changes.
//!
//! It is for making snapshots, for the size of apertures and for counters, which all outlive a snapshot. It is not the
//! choice: see `replicas`. The router's client has one.

use crate::algorithm::Algorithm;
use crate::aperture::{Aperture, Band};
use crate::endpoint::Endpoint;
use crate::heap::Heaps;
use crate::replicas::Replicas;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The default of `slow_start_ns`: 10 s, in nanoseconds.
pub const SLOW_START_NS: u64 = 10_000_000_000;

/// What a balancer did since it was made. Source: telemetry reference, "Balancer".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalancerCounts {
    /// Snapshots, and endpoints that moved between up and down.
    pub rebuilds: u64,
    /// Times the aperture became wider (`loadband/widen`).
    pub widened: u64,
    /// Times it became narrower (`loadband/narrow`).
    pub narrowed: u64,
}

/// The same, while it is counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    rebuilds: AtomicU64,
    pub(crate) widened: AtomicU64,
    pub(crate) narrowed: AtomicU64,
}

impl Tally {
    pub(crate) fn rebuilt(&self) {
        self.rebuilds.fetch_add(1, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Debug)]
pub struct Balancer {
    algorithm: Algorithm,
    slow_start_ns: u64,
    /// For the order of endpoints.
    seed: u64,
    carried: Mutex<Carried>,
    pub(crate) heaps: Arc<Heaps>,
    pub(crate) tally: Arc<Tally>,
}

#[derive(Debug, Default)]
struct Carried {
    /// Whether the last snapshot had endpoints.
    serving: bool,
    /// By the bits of the weight of their class.
    apertures: HashMap<u64, Arc<Aperture>>,
}

impl Balancer {
    /// A balancer without endpoints. An endpoint that comes later into a set that is not empty starts slowly over
    /// `slow_start_ns` nanoseconds; 0 switches that off. `seed` is random: it decides the order of endpoints, which
    /// stays the same over updates.
    pub fn new(algorithm: Algorithm, slow_start_ns: u64, seed: u64) -> Self {
        let (carried, heaps, tally) = (Mutex::default(), Arc::default(), Arc::default());
        Self { algorithm, slow_start_ns, seed, carried, heaps, tally }
    }

    /// The kind and its options.
    pub fn algorithm(&self) -> &Algorithm {
        &self.algorithm
    }

    /// A snapshot of `endpoints` at `now` (nanoseconds), which replaces the one before. Weights are read once, here.
    /// Costs time in proportion to the number of endpoints.
    pub fn replicas(&self, mut endpoints: Vec<Arc<Endpoint>>, now: u64) -> Replicas {
        let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        let slow_start_ns = if carried.serving { self.slow_start_ns } else { 0 };
        endpoints.iter().for_each(|endpoint| endpoint.join(now, slow_start_ns));
        carried.serving = !endpoints.is_empty();
        endpoints.sort_by_cached_key(|endpoint| (mix(self.seed ^ mix(endpoint.uid())), endpoint.uid()));
        self.tally.rebuilt();
        let mut former = std::mem::take(&mut carried.apertures);
        let carried = &mut *carried;
        let band = self.band();
        let mut aperture = |weight: f64, members: usize| {
            let new = || Arc::new(Aperture::new(band, self.tally.clone()));
            let aperture = former.remove(&weight.to_bits()).unwrap_or_else(new);
            aperture.resize(members);
            carried.apertures.insert(weight.to_bits(), aperture.clone());
            aperture
        };
        Replicas::new(self, endpoints, now, self.seed, &mut aperture)
    }

    /// What it did so far.
    pub fn counts(&self) -> BalancerCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BalancerCounts {
            rebuilds: read(&self.tally.rebuilds),
            widened: read(&self.tally.widened),
            narrowed: read(&self.tally.narrowed),
        }
    }

    fn band(&self) -> Band {
        match self.algorithm {
            Algorithm::Aperture { smooth_window_ns, low_load, high_load, min_aperture, .. } => {
                Band { window_ns: smooth_window_ns, low: low_load, high: high_load, min: min_aperture }
            }
            Algorithm::P2c { .. } | Algorithm::Ewma { .. } | Algorithm::Heap | Algorithm::RoundRobin { .. } => {
                Band { window_ns: 1, low: 0.0, high: f64::INFINITY, min: 1 }
            }
        }
    }
}

/// Numbers in a random order: the finalizer of splitmix64.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::AccrualConfig;
    use std::sync::mpsc;
    use std::time::Duration;

    const KINDS: [Algorithm; 5] = [
        Algorithm::P2c { max_effort: 5 },
        Algorithm::Ewma { max_effort: 5, decay_ns: 1_000_000 },
        Algorithm::Aperture { max_effort: 5, smooth_window_ns: 100, low_load: 0.5, high_load: 2.0, min_aperture: 1 },
        Algorithm::Heap,
        Algorithm::RoundRobin { max_effort: 5 },
    ];

    /// A pick that wanted one of the locks would wait for ever.
    #[test]
    fn no_pick_takes_a_lock() {
        for algorithm in KINDS {
            let balancer = Balancer::new(algorithm, SLOW_START_NS, 7);
            let address = "10.0.0.1:80".parse().expect("an address");
            let endpoint = |uid| Arc::new(Endpoint::new(uid, address, 1.0, AccrualConfig::default(), 0));
            let replicas = balancer.replicas((0..8).map(endpoint).collect(), 0);
            let (done, finished) = mpsc::channel();
            std::thread::scope(|scope| {
                let held = (balancer.carried.lock().expect("nobody panicked"), balancer.heaps.lock());
                scope.spawn(|| {
                    for now in 1..1000 {
                        let mut lease =
                            replicas.pick(now, || now.wrapping_mul(0x9e37_79b9_7f4a_7c15)).expect("one").lease;
                        lease.succeed(now);
                        lease.end(now);
                    }
                    // Who waits may have given up.
                    let _ = done.send(());
                });
                let outcome = finished.recv_timeout(Duration::from_secs(10));
                drop(held);
                assert!(outcome.is_ok(), "{algorithm:?} waits for a lock");
            });
        }
    }
}
