//! Back-off schedules: how long an endpoint stays out before it is tried again.
//!
//! It is for failure accrual and for refused connections. It is not for the delay between retries of a request: that
//! is the router's. Called by `accrual` and `refusal`; configured by the router.
//! Source: data-plane reference section 10.

use crate::random;

/// How the dead periods of an endpoint grow. All lengths are nanoseconds. Every schedule is endless.
/// Source: data-plane reference section 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// The same length each time (`kind: constant`).
    Constant {
        /// The length in nanoseconds.
        ns: u64,
    },
    /// Decorrelated jitter (`kind: jittered`): first `min_ns`, then uniform in `[current, min(max_ns, 3 * current))`.
    /// At `max_ns` it stays there. With `min_ns` 0 every length is 0.
    Jittered {
        /// The first length in nanoseconds.
        min_ns: u64,
        /// The greatest length in nanoseconds. A `min_ns` above it counts as `max_ns`.
        max_ns: u64,
    },
    /// Equal jitter: first `start_ns`; then for n = 2, 3, …: half = `start_ns` * 2^(n-2), and the length is half plus
    /// uniform in `[0, half)`. At `max_ns` it stays there.
    EqualJittered {
        /// The first length in nanoseconds.
        start_ns: u64,
        /// The greatest length in nanoseconds. A `start_ns` above it counts as `max_ns`.
        max_ns: u64,
    },
}

impl Default for Backoff {
    /// Equal jitter from 5 s to 300 s. Source: data-plane reference section 10.
    fn default() -> Self {
        Self::EqualJittered { start_ns: 5_000_000_000, max_ns: 300_000_000_000 }
    }
}

/// A position in a schedule of pauses: of failure accrual, or of the retries of one request.
#[derive(Debug)]
pub struct Schedule {
    backoff: Backoff,
    /// How many lengths were handed out.
    step: u32,
    /// The last length handed out, nanoseconds.
    current: u64,
}

impl Schedule {
    /// The start of a schedule.
    #[must_use]
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, step: 0, current: 0 }
    }

    /// Back to the first length.
    pub(crate) fn reset(&mut self) {
        self.step = 0;
    }

    /// The next length in nanoseconds (data-plane reference section 10).
    pub fn advance(&mut self, rng: &mut dyn FnMut() -> u64) -> u64 {
        self.current = match self.backoff {
            Backoff::Constant { ns } => ns,
            Backoff::Jittered { min_ns, max_ns } => self.jittered(min_ns, max_ns, rng),
            Backoff::EqualJittered { start_ns, max_ns } => self.equal_jittered(start_ns, max_ns, rng),
        };
        self.step = self.step.saturating_add(1);
        self.current
    }

    fn jittered(&self, min_ns: u64, max_ns: u64, rng: &mut dyn FnMut() -> u64) -> u64 {
        if self.step == 0 {
            return min_ns.min(max_ns);
        }
        let bound = self.current.saturating_mul(3).min(max_ns);
        self.current + random::below(rng(), bound - self.current)
    }

    fn equal_jittered(&self, start_ns: u64, max_ns: u64, rng: &mut dyn FnMut() -> u64) -> u64 {
        if self.step == 0 {
            return start_ns.min(max_ns);
        }
        if self.current >= max_ns {
            return max_ns;
        }
        let doubled = 1u64.checked_shl(self.step - 1).unwrap_or(u64::MAX);
        let half = start_ns.saturating_mul(doubled);
        if half >= max_ns {
            return max_ns;
        }
        half.saturating_add(random::below(rng(), half)).min(max_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn lengths(backoff: Backoff, bits: u64, count: usize) -> Vec<u64> {
        let mut schedule = Schedule::new(backoff);
        (0..count).map(|_| schedule.advance(&mut || bits)).collect()
    }

    #[test]
    fn tables() {
        let default = Backoff::default();
        let low: Vec<u64> = [5, 5, 10, 20, 40, 80, 160, 300, 300].iter().map(|s| s * SECOND).collect();
        assert_eq!(lengths(default, 0, 9), low);
        let high: Vec<u64> = [5, 10, 20, 40, 80, 160, 300, 300].iter().map(|s| s * SECOND).collect();
        let got = lengths(default, u64::MAX, 8);
        assert!(got.iter().zip(&high).all(|(got, want)| want - got <= 1), "{got:?}");
        assert_eq!(lengths(Backoff::Constant { ns: 7 }, 3, 3), [7, 7, 7]);
        assert_eq!(lengths(Backoff::Jittered { min_ns: 10, max_ns: 100 }, 0, 3), [10, 10, 10]);
        assert_eq!(lengths(Backoff::Jittered { min_ns: 10, max_ns: 100 }, 1 << 63, 5), [10, 20, 40, 70, 85]);
        assert_eq!(lengths(Backoff::Jittered { min_ns: 200, max_ns: 100 }, 9, 2), [100, 100]);
    }

    #[test]
    fn never_above_the_cap_and_never_overflows() {
        for backoff in [
            Backoff::EqualJittered { start_ns: 0, max_ns: 0 },
            Backoff::EqualJittered { start_ns: 1, max_ns: u64::MAX },
            Backoff::EqualJittered { start_ns: u64::MAX, max_ns: 5 },
            Backoff::Jittered { min_ns: 0, max_ns: u64::MAX },
            Backoff::Jittered { min_ns: 1, max_ns: u64::MAX },
        ] {
            for bits in [0, 1 << 63, u64::MAX] {
                let got = lengths(backoff, bits, 200);
                assert!(got.windows(2).all(|pair| pair[0] <= pair[1]), "{backoff:?} {got:?}");
            }
        }
    }

    #[test]
    fn reset_starts_again() {
        let mut schedule = Schedule::new(Backoff::default());
        let mut rng = || 0;
        for _ in 0..6 {
            schedule.advance(&mut rng);
        }
        schedule.reset();
        assert_eq!(schedule.advance(&mut rng), 5 * SECOND);
        assert_eq!(schedule.advance(&mut rng), 5 * SECOND);
        assert_eq!(schedule.advance(&mut rng), 10 * SECOND);
    }
}
