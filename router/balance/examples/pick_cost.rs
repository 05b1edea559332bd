//! Prints what one healthy request costs in this crate: pick, begin, success, end.
//!
//! It is for checking the budget of the design (well under 60 ns in a release build). It is not a test: it reads the
//! clock and asserts nothing. Run it by hand: `cargo run --release -p balance --example pick_cost`.

use balance::{AccrualConfig, Algorithm, Endpoint, Replicas};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

const ROUNDS: u64 = 5_000_000;

fn main() {
    let ewma = Algorithm::Ewma { max_effort: 5, decay_ns: 10_000_000_000 };
    for algorithm in [Algorithm::default(), ewma] {
        for classes in [1, 3] {
            let each = measure(&algorithm, classes);
            println!("{} with {classes} weight classes: {each:.1} ns", algorithm.name());
        }
    }
}

/// Nanoseconds per request on ten endpoints.
fn measure(algorithm: &Algorithm, classes: u64) -> f64 {
    let make = |uid: u64| {
        let addr = SocketAddr::from(([127, 0, 0, 1], 8000 + uid as u16));
        Arc::new(Endpoint::new(uid, addr, 1.0 + (uid % classes) as f64, AccrualConfig::default(), 0))
    };
    let replicas = Replicas::new((0..10).map(make).collect());
    let mut bits = 1u64;
    let mut rng = || {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bits
    };
    let start = Instant::now();
    for round in 0..ROUNDS {
        let now = round * 1000;
        if let Some(pick) = black_box(&replicas).pick(algorithm, now, &mut rng) {
            pick.endpoint.begin(now);
            pick.endpoint.on_success(now + 500);
            pick.endpoint.end(now + 500, now, algorithm.decay_ns());
        }
    }
    start.elapsed().as_nanos() as f64 / ROUNDS as f64
}
