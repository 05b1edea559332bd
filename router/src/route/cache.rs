//! A bounded cache of things that are dear to make: path services and clients (config reference §4.1).
//!
//! Full: the least worthy, most idle entry that nobody uses goes; when all are in use, the caller gets a one-shot entry that is not
//! kept. Entries idle for longer than the TTL are swept; the least idle one always stays.

use crate::clock;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use telemetry::{Counter, Scope};

/// What the cache asks of its entries.
pub trait Entry {
    /// When it was last used, in nanoseconds of the process clock.
    fn last_used(&self) -> u64;
    /// True while it must not be thrown out.
    fn in_use(self: &Arc<Self>) -> bool;
    /// What its loss would cost: the lowest go first, whatever their age, so that a flood of names nobody serves, or of
    /// overrides, does not push out what carries traffic (attacks O13, N5).
    fn worth(&self) -> u8;
    /// Called when it leaves the cache.
    fn evicted(&self);
}

/// The cache and its counters (telemetry reference §4.4).
pub struct Cache<K, V> {
    entries: RwLock<HashMap<K, Arc<V>>>,
    capacity: usize,
    ttl_ns: u64,
    misses: Arc<Counter>,
    evicts: Arc<Counter>,
    expires: Arc<Counter>,
    oneshots: Arc<Counter>,
}

impl<K: Hash + Eq + Clone, V: Entry> Cache<K, V> {
    /// A cache of at most `capacity` entries, none with 0; `scope` is `bindcache/<what>`.
    pub fn new(capacity: usize, ttl_ns: u64, scope: &Scope) -> Cache<K, V> {
        Cache {
            entries: RwLock::new(HashMap::new()),
            capacity,
            ttl_ns,
            misses: scope.counter("misses"),
            evicts: scope.counter("evicts"),
            expires: scope.counter("expires"),
            oneshots: scope.counter("oneshots"),
        }
    }

    /// The entry for `key`, made by `make` on first sight. The flag says whether the cache keeps it.
    ///
    /// `make` runs without a lock, so that a name that is dear to bind holds up nobody; of two made at once the first
    /// to come back is kept.
    pub fn get_or_make(&self, key: &K, make: impl FnOnce() -> Arc<V>) -> (Arc<V>, bool) {
        if let Some(found) = self.entries.read().get(key) {
            return (found.clone(), true);
        }
        let made = make();
        let mut entries = self.entries.write();
        if let Some(found) = entries.get(key) {
            return (found.clone(), true);
        }
        if entries.len() >= self.capacity && !self.make_room(&mut entries) {
            self.oneshots.incr();
            return (made, false);
        }
        self.misses.incr();
        entries.insert(key.clone(), made.clone());
        (made, true)
    }

    /// Throws out the least worthy, most idle entry that nobody uses.
    fn make_room(&self, entries: &mut HashMap<K, Arc<V>>) -> bool {
        let idle = entries.iter().filter(|(_, entry)| !entry.in_use());
        let least = idle.min_by_key(|(_, entry)| (entry.worth(), entry.last_used()));
        let Some(key) = least.map(|(key, _)| key.clone()) else {
            return false;
        };
        if let Some(entry) = entries.remove(&key) {
            entry.evicted();
        }
        self.evicts.incr();
        true
    }

    /// Throws out what has been idle for longer than the TTL.
    pub fn sweep(&self) {
        let now = clock::now();
        let mut entries = self.entries.write();
        let newest = entries.values().map(|entry| entry.last_used()).max().unwrap_or_default();
        entries.retain(|_, entry| {
            let expired = now.saturating_sub(entry.last_used()) > self.ttl_ns && entry.last_used() < newest;
            let goes = expired && !entry.in_use();
            if goes {
                entry.evicted();
                self.expires.incr();
            }
            !goes
        });
    }

    /// Throws out everything.
    pub fn clear(&self) {
        for (_, entry) in self.entries.write().drain() {
            entry.evicted();
        }
    }

    /// All entries.
    pub fn all(&self) -> Vec<(K, Arc<V>)> {
        self.entries.read().iter().map(|(key, entry)| (key.clone(), entry.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    #[derive(Default)]
    struct Thing {
        worth: u8,
        used: AtomicU64,
        busy: AtomicBool,
        gone: AtomicBool,
    }

    impl Entry for Thing {
        fn last_used(&self) -> u64 {
            self.used.load(Ordering::Relaxed)
        }
        fn in_use(self: &Arc<Self>) -> bool {
            self.busy.load(Ordering::Relaxed)
        }
        fn worth(&self) -> u8 {
            self.worth
        }
        fn evicted(&self) {
            self.gone.store(true, Ordering::Relaxed);
        }
    }

    fn thing(used: u64, busy: bool) -> Arc<Thing> {
        Arc::new(Thing { worth: 0, used: used.into(), busy: busy.into(), gone: false.into() })
    }

    #[test]
    fn the_most_idle_entry_goes_and_busy_ones_stay() {
        let metrics = telemetry::Metrics::new();
        let cache: Cache<u32, Thing> = Cache::new(2, 1, &metrics.root());
        let (old, _) = cache.get_or_make(&1, || thing(1, true));
        let (newer, _) = cache.get_or_make(&2, || thing(2, false));
        let (_, kept) = cache.get_or_make(&3, || thing(3, true));
        assert!(kept && newer.gone.load(Ordering::Relaxed) && !old.gone.load(Ordering::Relaxed));
        let (_, kept) = cache.get_or_make(&4, || thing(4, false));
        assert!(!kept, "all entries are in use: a one-shot");
        assert_eq!((cache.misses.get(), cache.evicts.get(), cache.oneshots.get()), (3, 1, 1));
    }

    #[test]
    fn what_is_worth_least_goes_first() {
        let metrics = telemetry::Metrics::new();
        let cache: Cache<u32, Thing> = Cache::new(2, 1, &metrics.root());
        let worthy = Arc::new(Thing { worth: 3, ..Thing::default() });
        cache.get_or_make(&1, || worthy.clone());
        for scanned in 2..100 {
            cache.get_or_make(&scanned, || thing(u64::from(scanned), false));
        }
        assert!(!worthy.gone.load(Ordering::Relaxed), "older than all, and worth more");
    }

    #[test]
    fn a_sweep_keeps_the_least_idle() {
        let metrics = telemetry::Metrics::new();
        let cache: Cache<u32, Thing> = Cache::new(10, 0, &metrics.root());
        cache.get_or_make(&1, || thing(0, false));
        cache.get_or_make(&2, || thing(1, false));
        while clock::now() < 10 {}
        cache.sweep();
        assert_eq!(cache.all().len(), 1);
        assert_eq!(cache.all()[0].0, 2);
    }
}
