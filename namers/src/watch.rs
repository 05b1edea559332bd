//! [`WatchTable`]: the one generic struct under all namers: *key → stream of values*.
//!
//! A [`Source`] knows how to watch one key. The table owns the rest: one task per live key however many readers, back-off
//! after errors, last-known-good in memory and on disk, a bound on silence, a list now and then that finds what the watch
//! has missed, ages for the admin pages, unsubscribe by drop, a bound on the number of keys, and containment of panics.
//! Called by the namers of this crate. Not for: what a key or a value means.

use crate::supervise::supervise;
use crate::watched::{Rules, WatchSums};
use crate::watches::{Discovery, WatchList};
use dtab::{Activity, BoxFuture, State};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

pub(crate) use crate::supervise::panic_text;
pub use crate::watched::{WatchReport, Watched};

/// What the table before knew is kept for so long for keys that are not asked for.
const INHERITED: Duration = Duration::from_secs(60);

/// What a key of a table must be.
pub trait Key: Clone + Eq + Hash + Display + Send + Sync + 'static {}
impl<T: Clone + Eq + Hash + Display + Send + Sync + 'static> Key for T {}

/// What a value of a table must be.
pub trait Val: Clone + PartialEq + Send + Sync + 'static {}
impl<T: Clone + PartialEq + Send + Sync + 'static> Val for T {}

/// Watches keys.
pub trait Source<K, V>: Send + Sync + 'static {
    /// Watches `key` and reports through `out` until the future is dropped.
    ///
    /// `Ok(())` means that the last value reported will never change; the entry stays until nobody reads it. An error is
    /// reported like [`Watched::failed`] and the watch is started again after a back-off. So is one that reports nothing
    /// for longer than [`WatchOptions::silent_after`] without having said so by [`Watched::quiet_for`].
    fn run(&self, key: K, out: Watched<V>) -> BoxFuture<'static, Result<(), SourceError>>;

    /// The value of `key` now, found without the watch: its differences from the watched value are drift (requirements
    /// P1.3). None, the default, for sources that ask anew each time anyway.
    fn relist(&self, _key: K) -> Option<BoxFuture<'static, Result<V, SourceError>>> {
        None
    }

    /// True for a value that says that nothing is there. Default: no value does.
    fn is_empty(&self, _value: &V) -> bool {
        false
    }

    /// The value for the snapshot on disk; None when it is not to be kept. Default none.
    fn save(&self, _value: &V) -> Option<serde_json::Value> {
        None
    }

    /// The value of [`Source::save`]; None when it is not one. Must not trust what it reads. Default none.
    fn restore(&self, _saved: &serde_json::Value) -> Option<V> {
        None
    }
}

/// Why a watch ended. The text is for the operator: what failed and for which name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Numbers of a table.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// How long a key without readers is kept. Default 5 s.
    pub linger: Duration,
    /// The same for a key without a value, or with an empty one. Default 5 s.
    pub negative_linger: Duration,
    /// Live keys at most. A further key takes the room of the longest unread one; when all are read it is Failed until
    /// there is room. Default 100 000.
    pub max_keys: usize,
    /// First back-off after an error; doubles with each error in a row. The wait is drawn evenly from half of the
    /// back-off to all of it. Default 100 ms. What has worked for longer than the next back-off resets it.
    pub min_backoff: Duration,
    /// Largest back-off. Default 5 s.
    pub max_backoff: Duration,
    /// A source that reports nothing for so long is started again. Default 60 s; zero for never.
    pub silent_after: Duration,
    /// How often the watched value is compared with a list. Default 60 s; zero for never.
    pub relist: Duration,
    /// How long an empty answer is held back, in place of a value and after a failure or a start. Default 5 s.
    pub empty_grace: Duration,
    /// The first answer of a source may take so long before a value from disk stands in. Default 1 s.
    pub first_answer: Duration,
}

impl Default for WatchOptions {
    fn default() -> WatchOptions {
        WatchOptions {
            linger: Duration::from_secs(5),
            negative_linger: Duration::from_secs(5),
            max_keys: 100_000,
            min_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            silent_after: Duration::from_secs(60),
            relist: Duration::from_secs(60),
            empty_grace: Duration::from_secs(5),
            first_answer: Duration::from_secs(1),
        }
    }
}

/// A table of live watches; cloning shares it.
pub struct WatchTable<K, V> {
    shared: Arc<Shared<K, V>>,
}

impl<K, V> Clone for WatchTable<K, V> {
    fn clone(&self) -> WatchTable<K, V> {
        WatchTable { shared: self.shared.clone() }
    }
}

