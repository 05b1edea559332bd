//! A tournament of numbers that many threads change at once: which one is the least?
//!
//! It is for `heap`. It is not a queue: nothing is taken out. It knows nothing of endpoints.
//!
//! The leaves are the numbers, and every node above holds the least of its 16 children, so 10,000 leaves make four
//! levels. A change is two steps per level: read what is below, and swap it in. A node is one word, its number beside a
//! version that every swap raises. Two attempts per node are enough: when both fail, whoever won the second began to read
//! after this change was made, so that its number has this change in it, and it goes on upwards itself. (This is the
//! f-array of Jayanti, 2002.) There is no lock and no loop without a bound. All accesses are sequentially consistent,
//! because the argument needs one order of changes and reads.

use crate::random;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const FAN_OUT: usize = 16;

/// See the module. Keys are any 32-bit numbers.
#[derive(Debug)]
pub(crate) struct MinTree {
    /// The leaves first, the root last.
    levels: Vec<Box<[AtomicU64]>>,
}

impl MinTree {
    /// A tree of the given leaves.
    pub(crate) fn new(keys: impl Iterator<Item = u32>) -> Self {
        let mut level: Vec<u32> = keys.collect();
        let mut levels = Vec::new();
        loop {
            levels.push(level.iter().map(|key| AtomicU64::new(u64::from(*key))).collect());
            if level.len() <= 1 {
                return Self { levels };
            }
            level = level.chunks(FAN_OUT).map(|chunk| chunk.iter().copied().min().unwrap_or(u32::MAX)).collect();
        }
    }

    /// The least key; the greatest number if there are no leaves.
    pub(crate) fn least(&self) -> u32 {
        self.levels.last().and_then(|level| level.first()).map_or(u32::MAX, |root| key(root.load(SeqCst)))
    }

    /// The key of a leaf.
    pub(crate) fn leaf(&self, slot: usize) -> u32 {
        self.levels.first().and_then(|level| level.get(slot)).map_or(u32::MAX, |leaf| key(leaf.load(SeqCst)))
    }

    /// The key of leaf `slot` may have changed. `read` gives the present one and may be called twice.
    pub(crate) fn update(&self, slot: usize, read: impl Fn() -> u32) {
        let Some(leaf) = self.levels.first().and_then(|level| level.get(slot)) else { return };
        let mut changed = refresh(leaf, read);
        let mut index = slot;
        for pair in self.levels.windows(2) {
            let [below, above] = pair else { return };
            index /= FAN_OUT;
            let Some(node) = above.get(index) else { return };
            if !changed {
                return;
            }
            changed = refresh(node, || children(below, index).iter().map(|c| key(c.load(SeqCst))).min().unwrap_or(0));
        }
    }

    /// A leaf whose key is the least, as far as one can tell while others change. Ties are broken by `bits`.
    pub(crate) fn find_least(&self, mut bits: u64) -> usize {
        let mut index = 0;
        for level in self.levels.iter().rev().skip(1) {
            let mut keys = [u32::MAX; FAN_OUT];
            let nodes = children(level, index);
            keys.iter_mut().zip(nodes).for_each(|(key_here, node)| *key_here = key(node.load(SeqCst)));
            let keys = keys.get(..nodes.len()).unwrap_or(&[]);
            let least = keys.iter().copied().min().unwrap_or(u32::MAX);
            let ties = keys.iter().filter(|key| **key == least).count();
            let chosen = random::below(bits, ties as u64) as usize;
            bits = bits.rotate_left(16);
            let at = keys.iter().enumerate().filter(|(_, key)| **key == least).nth(chosen).map_or(0, |(at, _)| at);
            index = index * FAN_OUT + at;
        }
        index
    }
}

/// Puts what `read` gives into `node`. Says whether that changed its key, so that the node above must follow.
fn refresh(node: &AtomicU64, read: impl Fn() -> u32) -> bool {
    for _ in 0..2 {
        let seen = node.load(SeqCst);
        let wanted = read();
        let version = (seen >> 32).wrapping_add(1) << 32;
        if node.compare_exchange(seen, version | u64::from(wanted), SeqCst, SeqCst).is_ok() {
            return wanted != key(seen);
        }
    }
    false
}

fn children(level: &[AtomicU64], parent: usize) -> &[AtomicU64] {
    let start = (parent * FAN_OUT).min(level.len());
    level.get(start..(start + FAN_OUT).min(level.len())).unwrap_or(&[])
}

fn key(node: u64) -> u32 {
    (node & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn the_least_is_found_in_trees_of_any_size() {
        for len in [1, 2, 15, 16, 17, 255, 256, 257, 5000] {
            let keys: Vec<AtomicU32> = (0..len).map(|i| AtomicU32::new((i * 7919 % len + 1) as u32)).collect();
            let tree = MinTree::new(keys.iter().map(|key| key.load(SeqCst)));
            let least = tree.find_least(u64::MAX / 3);
            assert_eq!((tree.least(), tree.leaf(least)), (1, 1), "{len}");
            let set = |slot: usize, key: u32| {
                keys[slot].store(key, SeqCst);
                tree.update(slot, || keys[slot].load(SeqCst));
            };
            set(len - 1, 0);
            assert_eq!((tree.least(), tree.find_least(5)), (0, len - 1), "{len}");
            set(len - 1, u32::MAX);
            set(0, 0);
            assert_eq!((tree.least(), tree.find_least(5)), (0, 0), "{len}");
        }
        assert_eq!(MinTree::new(std::iter::empty()).least(), u32::MAX);
    }

    #[test]
    fn no_change_is_lost_among_threads() {
        const THREADS: u64 = 4;
        const LEAVES: usize = 18;
        let keys: Vec<AtomicU32> = (0..LEAVES).map(|_| AtomicU32::new(1000)).collect();
        let tree = MinTree::new(keys.iter().map(|key| key.load(SeqCst)));
        let (together, wrong) = (Barrier::new(THREADS as usize), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (keys, tree, together, wrong) = (&keys, &tree, &together, &wrong);
                scope.spawn(move || {
                    let mut bits = thread + 1;
                    for _ in 0..3000 {
                        for _ in 0..20 {
                            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                            let slot = random::below(bits, LEAVES as u64) as usize;
                            keys[slot].store((bits >> 20) as u32 % 3, SeqCst);
                            tree.update(slot, || {
                                // Others come between reading and swapping in.
                                let key = keys[slot].load(SeqCst);
                                std::thread::yield_now();
                                key
                            });
                        }
                        together.wait();
                        // No assertion here: the other threads would wait for ever.
                        let right = (0..LEAVES).all(|slot| tree.leaf(slot) == keys[slot].load(SeqCst))
                            && Some(tree.least()) == keys.iter().map(|key| key.load(SeqCst)).min()
                            && tree.leaf(tree.find_least(bits)) == tree.least();
                        wrong.fetch_add(u32::from(!right), SeqCst);
                        together.wait();
                    }
                });
            }
        });
        assert_eq!(wrong.load(SeqCst), 0, "rounds after which the tree was stale");
    }
}
