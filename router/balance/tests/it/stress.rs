//! Many threads on the same endpoints: nothing is lost, nothing is stuck. Time is a shared counter.

use crate::support::{MILLI, SECOND, SplitMix64, endpoint};
use balance::{AccrualConfig, Algorithm, Backoff, Endpoint, Replicas, RetryBudget, RetryBudgetConfig, Status};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const THREADS: u64 = 4;
const ROUNDS: u64 = 20_000;
const EWMA: Algorithm = Algorithm::Ewma { max_effort: 5, decay_ns: SECOND };

fn mixed_endpoints() -> Vec<Arc<Endpoint>> {
    let backoff = Backoff::EqualJittered { start_ns: 5 * MILLI, max_ns: 50 * MILLI };
    let kinds = [
        AccrualConfig::Consecutive { failures: 2, backoff },
        AccrualConfig::SuccessRate { rate: 0.6, requests: 5, backoff },
        AccrualConfig::SuccessRateWindowed { rate: 0.6, window_ns: 20 * MILLI, backoff },
        AccrualConfig::None,
    ];
    (0..8).map(|uid| endpoint(uid, 1.0 + (uid % 3) as f64, kinds[uid as usize % 4])).collect()
}

fn work(replicas: &Replicas, clock: &AtomicU64, seed: u64) {
    let mut rng = SplitMix64(seed);
    for _ in 0..ROUNDS {
        let began = clock.fetch_add(MILLI / 10, Ordering::Relaxed);
        let picked = replicas.pick(&EWMA, began, || rng.next()).expect("not empty").endpoint;
        picked.begin(began);
        let now = clock.fetch_add(MILLI / 10, Ordering::Relaxed);
        match rng.below(8) {
            0..4 => picked.on_success(now),
            4..6 => picked.on_failure(now, &mut || rng.next()),
            6 => picked.connect_failed(now, &mut || rng.next()),
            _ => picked.on_ignored(now),
        }
        picked.connected();
        picked.end(now, began, EWMA.decay_ns());
        let load = picked.ewma_load(now, SECOND);
        assert!(load.is_finite() && load >= 0.0);
    }
}

#[test]
fn load_returns_to_zero_and_every_endpoint_can_recover() {
    let replicas = Replicas::new(mixed_endpoints());
    let clock = AtomicU64::new(1);
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let (replicas, clock) = (&replicas, &clock);
            scope.spawn(move || work(replicas, clock, seed));
        }
    });
    let later = clock.load(Ordering::Relaxed) + SECOND;
    let mut removals = 0;
    for e in replicas.endpoints() {
        assert_eq!(e.load(), 0, "{}", e.uid());
        assert_eq!(e.status(later), Status::Open, "{} is stuck", e.uid());
        let counts = e.accrual_counts();
        assert!(counts.revivals <= counts.probes && counts.revivals <= counts.removals, "{counts:?}");
        assert!(counts.removals - counts.revivals <= 1, "{counts:?}");
        removals += counts.removals;
    }
    assert!(removals > 0);
}

#[test]
fn threads_never_take_the_same_tokens() {
    let budget = RetryBudget::new(RetryBudgetConfig::default(), 0);
    let retries = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    budget.deposit(5);
                    retries.fetch_add(u64::from(budget.try_withdraw(5)), Ordering::Relaxed);
                }
            });
        }
    });
    let left = budget.balance(5);
    assert_eq!(retries.load(Ordering::Relaxed) + left, THREADS * ROUNDS / 5 + 100);
}

#[test]
fn a_budget_heals_completely_after_threads_rolled_it() {
    let budget = RetryBudget::new(RetryBudgetConfig { ttl_secs: 1, ..RetryBudgetConfig::default() }, 0);
    let clock = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let now = clock.fetch_add(MILLI, Ordering::Relaxed);
                    budget.deposit(now);
                    budget.try_withdraw(now);
                }
            });
        }
    });
    assert_eq!(budget.balance(clock.load(Ordering::Relaxed) + 2 * SECOND), 10);
}
