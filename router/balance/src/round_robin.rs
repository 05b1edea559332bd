//! One endpoint after the other: the `roundRobin` balancer.
//!
//! It is for one weight class of one snapshot. It is not aware of load. Source: data-plane reference section 9, row
//! `roundRobin`. The reference cycles over those that were up at the last rebuild; here `UpSet` is kept up all the time.

use crate::balancer::Tally;
use crate::draw::{Candidate, Choice, Offer, Turn};
use crate::upset::UpSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whose turn it is.
#[derive(Debug)]
pub(crate) struct RoundRobin {
    /// The place to look at next.
    cursor: AtomicUsize,
    len: usize,
    up: UpSet,
}

impl RoundRobin {
    /// A cycle of `len` endpoints that starts at `start`.
    pub(crate) fn new(len: usize, start: u64, tally: &Arc<Tally>) -> Self {
        let cursor = AtomicUsize::new((start % (len as u64).max(1)) as usize);
        Self { cursor, len, up: UpSet::new(len, tally.clone()) }
    }

    /// The next open endpoint; after `max_effort` that were not, the next one that takes connections, or any.
    pub(crate) fn pick<'a, R: FnMut() -> u64>(&self, turn: &mut Turn<'a, R>) -> Option<Choice<'a>> {
        self.up.review(turn.members(), turn.now(), |_| {});
        let mut held = None;
        for _ in 0..turn.effort() {
            let Some(candidate) = self.up_slot().and_then(|slot| turn.candidate(slot)) else { break };
            match turn.offer(candidate) {
                Offer::Taken(choice) => return Some(choice),
                Offer::Held(candidate) => held = held.or(Some(candidate)),
                Offer::Busy(candidate) => self.up.mark_down(candidate.slot()),
            }
        }
        held.or_else(|| self.last_resort(turn)).map(|candidate| turn.settle_for(candidate))
    }

    /// Nothing was open: the next one that takes connections, else the next one.
    fn last_resort<'a, R: FnMut() -> u64>(&self, turn: &Turn<'a, R>) -> Option<Candidate<'a>> {
        let mut first = None;
        for _ in 0..turn.effort() {
            let candidate = turn.candidate(self.up_slot().unwrap_or_else(|| self.any_slot()))?;
            if candidate.takes_connections() {
                return Some(candidate);
            }
            first = first.or(Some(candidate));
        }
        first
    }

    /// The next one that is up. The cursor moves behind it, so that a gap of endpoints that are down does not double the
    /// share of the one after it.
    fn up_slot(&self) -> Option<usize> {
        loop {
            let seen = self.cursor.load(Ordering::Relaxed);
            let slot = self.up.next(seen)?;
            let next = if slot + 1 < self.len { slot + 1 } else { 0 };
            if self.cursor.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Some(slot);
            }
        }
    }

    /// The next one when none is up.
    fn any_slot(&self) -> usize {
        let seen = self.cursor.load(Ordering::Relaxed);
        let next = if seen + 1 < self.len { seen + 1 } else { 0 };
        // Whoever loses the race takes the same one; all are down.
        let _ = self.cursor.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed);
        seen
    }
}
