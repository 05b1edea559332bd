//! [`Bucket`]: so many events per second, a second's worth at once, and more for what else was done.
//!
//! Pure: the time is an argument. Called by `watch` for every frame that is counted, so it is two comparisons and a sum.

/// Nanoseconds of a second: what a full bucket holds.
const SECOND: u64 = 1_000_000_000;

/// A token bucket, kept as the time at which it will be full again.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Nanoseconds that an event uses up; 0 means no limit.
    cost: u64,
    /// When it is full again, if nothing more happens.
    full_at: u64,
    /// Events that were earned, beyond the rate.
    earned: u32,
    most_earned: u32,
}

impl Bucket {
    /// So many per second, and at most `most_earned` more at any time that were earned. 0 per second allows none but
    /// these, `u32::MAX` any number.
    pub(super) fn new(per_sec: u32, most_earned: u32) -> Bucket {
        let cost = if per_sec == 0 { u64::MAX } else { SECOND / u64::from(per_sec) };
        Bucket { cost, full_at: 0, earned: 0, most_earned }
    }

    /// Allows so many events more.
    pub(super) fn earn(&mut self, events: u32) {
        self.earned = self.earned.saturating_add(events).min(self.most_earned);
    }

    /// Counts an event at `now`, in nanoseconds; false if it is one too many.
    pub(super) fn take(&mut self, now: u64) -> bool {
        let full_at = self.full_at.max(now).saturating_add(self.cost);
        if full_at.saturating_sub(now) <= SECOND {
            self.full_at = full_at;
            return true;
        }
        let Some(left) = self.earned.checked_sub(1) else { return false };
        self.earned = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut Bucket, now: u64, tries: usize) -> usize {
        (0..tries).filter(|_| bucket.take(now)).count()
    }

    #[test]
    fn a_second_s_worth_at_once_then_the_rate() {
        let mut bucket = Bucket::new(1000, 0);
        assert_eq!(taken(&mut bucket, 5, 5000), 1000);
        assert_eq!(taken(&mut bucket, 5 + SECOND / 10, 5000), 100);
        assert_eq!(taken(&mut bucket, 5 + 60 * SECOND, 5000), 1000);
        // A clock that stands still or goes back gives nothing.
        assert_eq!(taken(&mut bucket, 0, 5000), 0);
    }

    #[test]
    fn what_is_earned_comes_on_top_and_is_bounded() {
        let mut bucket = Bucket::new(10, 25);
        bucket.earn(20);
        bucket.earn(u32::MAX);
        assert_eq!(taken(&mut bucket, 0, 100), 35);
        bucket.earn(1);
        assert_eq!(taken(&mut bucket, 0, 100), 1);
    }

    #[test]
    fn nothing_and_everything() {
        assert_eq!(taken(&mut Bucket::new(0, 0), 0, 10), 0);
        assert_eq!(taken(&mut Bucket::new(u32::MAX, 0), 0, 100_000), 100_000);
    }
}
