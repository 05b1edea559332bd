//! [`PoolStats`]: what a client counts of its connections, all workers together (telemetry reference §4.3).
//!
//! Called by `pool` and `request::acquire`. Not for: limiting anything (`pool::host`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use telemetry::{Counter, GaugeGuard, Scope};

/// Counters and gauges of the connections of one client.
pub struct PoolStats {
    /// `pool_size`: connections that are open or being made.
    pub(super) size: Arc<AtomicI64>,
    /// `pool_cached`: those of them that serve no request.
    pub(super) cached: Arc<AtomicI64>,
    /// `pool_waiters`: requests that wait for one.
    pub(super) waiters: Arc<AtomicI64>,
    /// `pool_num_waited`.
    pub(super) waited: Arc<Counter>,
    /// `pool_num_too_many_waiters`.
    pub too_many_waiters: Arc<Counter>,
    _gauges: [GaugeGuard; 3],
}

impl PoolStats {
    /// Registers them in the scope of a client.
    pub fn new(scope: &Scope) -> Arc<PoolStats> {
        let numbers: [Arc<AtomicI64>; 3] = Default::default();
        let gauge = |name: &str, number: &Arc<AtomicI64>| {
            let number = number.clone();
            scope.gauge(name, move || number.load(Ordering::Relaxed) as f64)
        };
        let gauges =
            [gauge("pool_size", &numbers[0]), gauge("pool_cached", &numbers[1]), gauge("pool_waiters", &numbers[2])];
        let [size, cached, waiters] = numbers;
        Arc::new(PoolStats {
            size,
            cached,
            waiters,
            waited: scope.counter("pool_num_waited"),
            too_many_waiters: scope.counter("pool_num_too_many_waiters"),
            _gauges: gauges,
        })
    }
}
