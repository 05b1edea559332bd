//! Retry budgets: the numbers of the reference, a plain model as oracle, and bounds under seeded load.

use crate::support::{MILLI, SECOND, SplitMix64};
use balance::{RetryBudget, RetryBudgetConfig};

fn config(ttl_secs: u32, min_retries_per_sec: u32, percent_can_retry: f64) -> RetryBudgetConfig {
    RetryBudgetConfig { ttl_secs, min_retries_per_sec, percent_can_retry }
}

/// Withdraws until refused; how many worked.
fn drain(budget: &RetryBudget, now: u64, most: u64) -> u64 {
    (0..most).take_while(|_| budget.try_withdraw(now)).count() as u64
}

#[test]
fn the_default_holds_a_hundred_and_a_fifth_of_the_requests() {
    let budget = RetryBudget::new(RetryBudgetConfig::default(), 0);
    assert_eq!(budget.balance(0), 100);
    (0..50).for_each(|_| budget.deposit(1));
    assert_eq!(budget.balance(1), 110);
    assert_eq!(drain(&budget, 2, 1000), 110);
    assert_eq!(budget.balance(2), 0);
    assert_eq!(budget.balance(10 * SECOND), 100, "all has healed after the ttl");
}

#[test]
fn withdrawals_heal_after_the_ttl_and_deposits_expire() {
    let budget = RetryBudget::new(config(10, 1, 0.5), 0);
    (0..100).for_each(|_| budget.deposit(0));
    assert_eq!(drain(&budget, 5 * SECOND, 1000), 60);
    // The deposits are gone, the withdrawals are not: below the reserve, and never negative.
    assert_eq!((budget.balance(10 * SECOND), drain(&budget, 10 * SECOND, 9)), (0, 0));
    assert_eq!(budget.balance(15 * SECOND), 10);
}

#[test]
fn table_of_parameters() {
    let table = [
        (config(10, 0, 0.0), 0, 0),
        (config(10, 3, 0.0), 30, 30),
        (config(10, 0, f64::NAN), 0, 0),
        (config(10, 0, -1.0), 0, 0),
        (config(0, 5, 0.2), 5, 25),
        (config(1000, 5, 0.2), 300, 320),
        (config(10, 0, 0.2), 0, 20),
        (config(10, 0, 1.0), 0, 100),
        (config(10, 0, 1000.0), 0, 100_000),
        (config(10, 0, f64::INFINITY), 0, 100_000),
        (config(10, 0, 1e-300), 0, 0),
        (config(10, 7, 1e-300), 70, 70),
    ];
    for (config, fresh, after_a_hundred) in table {
        let budget = RetryBudget::new(config, 0);
        assert_eq!(budget.balance(0), fresh, "{config:?}");
        (0..100).for_each(|_| budget.deposit(0));
        assert_eq!(budget.balance(0), after_a_hundred, "{config:?}");
        assert_eq!(drain(&budget, 0, 200_000), after_a_hundred, "{config:?}");
    }
    let huge = RetryBudget::new(config(60, u32::MAX, 1e-300), 0);
    assert!(huge.balance(0) > 1_000_000 && huge.try_withdraw(u64::MAX));
}

/// The rule of the reference, written with a plain list of (slice, tokens).
struct Model {
    entries: Vec<(u64, i64)>,
    slice_ns: u64,
    withdrawal: i64,
    reserve: i64,
}

impl Model {
    fn tokens(&self, now: u64) -> i64 {
        let slice = now / self.slice_ns;
        self.entries.iter().filter(|(at, _)| at + 10 > slice).map(|(_, tokens)| tokens).sum::<i64>() + self.reserve
    }

    fn add(&mut self, tokens: i64, now: u64) {
        let slice = now / self.slice_ns;
        self.entries.retain(|(at, _)| at + 10 > slice);
        self.entries.push((slice, tokens));
    }

    fn try_withdraw(&mut self, now: u64) -> bool {
        let enough = self.tokens(now) >= self.withdrawal;
        if enough {
            self.add(-self.withdrawal, now);
        }
        enough
    }
}

#[test]
fn equals_the_model_for_many_seeds() {
    for seed in 0..60 {
        let mut rng = SplitMix64(seed);
        let (ttl, min) = (1 + rng.below(60) as u32, rng.below(5) as u32);
        let percent = [0.05, 0.2, 0.5, 1.0, 3.0][rng.below(5) as usize];
        let budget = RetryBudget::new(config(ttl, min, percent), 0);
        let withdrawal = (1000.0 / percent) as i64;
        let reserve = i64::from(min) * i64::from(ttl) * withdrawal;
        let mut model = Model { entries: vec![], slice_ns: u64::from(ttl) * SECOND / 10, withdrawal, reserve };
        let mut now = 0;
        for step in 0..1500 {
            now += if rng.below(200) == 0 { rng.below(100 * SECOND) } else { rng.below(50 * MILLI) };
            if rng.below(2) == 0 {
                budget.deposit(now);
                model.add(1000, now);
            } else {
                assert_eq!(budget.try_withdraw(now), model.try_withdraw(now), "seed {seed} step {step}");
            }
            let balance = (model.tokens(now) / withdrawal).max(0) as u64;
            assert_eq!(budget.balance(now), balance, "seed {seed} step {step}");
        }
    }
}

#[test]
fn retries_stay_below_the_share_plus_the_reserve() {
    for seed in 0..40 {
        let mut rng = SplitMix64(seed);
        let budget = RetryBudget::new(RetryBudgetConfig::default(), 0);
        let (mut now, mut requests, mut retries) = (0u64, 0u64, 0u64);
        // Everything fails and every retry is retried, for up to a minute.
        while now < 60 * SECOND {
            now += rng.below(10 * MILLI);
            budget.deposit(now);
            requests += 1;
            retries += drain(&budget, now, 1 + rng.below(1000));
            // The reserve of 100 heals after at least 9 s, so it is spent once per 9 s begun.
            let reserve = 100 * (now / (9 * SECOND) + 1);
            assert!(retries <= requests / 5 + reserve, "seed {seed}: {retries} of {requests} at {now}");
        }
        assert!(retries > requests / 10, "seed {seed}: retries are allowed at all");
    }
}
