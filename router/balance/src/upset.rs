//! Which endpoints of a snapshot are believed to be open.
//!
//! It is for the balancers that must pass over bad endpoints without looking at each: `heap`, `aperture` and
//! `round_robin`. It is not the health of an endpoint: that is `accrual`. A balancer that meets an endpoint which is
//! not open marks it down here; a review, at most every [`REVIEW_NS`], brings back those that are open again. So a
//! change of health costs one mark, and not one look per pick.

use crate::balancer::Tally;
use crate::endpoint::Endpoint;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Endpoints marked down are looked at again at most this often: 10 ms, in nanoseconds.
const REVIEW_NS: u64 = 10_000_000;
const BITS: usize = u64::BITS as usize;

/// One bit per endpoint, by its place in the snapshot. Relaxed: a reader that is late looks at the endpoint itself.
#[derive(Debug)]
pub(crate) struct UpSet {
    /// Ones are down.
    words: Box<[AtomicU64]>,
    len: usize,
    down: AtomicUsize,
    next_review: AtomicU64,
    tally: Arc<Tally>,
}

impl UpSet {
    /// `len` endpoints, all up.
    pub(crate) fn new(len: usize, tally: Arc<Tally>) -> Self {
        let words = (0..len.div_ceil(BITS)).map(|_| AtomicU64::new(0)).collect();
        Self { words, len, down: AtomicUsize::new(0), next_review: AtomicU64::new(0), tally }
    }

    /// How many are up.
    pub(crate) fn count(&self) -> usize {
        self.len.saturating_sub(self.down.load(Ordering::Relaxed))
    }

    pub(crate) fn is_up(&self, slot: usize) -> bool {
        self.words.get(slot / BITS).is_some_and(|word| word.load(Ordering::Relaxed) & bit(slot) == 0)
    }

    /// Takes `slot` out until a review finds it open.
    pub(crate) fn mark_down(&self, slot: usize) {
        if let Some(word) = self.words.get(slot / BITS)
            && word.fetch_or(bit(slot), Ordering::Relaxed) & bit(slot) == 0
        {
            self.down.fetch_add(1, Ordering::Relaxed);
            self.tally.rebuilt();
        }
    }

    /// The `nth` of those that are up, from 0.
    pub(crate) fn nth(&self, mut nth: usize) -> Option<usize> {
        if self.down.load(Ordering::Relaxed) == 0 {
            return (nth < self.len).then_some(nth);
        }
        for index in 0..self.words.len() {
            let mut up = self.up_bits(index);
            let count = up.count_ones() as usize;
            if nth >= count {
                nth -= count;
                continue;
            }
            for _ in 0..nth {
                up &= up - 1;
            }
            return Some(index * BITS + up.trailing_zeros() as usize);
        }
        None
    }

    /// The first one that is up from `slot` on, beginning again at 0 after the last.
    pub(crate) fn next(&self, slot: usize) -> Option<usize> {
        let words = self.words.len();
        let start = slot / BITS;
        for step in 0..=words {
            let index = (start + step) % words.max(1);
            let mut up = self.up_bits(index);
            if step == 0 {
                up &= !(bit(slot) - 1);
            }
            if up != 0 {
                return Some(index * BITS + up.trailing_zeros() as usize);
            }
        }
        None
    }

    /// Brings back those of `members` that are open, and tells `restored` which; does nothing most of the time.
    pub(crate) fn review(&self, members: &[Arc<Endpoint>], now: u64, restored: impl Fn(usize)) {
        if self.down.load(Ordering::Relaxed) == 0 {
            return;
        }
        let due = self.next_review.load(Ordering::Relaxed);
        let next = now.saturating_add(REVIEW_NS);
        let mine =
            now >= due && self.next_review.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if mine {
            self.review_all(members, now, restored);
        }
    }

    #[cold]
    fn review_all(&self, members: &[Arc<Endpoint>], now: u64, restored: impl Fn(usize)) {
        for (index, word) in self.words.iter().enumerate() {
            let mut down = word.load(Ordering::Relaxed);
            while down != 0 {
                let slot = index * BITS + down.trailing_zeros() as usize;
                down &= down - 1;
                let open = members.get(slot).is_some_and(|endpoint| endpoint.standing(now).is_open());
                if open && word.fetch_and(!bit(slot), Ordering::Relaxed) & bit(slot) != 0 {
                    self.down.fetch_sub(1, Ordering::Relaxed);
                    self.tally.rebuilt();
                    restored(slot);
                }
            }
        }
    }

    /// The bits of those of one word that are up.
    fn up_bits(&self, index: usize) -> u64 {
        let Some(word) = self.words.get(index) else { return 0 };
        let here = self.len - index * BITS;
        let mask = if here >= BITS { u64::MAX } else { (1 << here) - 1 };
        !word.load(Ordering::Relaxed) & mask
    }
}

fn bit(slot: usize) -> u64 {
    1 << (slot % BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_up_over_word_borders() {
        let set = UpSet::new(130, Arc::default());
        assert_eq!((set.count(), set.nth(129), set.nth(130), set.next(129)), (130, Some(129), None, Some(129)));
        (0..130).filter(|slot| ![3, 64, 129].contains(slot)).for_each(|slot| set.mark_down(slot));
        set.mark_down(0);
        assert_eq!(set.count(), 3);
        assert_eq!([0, 1, 2, 3].map(|nth| set.nth(nth)), [Some(3), Some(64), Some(129), None]);
        let from = [(0, 3), (3, 3), (4, 64), (65, 129), (129, 129)];
        assert!(from.iter().all(|(slot, next)| set.next(*slot) == Some(*next)));
        set.mark_down(129);
        assert_eq!(set.next(65), Some(3));
        [3, 64].iter().for_each(|slot| set.mark_down(*slot));
        assert_eq!((set.next(7), set.nth(0), set.count()), (None, None, 0));
    }

    #[test]
    fn an_empty_one_is_harmless() {
        let set = UpSet::new(0, Arc::default());
        set.mark_down(3);
        assert_eq!((set.count(), set.nth(0), set.next(0), set.is_up(0)), (0, None, None, false));
    }
}