pub(crate) struct Shared<K, V> {
    pub(crate) source: Arc<dyn Source<K, V>>,
    pub(crate) options: WatchOptions,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) live: Mutex<Live<K, V>>,
    /// Keys that wait for room. It grows under the lock of `live`, so that a key which then loses its last reader sees it.
    pub(crate) waiting: Arc<AtomicUsize>,
    rules: Arc<Rules<V>>,
    table: &'static str,
    handle: Handle,
    inherited: Mutex<Inherited<K, V>>,
}

/// What the table before this one knew, for keys that nobody has asked for yet.
struct Inherited<K, V> {
    values: HashMap<K, (V, SystemTime)>,
    /// No longer, so that nothing is kept for ever.
    until: Instant,
}

impl<K, V> Inherited<K, V> {
    /// The values whose time is not over.
    fn present(&mut self) -> &mut HashMap<K, (V, SystemTime)> {
        if !self.values.is_empty() && self.until <= Instant::now() {
            self.values = HashMap::new();
        }
        &mut self.values
    }
}

/// What a new key has of the room of its table.
pub(crate) enum Room {
    /// Its own.
    Has(OwnedSemaphorePermit),
    /// None yet; with a place in line unless somebody is leaving already.
    Needs(Option<InLine>),
}

/// A key that waits for another to lose its readers; left by drop.
pub(crate) struct InLine(Arc<AtomicUsize>);

