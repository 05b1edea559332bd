//! No balancer allocates per pick (issue: "no balancer allocates or locks per pick"; locks are held in a test beside
//! `Balancer`). A binary of its own: it replaces the allocator by one that counts, for each thread.

use balance::{AccrualConfig, Algorithm, Backoff, Balancer, Endpoint, Lease, Replicas};
use std::sync::Arc;

const PICKS: u64 = 10_000;
/// Requests under way at one time.
const HELD: usize = 40;

fn algorithms() -> [Algorithm; 5] {
    let max_effort = 5;
    let second = 1_000_000_000;
    [
        Algorithm::P2c { max_effort },
        Algorithm::Ewma { max_effort, decay_ns: 10 * second },
        Algorithm::Aperture {
            max_effort,
            smooth_window_ns: second / 100,
            low_load: 0.5,
            high_load: 2.0,
            min_aperture: 1,
        },
        Algorithm::Heap,
        Algorithm::RoundRobin { max_effort },
    ]
}

/// Traffic over one snapshot: some requests are always under way, one of 64 fails, and time goes on.
struct Traffic {
    replicas: Replicas,
    held: [Option<Lease>; HELD],
    now: u64,
    random: u64,
}

impl Traffic {
    fn new(algorithm: Algorithm, accrual: AccrualConfig) -> Traffic {
        let address = "10.0.0.1:80".parse().expect("an address");
        // Two classes of weight.
        let weight = |uid| if uid % 4 == 0 { 2.0 } else { 1.0 };
        let endpoint = |uid| Arc::new(Endpoint::new(uid, address, weight(uid), accrual, 0));
        let replicas = Balancer::new(algorithm, 0, 7).replicas((0..32).map(endpoint).collect(), 0);
        Traffic { replicas, held: [const { None }; HELD], now: 0, random: 1 }
    }

    fn run(&mut self, picks: u64) {
        for n in 0..picks {
            self.now += 37_000;
            let state = &mut self.random;
            let mut random = || {
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *state ^ (*state >> 29)
            };
            let lease = self.replicas.pick(self.now, &mut random).expect("an endpoint").lease;
            let slot = (random() % HELD as u64) as usize;
            if let Some(mut ended) = self.held[slot].replace(lease) {
                if n % 64 == 0 {
                    ended.fail(self.now, &mut random);
                } else {
                    ended.succeed(self.now);
                }
                ended.end(self.now);
            }
        }
    }
}

#[test]
fn no_balancer_allocates_per_pick() {
    let windowed =
        AccrualConfig::SuccessRateWindowed { rate: 0.2, window_ns: 100_000_000, backoff: Backoff::default() };
    for algorithm in algorithms() {
        for accrual in [AccrualConfig::default(), windowed] {
            let mut traffic = Traffic::new(algorithm, accrual);
            traffic.run(PICKS);
            let counted = allocation_counter::measure(|| traffic.run(PICKS));
            assert_eq!((counted.count_total, counted.bytes_total), (0, 0), "{algorithm:?} {accrual:?}");
            assert_eq!(counted.count_current, 0, "nothing is freed either: {algorithm:?}");
        }
    }
}

/// The counter counts: a snapshot does allocate.
#[test]
fn the_counter_counts() {
    let counted = allocation_counter::measure(|| drop(Traffic::new(Algorithm::Heap, AccrualConfig::default())));
    assert!(counted.count_total > 32, "{counted:?}");
}
