//! [`Backoff`]: how long to wait before the next try, so that nothing that fails is asked in a hot loop.
//!
//! It doubles with each end and begins anew only after something that has worked and lasted longer than the next wait: a
//! peer that answers once and closes is not one that works. Called by `supervise` for each key, and by `remote::peers` for
//! each address. Not for: what is tried.

use std::time::Duration;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    /// Ends in a row.
    ends: u32,
}

impl Backoff {
    /// The first wait is at most `min`, none is longer than `max`.
    pub(crate) fn new(min: Duration, max: Duration) -> Backoff {
        Backoff { min, max, ends: 0 }
    }

    /// How long to wait after an end: drawn evenly from half of the present back-off to all of it. `worked` is how long
    /// what has ended had lasted, when it worked until then.
    pub(crate) fn after(&mut self, worked: Option<Duration>) -> Duration {
        let next = self.ends.saturating_add(1);
        self.ends = if worked.is_some_and(|lasted| lasted > self.full(next)) { 1 } else { next };
        let full = self.full(self.ends);
        full / 2 + full.mul_f64(fastrand::f64() / 2.0)
    }

    fn full(&self, ends: u32) -> Duration {
        self.min.saturating_mul(1 << ends.saturating_sub(1).min(16)).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_limit_and_begins_anew_after_what_lasted() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut ends = |worked: Option<u64>, full: u64| {
            let wait = backoff.after(worked.map(Duration::from_millis)).as_millis();
            assert!((u128::from(full / 2)..=u128::from(full)).contains(&wait), "{worked:?}: {wait}, {full}");
        };
        for full in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            ends(None, full);
        }
        ends(Some(4999), 5000);
        ends(Some(5001), 100);
        // What answers once and ends is none that works.
        for full in [200, 400, 800] {
            ends(Some(150), full);
        }
        ends(Some(1601), 100);
        ends(None, 200);
    }
}