impl InLine {
    fn new(waiting: &Arc<AtomicUsize>) -> InLine {
        waiting.fetch_add(1, Ordering::Relaxed);
        InLine(waiting.clone())
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The keys of a table, those that wait for room included.
pub(crate) struct Live<K, V> {
    keys: HashMap<K, Entry<V>>,
    /// Keys without readers, the longest first. One that is read again stays until it is looked at.
    lingering: BTreeMap<u64, K>,
    next: u64,
    /// With so many keys, those without readers go at once.
    crowded: usize,
}

struct Entry<V> {
    watched: Watched<V>,
    task: AbortHandle,
    lingers: Option<u64>,
}

impl<K: Key, V: Val> WatchTable<K, V> {
    /// An empty table; all its tasks run on `handle`. It has no part in metrics and no place on disk.
    pub fn new(source: impl Source<K, V>, options: WatchOptions, handle: Handle) -> WatchTable<K, V> {
        WatchTable::build(("", ""), "", Arc::new(source), options, &Discovery::new(handle))
    }

    /// An empty table of `namer`, which has one table of this name at most, as a part of `discovery`.
    pub fn within(
        discovery: &Discovery,
        namer: &str,
        table: &'static str,
        source: impl Source<K, V>,
        options: WatchOptions,
    ) -> WatchTable<K, V> {
        WatchTable::within_at(discovery, (namer, ""), table, source, options)
    }

    /// The same for a source that is somewhere: what is on disk is restored for that place alone.
    pub fn within_at(
        discovery: &Discovery,
        (namer, place): (&str, &str),
        table: &'static str,
        source: impl Source<K, V>,
        options: WatchOptions,
    ) -> WatchTable<K, V> {
        let made = WatchTable::build((namer, place), table, Arc::new(source), options, discovery);
        discovery.watches.add(made.shared.clone());
        made
    }

    fn build(
        (namer, place): (&str, &str),
        table: &'static str,
        source: Arc<dyn Source<K, V>>,
        options: WatchOptions,
        discovery: &Discovery,
    ) -> WatchTable<K, V> {
        let disk = discovery.snapshot.clone().map(|snapshot| {
            (
                snapshot,
                match place {
                    "" => format!("{namer} {table}"),
                    place => format!("{namer} {table} {place}"),
                },
            )
        });
        let rules = Arc::new(Rules::new(namer.into(), &source, &options, disk));
        let room = Arc::new(Semaphore::new(options.max_keys.min(Semaphore::MAX_PERMITS)));
        let live = Mutex::new(Live { keys: HashMap::new(), lingering: BTreeMap::new(), next: 0, crowded: 0 });
        let (waiting, handle) = (Arc::default(), discovery.handle.clone());
        let inherited = Mutex::new(Inherited { values: HashMap::new(), until: Instant::now() });
        let shared = Shared { source, options, room, live, waiting, rules, table, handle, inherited };
        WatchTable { shared: Arc::new(shared) }
    }

    /// Takes over what `old` knows: each value stands in for a key until its first answer, if it is asked for soon.
    pub(crate) fn inherit(&self, old: &WatchTable<K, V>) {
        let mut values = old.shared.inherited.lock().present().clone();
        let known = |(key, entry): (&K, &Entry<V>)| Some((key.clone(), entry.watched.known()?));
        values.extend(old.shared.live.lock().keys.iter().filter_map(known));
        let mut inherited = self.shared.inherited.lock();
        inherited.until = Instant::now() + INHERITED;
        let limit = self.shared.options.max_keys.saturating_sub(inherited.values.len());
        inherited.values.extend(values.into_iter().take(limit));
    }

    /// The value of `key` over time. The first reader starts the watch; it ends when the last has been gone for the
    /// linger. Callable from any thread. Failed while the table is full of keys that are read.
    pub fn get(&self, key: &K) -> Activity<V> {
        let shared = &self.shared;
        let mut live = shared.live.lock();
        if let Some(entry) = live.keys.get(key) {
            return entry.watched.publisher.subscribe();
        }
        let (publisher, activity) = Activity::channel();
        let watched = Watched::new(key.to_string().into(), publisher, shared.rules.clone());
        let room = match shared.room.clone().try_acquire_owned() {
            Ok(permit) => Room::Has(permit),
            Err(_) => Room::Needs(shared.make_room(&mut live, &watched)),
        };
        if let Some(known) = shared.inherited.lock().present().remove(key) {
            watched.stand_in(known);
        }
        let task = self.spawn(key, &watched, room);
        live.keys.insert(key.clone(), Entry { watched, task, lingers: None });
        activity
    }

    fn spawn(&self, key: &K, watched: &Watched<V>, room: Room) -> AbortHandle {
        let supervised = supervise(self.shared.clone(), key.clone(), watched.clone(), room);
        self.shared.handle.spawn(supervised).abort_handle()
    }

    /// Number of live keys, those that linger or wait for room included.
    pub fn len(&self) -> usize {
        self.shared.live.lock().keys.len()
    }

    /// True without live keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All live keys, sorted by their print.
    pub fn report(&self) -> Vec<WatchReport> {
        self.shared.report()
    }
}

impl<K: Key, V: Val> Shared<K, V> {
    /// Gives up the longest unread key. When there is none, tells the reader of the new one, which then is in line for the
    /// next.
    fn make_room(&self, live: &mut Live<K, V>, watched: &Watched<V>) -> Option<InLine> {
        self.rules.count("watch_table_full_total");
        if live.keys.len() >= live.crowded.max(2 * self.options.max_keys) {
            live.sweep();
        }
        if live.evict() {
            return None;
        }
        let limit = self.options.max_keys;
        let text = format!("cannot watch {} yet: the limit of {limit} watched names is reached", watched.name);
        watched.publisher.publish(State::Failed(text.into()));
        Some(InLine::new(&self.waiting))
    }

    fn all(&self) -> Vec<Watched<V>> {
        self.live.lock().keys.values().map(|entry| entry.watched.clone()).collect()
    }
}

impl<K: Key, V: Val> Live<K, V> {
    /// Notes that nobody reads the key; false when somebody does.
    pub(crate) fn linger(&mut self, key: &K) -> bool {
        let Some(entry) = self.keys.get_mut(key).filter(|entry| entry.watched.publisher.watchers() == 0) else {
            return false;
        };
        self.next += 1;
        if let Some(before) = entry.lingers.replace(self.next) {
            self.lingering.remove(&before);
        }
        self.lingering.insert(self.next, key.clone());
        true
    }

    /// Removes the key; false when somebody reads it.
    pub(crate) fn remove_unread(&mut self, key: &K) -> bool {
        let Some(entry) = self.keys.get_mut(key) else { return true };
        if let Some(before) = entry.lingers.take() {
            self.lingering.remove(&before);
        }
        let unread = entry.watched.publisher.watchers() == 0;
        if unread {
            self.keys.remove(key);
        }
        unread
    }

    /// Ends all watches without readers: new keys come faster than their tasks can see that their readers have gone.
    fn sweep(&mut self) {
        self.lingering.clear();
        self.keys.retain(|_, entry| {
            let read = entry.watched.publisher.watchers() > 0;
            if !read {
                entry.task.abort();
            }
            read
        });
        self.crowded = 2 * self.keys.len();
    }

    /// Ends the watch of the longest unread key; false when all are read.
    fn evict(&mut self) -> bool {
        while let Some((_, key)) = self.lingering.pop_first() {
            let Some(entry) = self.keys.get_mut(&key) else { continue };
            entry.lingers = None;
            if entry.watched.publisher.watchers() == 0 {
                entry.task.abort();
                self.keys.remove(&key);
                return true;
            }
        }
        false
    }
}

impl<K: Key, V: Val> WatchList for Shared<K, V> {
    fn namer(&self) -> &str {
        &self.rules.namer
    }

    fn table(&self) -> &'static str {
        self.table
    }

    fn report(&self) -> Vec<WatchReport> {
        let mut reports: Vec<WatchReport> = self.all().iter().map(Watched::report).collect();
        reports.sort_by(|a, b| a.key.cmp(&b.key));
        reports
    }

    fn sums(&self) -> WatchSums {
        let mut sums = WatchSums { limit: self.options.max_keys, ..WatchSums::default() };
        self.all().iter().for_each(|watched| watched.add_to(&mut sums));
        sums
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
