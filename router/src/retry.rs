//! [`Attempts`]: whether a request that failed may be tried once more, and after which pause (data-plane reference
//! §11.2, requirement P14).
//!
//! Called by `request::exchange` between two attempts. Not for: what counts as retryable (`classify`), requeues (`request::attempt`),
//! or the time limit of the request, which is a wall around all of it. Reads no clock.

use crate::config::ServiceParams;
use balance::{RetryBudget, Schedule};

/// The attempts of one request.
pub struct Attempts<'a> {
    budget: &'a RetryBudget,
    pauses: Schedule,
    most: Option<u32>,
    made: u32,
}

/// What comes after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, after a pause in nanoseconds. It is paid for.
    After(u64),
    /// None: the budget of the service is spent.
    NoBudget,
    /// None: this request has had as many as it may.
    NoMore,
}

impl<'a> Attempts<'a> {
    /// A request that came in at `now` (nanoseconds); it pays into the budget.
    pub fn begin(params: &ServiceParams, budget: &'a RetryBudget, now: u64) -> Attempts<'a> {
        budget.deposit(now);
        Attempts { budget, pauses: Schedule::new(params.backoff), most: params.max_attempts, made: 1 }
    }

    /// After an attempt that failed and is retryable, at `now`. `rng` gives 64 uniform bits for the jitter.
    pub fn next(&mut self, now: u64, rng: &mut dyn FnMut() -> u64) -> Next {
        if self.most.is_some_and(|most| self.made >= most) {
            return Next::NoMore;
        }
        if !self.budget.try_withdraw(now) {
            return Next::NoBudget;
        }
        self.made += 1;
        Next::After(self.pauses.advance(rng))
    }

    /// Attempts beyond the first.
    pub fn retries(&self) -> u32 {
        self.made - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use balance::{Backoff, RetryBudgetConfig};
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn params(max_attempts: Option<u32>) -> ServiceParams {
        ServiceParams { max_attempts, ..ServiceParams::default() }
    }

    #[test]
    fn one_request_has_ten_attempts_unless_said() {
        let budget = RetryBudget::new(RetryBudgetConfig::default(), 0);
        let mut attempts = Attempts::begin(&ServiceParams::default(), &budget, 0);
        let mut random = || 0;
        assert!((1..10).all(|_| attempts.next(0, &mut random) == Next::After(0)));
        assert_eq!((attempts.next(0, &mut random), attempts.retries()), (Next::NoMore, 9));
        assert_eq!(budget.balance(0), 91, "what is refused is not paid");
        let mut unlimited = Attempts::begin(&params(None), &budget, 0);
        while let Next::After(_) = unlimited.next(0, &mut random) {}
        assert_eq!((unlimited.retries(), unlimited.next(0, &mut random)), (91, Next::NoBudget));
        let mut once = Attempts::begin(&params(Some(1)), &budget, 60 * SECOND);
        assert_eq!(once.next(60 * SECOND, &mut random), Next::NoMore);
    }

    #[test]
    fn pauses_follow_the_backoff() {
        let budget = RetryBudget::new(RetryBudgetConfig::default(), 0);
        let backoff = Backoff::Jittered { min_ns: 5, max_ns: 20 };
        let params = ServiceParams { backoff, ..ServiceParams::default() };
        let mut attempts = Attempts::begin(&params, &budget, 0);
        let mut random = || u64::MAX;
        let pauses: Vec<Next> = (0..4).map(|_| attempts.next(0, &mut random)).collect();
        assert_eq!(pauses[0], Next::After(5));
        assert!(pauses.iter().all(|next| matches!(next, Next::After(5..=20))), "{pauses:?}");
    }

    /// One request of the simulated traffic: when it comes after the one before, how many of its attempts fail, and how
    /// long each takes.
    fn request() -> impl Strategy<Value = (u64, u32, u64)> {
        (0..SECOND / 2, 0..40_u32, 0..SECOND / 50)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Requirement P14.2: over every span of the ttl less one of its ten slices (a withdrawal heals with its slice),
        /// the retries are at most the reserve and the share of the requests of the ttl; and no request exceeds its cap.
        #[test]
        fn retries_never_exceed_the_budget(
            traffic in prop::collection::vec(request(), 1..200),
            ttl in 1..8_u32,
            min in 0..4_u32,
            share in prop::sample::select(vec![0.0, 0.1, 0.2, 1.0, 2.5]),
            most in prop::sample::select(vec![None, Some(1), Some(4), Some(10)]),
        ) {
            let config = RetryBudgetConfig { ttl_secs: ttl, min_retries_per_sec: min, percent_can_retry: share };
            let budget = RetryBudget::new(config, 0);
            let (params, ttl_ns) = (params(most), u64::from(ttl) * SECOND);
            let (mut requests, mut retries, mut now) = (Vec::new(), Vec::new(), 0);
            for (gap, failing, takes) in traffic {
                now += gap;
                requests.push(now);
                let mut attempts = Attempts::begin(&params, &budget, now);
                for _ in 0..failing {
                    now += takes;
                    match attempts.next(now, &mut || 7) {
                        Next::After(_) => retries.push(now),
                        Next::NoBudget | Next::NoMore => break,
                    }
                }
                prop_assert!(most.is_none_or(|most| attempts.retries() < most));
            }
            for &end in &retries {
                let within = |at: &&u64, span: u64| **at <= end && end - **at < span;
                let spent = retries.iter().filter(|at| within(at, ttl_ns - ttl_ns / 10)).count();
                let asked = requests.iter().filter(|at| within(at, ttl_ns + 1)).count();
                let allowed = f64::from(min * ttl) + share * asked as f64;
                prop_assert!(spent as f64 <= allowed + 1e-6, "{spent} of {asked} at {end}, allowed {allowed}");
            }
        }
    }
}
