//! Prints what one healthy request costs in this crate: pick, verdict, end. For all kinds of balancer, from 1 to 10,000
//! endpoints, with one thread and with two that share the endpoints, as a Markdown table in nanoseconds of CPU time.
//!
//! It is for checking the budget of the design and that the cost does not grow with the number of endpoints. It is not a
//! test: it reads the clock and asserts nothing. Run it by hand: `cargo run --release -p balance --example pick_cost`.

use balance::{AccrualConfig, Algorithm, Balancer, Endpoint, Replicas};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

const ROUNDS: u64 = 500_000;
const SIZES: [u64; 5] = [1, 10, 100, 1000, 10_000];
/// Each number is the least of so many runs: what else the machine does only adds.
const RUNS: usize = 3;
/// Leases that every thread holds, so that loads differ.
const HELD: usize = 16;

const KINDS: [Algorithm; 5] = [
    Algorithm::P2c { max_effort: 5 },
    Algorithm::Ewma { max_effort: 5, decay_ns: 10_000_000_000 },
    Algorithm::Aperture {
        max_effort: 5,
        smooth_window_ns: 5_000_000_000,
        low_load: 0.5,
        high_load: 2.0,
        min_aperture: 1,
    },
    Algorithm::Heap,
    Algorithm::RoundRobin { max_effort: 5 },
];

fn main() {
    println!("| kind | threads | {} |", SIZES.map(|size| size.to_string()).join(" | "));
    println!("|---|---|{}", "---|".repeat(SIZES.len()));
    for algorithm in KINDS {
        for threads in [1, 2] {
            let row = SIZES.map(|size| format!("{:.0}", cost(algorithm, size, threads, 0)));
            println!("| `{}` | {threads} | {} |", algorithm.name(), row.join(" | "));
        }
    }
    println!();
    println!("The same with one thread while every tenth endpoint is down:");
    println!();
    println!("| kind | {} |", SIZES.map(|size| size.to_string()).join(" | "));
    println!("|---|{}", "---|".repeat(SIZES.len()));
    for algorithm in KINDS {
        let row = SIZES.map(|size| format!("{:.0}", cost(algorithm, size, 1, 10)));
        println!("| `{}` | {} |", algorithm.name(), row.join(" | "));
    }
}

/// Nanoseconds per request; of every `dead` endpoints the last is dead, of 0 none.
fn cost(algorithm: Algorithm, size: u64, threads: u64, dead: u64) -> f64 {
    let make = |uid: u64| {
        let addr = SocketAddr::from(([127, 0, 0, 1], 8000 + uid as u16));
        Arc::new(Endpoint::new(uid, addr, 1.0, AccrualConfig::default(), 0))
    };
    let all: Vec<Arc<Endpoint>> = (0..size).map(make).collect();
    for endpoint in all.iter().filter(|endpoint| dead > 0 && endpoint.uid() % dead == dead - 1) {
        (0..5).for_each(|_| endpoint.lease(0).fail(u64::MAX / 2, &mut || 0));
    }
    let replicas = Balancer::new(algorithm, 0, 7).replicas(all, 0);
    let run = |_| {
        let took = |replicas: &Replicas, thread| {
            let (wall, before) = (Instant::now(), on_cpu());
            requests(replicas, thread);
            on_cpu().zip(before).map_or(wall.elapsed().as_nanos() as f64, |(after, before)| after - before)
        };
        let total: f64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads)
                .map(|thread| {
                    scope.spawn({
                        let replicas = &replicas;
                        move || took(replicas, thread)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(f64::NAN)).sum()
        });
        total / (threads * ROUNDS) as f64
    };
    (0..RUNS).map(run).fold(f64::INFINITY, f64::min)
}

/// The CPU time of this thread in nanoseconds, where the system tells it. It does not count what other processes take.
fn on_cpu() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn requests(replicas: &Replicas, seed: u64) {
    let mut bits = seed + 1;
    let mut rng = || {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bits ^ (bits >> 29)
    };
    let mut held: [Option<balance::Lease>; HELD] = [const { None }; HELD];
    for round in 0..ROUNDS {
        let now = round * 1000;
        if let Some(pick) = black_box(replicas).pick(now, &mut rng)
            && let Some(place) = held.get_mut(round as usize % HELD)
            && let Some(mut lease) = place.replace(pick.lease)
        {
            lease.succeed(now);
            lease.end(now);
        }
    }
}
