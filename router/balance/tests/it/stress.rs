//! Many threads on the same endpoints: nothing is lost, nothing is stuck. Time is a shared counter.

use crate::support::{MILLI, SECOND, SplitMix64, endpoint};
use balance::{
    AccrualConfig, Algorithm, Backoff, Balancer, Endpoint, Replicas, RetryBudget, RetryBudgetConfig, Status,
};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;

const THREADS: u64 = 4;
const ROUNDS: u64 = 20_000;

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

const KINDS: [Algorithm; 5] = [
    Algorithm::P2c { max_effort: 5 },
    Algorithm::Ewma { max_effort: 5, decay_ns: SECOND },
    Algorithm::Aperture { max_effort: 5, smooth_window_ns: SECOND, low_load: 0.5, high_load: 2.0, min_aperture: 1 },
    Algorithm::Heap,
    Algorithm::RoundRobin { max_effort: 5 },
];

/// A crowd of threads that use a set while another one replaces it.
struct Crowd {
    clock: AtomicU64,
    replicas: RwLock<Arc<Replicas>>,
    /// Probes under way, by uid.
    probes: Vec<AtomicUsize>,
    done: AtomicBool,
}

impl Crowd {
    fn work(&self, seed: u64) {
        let mut rng = SplitMix64(seed);
        let mut kept = Vec::new();
        for round in 0..ROUNDS {
            let replicas = self.replicas.read().expect("no panic").clone();
            let began = self.clock.fetch_add(MILLI / 10, Ordering::Relaxed);
            let mut lease = replicas.pick(began, || rng.next()).expect("not empty").lease;
            assert!(!(lease.is_probe() && self.probing(&lease).fetch_add(1, Ordering::SeqCst) > 0), "two probes");
            if lease.is_probe() {
                std::thread::yield_now();
                self.probing(&lease).fetch_sub(1, Ordering::SeqCst);
            }
            let now = self.clock.fetch_add(MILLI / 10, Ordering::Relaxed);
            match rng.below(8) {
                0..4 => lease.succeed(now),
                4..6 => lease.fail(now, &mut || rng.next()),
                6 => lease.connect_failed(now, &mut || rng.next()),
                _ => {}
            }
            lease.endpoint().connected();
            let load = lease.endpoint().ewma_load(now, SECOND);
            assert!(load.is_finite() && load >= 0.0);
            // Some stay for longer than a snapshot does.
            kept.push(lease);
            if round % 7 != 0 {
                let at = rng.below(kept.len() as u64) as usize;
                kept.swap_remove(at).end(now);
            }
            if kept.len() > 50 {
                kept.clear();
            }
        }
    }

    fn probing(&self, lease: &balance::Lease) -> &AtomicUsize {
        &self.probes[lease.endpoint().uid() as usize]
    }
}

fn crowd(algorithm: Algorithm) {
    let balancer = Balancer::new(algorithm, 5 * MILLI, 3);
    let all = mixed_endpoints();
    let replicas = RwLock::new(Arc::new(balancer.replicas(all.clone(), 0)));
    let probes = all.iter().map(|_| AtomicUsize::new(0)).collect();
    let crowd = Crowd { clock: AtomicU64::new(1), replicas, probes, done: AtomicBool::new(false) };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|seed| {
                scope.spawn({
                    let crowd = &crowd;
                    move || crowd.work(seed)
                })
            })
            .collect();
        scope.spawn(|| {
            let mut rng = SplitMix64(99);
            while !crowd.done.load(Ordering::Relaxed) {
                let some = all.iter().filter(|e| e.uid() == 7 || rng.below(3) > 0).cloned().collect();
                let next = balancer.replicas(some, crowd.clock.load(Ordering::Relaxed));
                *crowd.replicas.write().expect("no panic") = Arc::new(next);
                thread::yield_now();
            }
        });
        let ended: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        crowd.done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
    let later = crowd.clock.load(Ordering::Relaxed) + SECOND;
    let replicas = balancer.replicas(all.clone(), later);
    let loads = settled(&replicas, later);
    // One that failed at the last moment is rightly avoided by `ewma`; a small aperture has a few only.
    let some_only = matches!(algorithm, Algorithm::Ewma { .. }) || replicas.aperture() < 8;
    assert!(some_only || loads.iter().all(|load| *load > 0), "{algorithm:?}: {loads:?}");
}

/// Nothing is held back: no load, no endpoint. The loads after 500 more picks.
fn settled(replicas: &Replicas, later: u64) -> Vec<u32> {
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
    let (mut rng, mut leases) = (SplitMix64(5), Vec::new());
    for _ in 0..500 {
        let mut lease = replicas.pick(later, || rng.next()).expect("not empty").lease;
        lease.succeed(later);
        leases.push(lease);
    }
    replicas.endpoints().iter().map(|e| e.load()).collect()
}

#[test]
fn load_returns_to_zero_and_every_endpoint_can_recover() {
    KINDS.into_iter().for_each(crowd);
}

#[test]
fn of_many_threads_one_has_the_probe() {
    for _ in 0..200 {
        let replicas = crate::support::replicas(KINDS[0], vec![endpoint(0, 1.0, AccrualConfig::default())]);
        crate::support::kill(&replicas.endpoints()[0], 0);
        let probes = AtomicUsize::new(0);
        let start = std::sync::Barrier::new(THREADS as usize);
        thread::scope(|scope| {
            for seed in 0..THREADS {
                let (replicas, probes, start) = (&replicas, &probes, &start);
                scope.spawn(move || {
                    let mut rng = SplitMix64(seed);
                    start.wait();
                    let picks: Vec<_> = (0..10).map(|_| replicas.pick(6 * SECOND, || rng.next())).collect();
                    let own = picks.iter().flatten().filter(|pick| pick.lease.is_probe()).count();
                    probes.fetch_add(own, Ordering::SeqCst);
                    // Leases that are dropped would give the probe back.
                    start.wait();
                });
            }
        });
        assert_eq!(probes.load(Ordering::SeqCst), 1);
    }
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
