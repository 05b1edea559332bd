//! A bounded cache of things that are dear to make: path services and clients (config reference §4.1).
//!
//! Full: the least worthy, most idle entry that nobody uses goes; when all are in use, the caller gets a one-shot entry that is not
//! kept. Entries idle for longer than the TTL are swept; the least idle one always stays. Those that serve nobody are swept
//! after 30 s, so that a flood of names does not keep its watches (requirements P11.5).

use crate::clock;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use telemetry::{Counter, GaugeGuard, Scope};

/// What serves nobody is kept for so long after its last use.
const WORTHLESS_TTL_NS: u64 = 30_000_000_000;

/// What the cache asks of its entries.
pub trait Entry {
    /// When it was last used, in nanoseconds of the process clock.
    fn last_used(&self) -> u64;
    /// True while it must not be thrown out.
    fn in_use(self: &Arc<Self>) -> bool;
    /// What its loss would cost: the lowest go first, whatever their age, so that a flood of names nobody serves, or of
    /// overrides, does not push out what carries traffic (attacks O13, N5).
    fn worth(&self) -> u8;
    /// Whose requests alone made it necessary. Such entries have a share of the cache per owner, and take the place of
    /// each other only, and of what is worth nothing (attack O13).
    fn owner(&self) -> Option<IpAddr> {
        None
    }
    /// Called when it leaves the cache.
    fn evicted(&self);
}

/// The entries, and how many each owner has.
struct Kept<K, V> {
    entries: HashMap<K, Arc<V>>,
    owned: HashMap<IpAddr, usize>,
}

/// The cache and its counters (telemetry reference §4.4).
pub struct Cache<K, V> {
    kept: Arc<RwLock<Kept<K, V>>>,
    capacity: usize,
    /// Most entries of one owner.
    share: usize,
    ttl_ns: u64,
    misses: Arc<Counter>,
    evicts: Arc<Counter>,
    expires: Arc<Counter>,
    oneshots: Arc<Counter>,
    gauges: Mutex<Vec<GaugeGuard>>,
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Entry + Send + Sync + 'static,
{
    /// A cache of at most `capacity` entries, none with 0; `scope` is `bindcache/<what>`. Its gauges `size` and `limit` are
    /// Switchyard's own.
    pub fn new(capacity: usize, ttl_ns: u64, scope: &Scope) -> Cache<K, V> {
        let kept = Arc::new(RwLock::new(Kept::<K, V> { entries: HashMap::new(), owned: HashMap::new() }));
        let counted = kept.clone();
        Cache {
            kept,
            capacity,
            share: capacity,
            ttl_ns,
            misses: scope.counter("misses"),
            evicts: scope.counter("evicts"),
            expires: scope.counter("expires"),
            oneshots: scope.counter("oneshots"),
            gauges: Mutex::new(vec![
                scope.gauge("size", move || counted.read().entries.len() as f64),
                scope.gauge("limit", move || capacity as f64),
            ]),
        }
    }

    /// The same, with at most `share` entries of one owner.
    pub fn with_share(mut self, share: usize) -> Cache<K, V> {
        self.share = share;
        self
    }

    /// The entry for `key`, if there is one.
    pub fn peek(&self, key: &K) -> Option<Arc<V>> {
        self.kept.read().entries.get(key).cloned()
    }

    /// The entry for `key`, made by `make` on first sight. The flag says whether the cache keeps it.
    ///
    /// `make` runs without a lock, so that a name that is dear to bind holds up nobody; of two made at once the first
    /// to come back is kept.
    pub fn get_or_make(&self, key: &K, make: impl FnOnce() -> Arc<V>) -> (Arc<V>, bool) {
        if let Some(found) = self.kept.read().entries.get(key) {
            return (found.clone(), true);
        }
        let made = make();
        let mut kept = self.kept.write();
        if let Some(found) = kept.entries.get(key) {
            return (found.clone(), true);
        }
        if !self.make_room(&mut kept, made.owner()) {
            self.oneshots.incr();
            return (made, false);
        }
        self.misses.incr();
        kept.insert(key.clone(), made.clone());
        (made, true)
    }

    /// Sees to it that there is room for one more entry of `owner`; false when there can be none.
    fn make_room(&self, kept: &mut Kept<K, V>, owner: Option<IpAddr>) -> bool {
        let has_share = owner.is_none_or(|owner| kept.owned.get(&owner).is_none_or(|count| *count < self.share));
        let full = kept.entries.len() >= self.capacity;
        match (has_share, full) {
            (true, false) => true,
            (false, _) => self.throw_out(kept, |entry| entry.owner() == owner),
            // Names that serve nobody, which a scan leaves behind, are in nobody's way either.
            (true, true) if owner.is_some() => {
                self.throw_out(kept, |entry| entry.owner().is_some() || entry.worth() == 0)
            }
            (true, true) => self.throw_out(kept, |_| true),
        }
    }

    /// Throws out the least worthy, most idle entry of a kind that nobody uses.
    fn throw_out(&self, kept: &mut Kept<K, V>, kind: impl Fn(&V) -> bool) -> bool {
        let idle = kept.entries.iter().filter(|(_, entry)| kind(entry) && !entry.in_use());
        let least = idle.min_by_key(|(_, entry)| (entry.worth(), entry.last_used()));
        let Some(key) = least.map(|(key, _)| key.clone()) else {
            return false;
        };
        if let Some(entry) = kept.remove(&key) {
            entry.evicted();
        }
        self.evicts.incr();
        true
    }

    /// Throws out what has been idle for longer than the TTL, and sooner what serves nobody.
    pub fn sweep(&self) {
        let now = clock::now();
        let mut kept = self.kept.write();
        let newest = kept.entries.values().map(|entry| entry.last_used()).max().unwrap_or_default();
        let goes = |entry: &Arc<V>| {
            let idle = now.saturating_sub(entry.last_used());
            let expired = idle > self.ttl_of(entry) && entry.last_used() < newest;
            expired && !entry.in_use()
        };
        let old: Vec<K> = kept.entries.iter().filter(|(_, entry)| goes(entry)).map(|(key, _)| key.clone()).collect();
        for entry in old.iter().filter_map(|key| kept.remove(key)) {
            entry.evicted();
            self.expires.incr();
        }
    }

    /// Throws out everything, for good: it shows in no metric any more.
    pub fn retire(&self) {
        self.gauges.lock().clear();
        let mut kept = self.kept.write();
        kept.owned.clear();
        for (_, entry) in kept.entries.drain() {
            entry.evicted();
        }
    }

    fn ttl_of(&self, entry: &V) -> u64 {
        if entry.worth() == 0 { self.ttl_ns.min(WORTHLESS_TTL_NS) } else { self.ttl_ns }
    }

    /// All entries.
    pub fn all(&self) -> Vec<(K, Arc<V>)> {
        self.kept.read().entries.iter().map(|(key, entry)| (key.clone(), entry.clone())).collect()
    }
}

impl<K: Hash + Eq, V: Entry> Kept<K, V> {
    fn insert(&mut self, key: K, entry: Arc<V>) {
        if let Some(owner) = entry.owner() {
            *self.owned.entry(owner).or_default() += 1;
        }
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &K) -> Option<Arc<V>> {
        let entry = self.entries.remove(key)?;
        if let Some(owner) = entry.owner()
            && let Some(count) = self.owned.get_mut(&owner)
        {
            *count -= 1;
            if *count == 0 {
                self.owned.remove(&owner);
            }
        }
        Some(entry)
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
        owner: Option<IpAddr>,
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
        fn owner(&self) -> Option<IpAddr> {
            self.owner
        }
        fn evicted(&self) {
            self.gone.store(true, Ordering::Relaxed);
        }
    }

