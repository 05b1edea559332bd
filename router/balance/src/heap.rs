//! The endpoint with the fewest outstanding leases of all: the `heap` balancer.
//!
//! It is for one weight class of one snapshot. Source: data-plane reference section 9, row `heap`.
//!
//! The reference keeps a binary heap under a lock. Here a tournament of atomics (`tree`) knows the least number of
//! leases; a pick walks down to it, and the start and the end of a lease each change one leaf. That is a lock-free
//! logarithm to the base 16, four levels for 10,000 endpoints. The rules that can be seen are those of the reference:
//! the fewest leases win, endpoints that are not open are passed over, ties are broken at random. Among threads the
//! order is right but for the leases that start at that very moment.
//!
//! - An endpoint that is not open sorts behind all that are, from when a pick has met it until a review of `UpSet`.
//! - An endpoint in its slow start sorts between: it would otherwise get every request until it has as many as the
//!   others. It is offered a request when a random draw hits it, as far along as its start is, and only if nobody has
//!   fewer leases.
//! - A lease may end after its snapshot was replaced. The snapshot is then retired, and the end is told to the one that
//!   took its place. This is the only lock here; no pick takes it.

use crate::balancer::Tally;
use crate::draw::{Choice, Turn};
use crate::endpoint::Endpoint;
use crate::random;
use crate::tree::MinTree;
use crate::upset::UpSet;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Sorts behind all endpoints that are open.
const DOWN: u32 = 1 << 31;
/// Sorts behind all endpoints that are open and not new.
const WARM: u32 = 1 << 30;
const MAX_LOAD: u32 = WARM - 1;

/// Where an endpoint is: its heap, and its place in it.
type Place = (Arc<Heap>, usize);

/// The heaps of the present snapshot of one client.
#[derive(Debug, Default)]
pub(crate) struct Heaps {
    /// By uid.
    present: Mutex<HashMap<u64, Place>>,
}

impl Heaps {
    /// Makes `next`, heaps with their members, those of the snapshot that is being made.
    pub(crate) fn replace(&self, next: &[(Arc<Heap>, &[Arc<Endpoint>])], now: u64) {
        let place =
            |heap: &Arc<Heap>, (slot, endpoint): (usize, &Arc<Endpoint>)| (endpoint.uid(), (heap.clone(), slot));
        let places =
            next.iter().flat_map(|(heap, members)| members.iter().enumerate().map(move |member| place(heap, member)));
        let old = std::mem::replace(&mut *self.lock(), places.collect());
        old.values().for_each(|(heap, _)| heap.retired.store(true, Ordering::SeqCst));
        // Whoever ended a lease before it could see the retirement has changed the load before this reads it.
        for (heap, members) in next {
            members.iter().enumerate().for_each(|(slot, endpoint)| heap.refresh(slot, endpoint, now));
        }
    }

    fn changed(&self, endpoint: &Endpoint, now: u64) {
        if let Some((heap, slot)) = self.lock().get(&endpoint.uid()) {
            heap.refresh(*slot, endpoint, now);
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<u64, Place>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Heap {
    tree: MinTree,
    up: UpSet,
    /// When the next slow start is over, nanoseconds; the greatest number if there is none.
    next_warm: AtomicU64,
    retired: AtomicBool,
    heaps: Weak<Heaps>,
}

impl Heap {
    /// A heap of `members`, none of which is known to be down.
    pub(crate) fn new(members: &[Arc<Endpoint>], heaps: &Arc<Heaps>, tally: &Arc<Tally>, now: u64) -> Self {
        let key = |endpoint: &Arc<Endpoint>| key(endpoint, true, now);
        Self {
            tree: MinTree::new(members.iter().map(key)),
            up: UpSet::new(members.len(), tally.clone()),
            next_warm: AtomicU64::new(next_warm(members, now)),
            retired: AtomicBool::new(false),
            heaps: Arc::downgrade(heaps),
        }
    }

    /// A lease on `endpoint`, which is at `slot`, started or ended.
    pub(crate) fn changed(&self, slot: usize, endpoint: &Endpoint, now: u64) {
        self.refresh(slot, endpoint, now);
        if self.retired.load(Ordering::SeqCst)
            && let Some(heaps) = self.heaps.upgrade()
        {
            heaps.changed(endpoint, now);
        }
    }

    fn refresh(&self, slot: usize, endpoint: &Endpoint, now: u64) {
        self.tree.update(slot, || key(endpoint, self.up.is_up(slot), now));
    }

    /// The open endpoint with the fewest leases, or the best of some drawn when none is open. A pick that meets
    /// endpoints which are newly down puts each of them behind once, for all picks after it.
    pub(crate) fn pick<'a, R: FnMut() -> u64>(&self, turn: &mut Turn<'a, R>) -> Option<Choice<'a>> {
        let members = turn.members();
        self.review(members, turn.now());
        for _ in 0..=members.len() {
            let least = self.tree.least();
            if least >= DOWN {
                break;
            }
            let slot = self.least_slot(least, turn);
            if let Some(choice) = turn.candidate(slot).and_then(|candidate| turn.take(candidate)) {
                return Some(choice);
            }
            self.up.mark_down(slot);
            if let Some(endpoint) = members.get(slot) {
                self.refresh(slot, endpoint, turn.now());
            }
        }
        turn.of_two(members.len(), None)
    }

    /// One whose key is the least. A random one first: so ties are even, and most picks of idle endpoints end here.
    fn least_slot<R: FnMut() -> u64>(&self, least: u32, turn: &mut Turn<'_, R>) -> usize {
        let bits = turn.bits();
        let guess = random::below(bits, turn.members().len() as u64) as usize;
        let found = self.tree.leaf(guess);
        let offered = found & DOWN == 0 && found & WARM != 0 && found & MAX_LOAD <= least;
        if found == least
            || (offered && turn.members().get(guess).is_some_and(|endpoint| turn.is_warm_enough(endpoint)))
        {
            return guess;
        }
        self.tree.find_least(bits.rotate_left(32))
    }

    /// Sorts in again who is open again and whose slow start is over.
    fn review(&self, members: &[Arc<Endpoint>], now: u64) {
        let back = |slot: usize| {
            if let Some(endpoint) = members.get(slot) {
                self.refresh(slot, endpoint, now);
            }
        };
        self.up.review(members, now, back);
        let due = self.next_warm.load(Ordering::Relaxed);
        if now >= due {
            let next = next_warm(members, now);
            if self.next_warm.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                (0..members.len()).filter(|slot| self.tree.leaf(*slot) & WARM != 0).for_each(back);
            }
        }
    }
}

/// What an endpoint is sorted by.
fn key(endpoint: &Endpoint, up: bool, now: u64) -> u32 {
    let load = endpoint.load().min(MAX_LOAD);
    let warm = if endpoint.warm_until(now).is_some() { WARM } else { 0 };
    load | warm | if up { 0 } else { DOWN }
}

fn next_warm(members: &[Arc<Endpoint>], now: u64) -> u64 {
    members.iter().filter_map(|endpoint| endpoint.warm_until(now)).min().unwrap_or(u64::MAX)
}
