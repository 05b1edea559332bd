//! Retry budgets: retries may be a share of the requests, plus a reserve.
//!
//! It is for the path retries and the client requeues of the router. It does not decide what is retryable and does not
//! count per request. The router deposits once per request and withdraws before each retry.
//! Source: data-plane reference section 11.3.

use crate::window::SlidingSum;

const SECOND_NS: u64 = 1_000_000_000;
/// Tokens per deposit. Source: data-plane reference section 11.3.
const DEPOSIT: i64 = 1000;
/// The greatest cost of a retry in tokens: a share of one in a million. It keeps sums far from overflow.
const MAX_WITHDRAWAL: f64 = 1e9;
/// The greatest reserve in tokens. It keeps sums far from overflow.
const MAX_RESERVE: i64 = i64::MAX / 4;

/// The parameters of a budget. Source: data-plane reference section 11.3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudgetConfig {
    /// How long a deposit or withdrawal counts, in seconds: 1 to 60, clamped. Default 10.
    pub ttl_secs: u32,
    /// Retries per second that are allowed on top of the share. Default 10.
    pub min_retries_per_sec: u32,
    /// The share of requests that may be retried: 0 to 1000, clamped; NaN counts as 0. Default 0.2.
    pub percent_can_retry: f64,
}

impl Default for RetryBudgetConfig {
    fn default() -> Self {
        Self { ttl_secs: 10, min_retries_per_sec: 10, percent_can_retry: 0.2 }
    }
}

/// A leaky token bucket shared by all workers. Withdrawals are negative entries of the window, so they heal after the
/// ttl. Source: data-plane reference section 11.3.
#[derive(Debug)]
pub struct RetryBudget {
    window: SlidingSum<10>,
    /// Tokens per request; 0 when no share may be retried.
    deposit: i64,
    /// Tokens per retry; at least 1.
    withdrawal: i64,
    /// Tokens that are always there.
    reserve: i64,
}

impl RetryBudget {
    /// A budget that holds its reserve. `now` is in nanoseconds.
    pub fn new(config: RetryBudgetConfig, now: u64) -> Self {
        let ttl_secs = config.ttl_secs.clamp(1, 60);
        let share = config.percent_can_retry;
        let (deposit, withdrawal) = if share > 0.0 {
            (DEPOSIT, (DEPOSIT as f64 / share.min(1000.0)).min(MAX_WITHDRAWAL) as i64)
        } else {
            (0, 1)
        };
        let retries = i64::from(config.min_retries_per_sec) * i64::from(ttl_secs);
        Self {
            window: SlidingSum::new(u64::from(ttl_secs) * SECOND_NS, now),
            deposit,
            withdrawal,
            reserve: retries.saturating_mul(withdrawal).min(MAX_RESERVE),
        }
    }

    /// A request was made. `now` is in nanoseconds.
    pub fn deposit(&self, now: u64) {
        if self.deposit != 0 {
            self.window.add(self.deposit, now);
        }
    }

    /// Pays for one retry, if the budget allows it. `now` is in nanoseconds.
    pub fn try_withdraw(&self, now: u64) -> bool {
        self.window.try_take(self.withdrawal, -self.reserve, now)
    }

    /// How many retries the budget allows at `now` (nanoseconds).
    pub fn balance(&self, now: u64) -> u64 {
        let tokens = self.window.sum(now).saturating_add(self.reserve);
        u64::try_from(tokens / self.withdrawal).unwrap_or(0)
    }
}