    fn thing(used: u64, busy: bool) -> Arc<Thing> {
        Arc::new(Thing { used: used.into(), busy: busy.into(), ..Thing::default() })
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
    fn an_owner_has_a_share_and_takes_nothing_else() {
        let metrics = telemetry::Metrics::new();
        let cache: Cache<u32, Thing> = Cache::new(10, 0, &metrics.root()).with_share(3);
        let owned = |by: [u8; 4], used: u32| {
            Arc::new(Thing { owner: Some(by.into()), worth: 1, used: u64::from(used).into(), ..Thing::default() })
        };
        for key in 0..4 {
            cache.get_or_make(&key, || Arc::new(Thing { worth: 2, ..Thing::default() }));
        }
        for key in 100..200 {
            assert!(cache.get_or_make(&key, || owned([10, 0, 0, 1], key)).1);
        }
        let keys = |cache: &Cache<u32, Thing>| {
            let mut keys: Vec<u32> = cache.all().into_iter().map(|(key, _)| key).collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(keys(&cache), [0, 1, 2, 3, 197, 198, 199]);
        for (key, by) in [(200, 2), (201, 2), (202, 2), (203, 3), (204, 3)] {
            assert!(cache.get_or_make(&key, || owned([10, 0, 0, by], key)).1);
        }
        assert_eq!(keys(&cache), [0, 1, 2, 3, 199, 200, 201, 202, 203, 204], "the oldest of another owner, no more");
        for key in 4..14 {
            assert!(cache.get_or_make(&key, || thing(1000, false)).1);
        }
        cache.sweep();
        let count = cache.kept.read().owned.values().sum::<usize>();
        assert_eq!(count, keys(&cache).iter().filter(|key| **key >= 100).count(), "the shares are kept up");
    }

    #[test]
    fn an_owner_takes_the_place_of_what_serves_nobody() {
        let metrics = telemetry::Metrics::new();
        let cache: Cache<u32, Thing> = Cache::new(3, 1, &metrics.root()).with_share(2);
        let worthy = Arc::new(Thing { worth: 2, ..Thing::default() });
        cache.get_or_make(&1, || worthy.clone());
        for scanned in 2..100 {
            cache.get_or_make(&scanned, || thing(u64::from(scanned), false));
        }
        for key in 100..103 {
            let owned = Thing { owner: Some([10, 0, 0, 1].into()), worth: 1, used: 1.into(), ..Thing::default() };
            assert!(cache.get_or_make(&key, || Arc::new(owned)).1, "kept, although the cache is full of other names");
        }
        assert_eq!(cache.oneshots.get(), 0);
        assert!(!worthy.gone.load(Ordering::Relaxed));
    }

    #[test]
    fn what_serves_nobody_is_kept_for_less_long() {
        let metrics = telemetry::Metrics::new();
        let worthy = Thing { worth: 1, ..Thing::default() };
        for (ttl, worthless) in [(600_000_000_000, WORTHLESS_TTL_NS), (1_000_000_000, 1_000_000_000)] {
            let cache: Cache<u32, Thing> = Cache::new(2, ttl, &metrics.root());
            assert_eq!((cache.ttl_of(&worthy), cache.ttl_of(&Thing::default())), (ttl, worthless));
        }
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
