//! Seeded randomness and shorthand for the tests of this folder. Not a mock of anything.

use balance::{AccrualConfig, Algorithm, Balancer, Endpoint, Replicas};
use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) const MILLI: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// The splitmix64 generator.
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

pub(crate) fn endpoint(uid: u64, weight: f64, accrual: AccrualConfig) -> Arc<Endpoint> {
    let addr = SocketAddr::from(([10, 0, 0, 1], 8000 + uid as u16));
    Arc::new(Endpoint::new(uid, addr, weight, accrual, 0))
}

/// `count` endpoints of weight 1 with default accrual, numbered from 0.
pub(crate) fn endpoints(count: u64) -> Vec<Arc<Endpoint>> {
    (0..count).map(|uid| endpoint(uid, 1.0, AccrualConfig::default())).collect()
}

/// A snapshot of a balancer without slow start.
pub(crate) fn replicas(algorithm: Algorithm, endpoints: Vec<Arc<Endpoint>>) -> Replicas {
    Balancer::new(algorithm, 0, 1).replicas(endpoints, 0)
}

/// The endpoint of this number.
pub(crate) fn by_uid(replicas: &Replicas, uid: u64) -> &Arc<Endpoint> {
    replicas.endpoints().iter().find(|endpoint| endpoint.uid() == uid).expect("known")
}

/// Makes an endpoint dead for its first back-off.
pub(crate) fn kill(endpoint: &Arc<Endpoint>, now: u64) {
    for _ in 0..5 {
        fail(endpoint, now);
    }
}

/// One failed request.
pub(crate) fn fail(endpoint: &Arc<Endpoint>, now: u64) {
    let mut lease = endpoint.lease(now);
    lease.fail(now, &mut || 0);
    lease.end(now);
}
