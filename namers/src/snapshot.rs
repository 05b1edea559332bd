//! [`Snapshot`]: what the watch tables last knew, on disk, so that a router that starts while discovery is away serves
//! what it served before (requirements P2.2).
//!
//! A table saves every value that its source has seen and reads one back where the source is silent or fails. Writes are
//! gathered, bounded and never in the way: whatever goes wrong with the disk is logged, counted and otherwise ignored.
//! Called by `watched` and the linker. Not for: the file itself (see `snapshot_file`).

use crate::snapshot_file::{self as file, Record};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// Changes within this time are one write.
const GATHER: Duration = Duration::from_secs(1);
/// So often the file is written although nothing changed, so that the ages in it are true.
const RENEW: Duration = Duration::from_secs(60);
/// After a write that failed the next one waits so long.
const RETRY: Duration = Duration::from_secs(10);
/// A write that takes long is not done again before this many times its length.
const EASE: u32 = 20;
/// A larger value is not kept.
const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// Numbers of a snapshot.
#[derive(Debug, Clone)]
pub struct SnapshotOptions {
    /// Entries at most; those that nobody reads go first, the longest unused before others. Default 20 000.
    pub max_entries: usize,
    /// Bytes of all values at most. Default 32 MB.
    pub max_bytes: usize,
    /// An entry that nobody wanted for so long is dropped. Default 7 days.
    pub retention: Duration,
}

impl Default for SnapshotOptions {
    fn default() -> SnapshotOptions {
        let retention = Duration::from_secs(7 * 24 * 3600);
        SnapshotOptions { max_entries: 20_000, max_bytes: 32 * 1024 * 1024, retention }
    }
}

/// Numbers for admin pages.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotReport {
    /// The state folder.
    pub folder: PathBuf,
    /// Entries in memory.
    pub entries: usize,
    /// Bytes of their values.
    pub bytes: usize,
    /// Since the file on disk was written, by this process or one before; None while there is none.
    pub age: Option<Duration>,
    /// Why the last write failed; None after one that did not.
    pub problem: Option<String>,
}

/// See the module; shared by all tables.
pub struct Snapshot {
    folder: PathBuf,
    options: SnapshotOptions,
    state: Mutex<State>,
    /// One write at a time.
    writing: Mutex<Option<std::fs::File>>,
    dirty: Arc<Notify>,
}

#[derive(Default)]
struct State {
    entries: HashMap<(String, String), Entry>,
    bytes: usize,
    changed: bool,
    confirmed: bool,
    written: Option<u64>,
    problem: Option<String>,
}

struct Entry {
    value: Value,
    bytes: usize,
    seen: u64,
    used: u64,
    readers: usize,
}

/// What the file of `folder` has of a key, and how long ago that was seen, for whoever has not opened the snapshot. None
/// also for a file that cannot be used: opening it will say why.
pub(crate) fn on_disk(folder: &std::path::Path, table: &str, key: &str) -> Option<(Value, Duration)> {
    let (records, _) = file::read(folder).ok()??;
    let fresh = |record: &Record| since(record.used) <= SnapshotOptions::default().retention;
    let found = records.into_iter().find(|record| record.table == table && record.key == key).filter(fresh)?;
    Some((found.value, since(found.seen)))
}

/// Now, in milliseconds since the epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Time from `then` to now; zero when the clock went back.
fn since(then: u64) -> Duration {
    Duration::from_millis(now().saturating_sub(then))
}

impl Snapshot {
    /// Reads what the folder has, and keeps it up to date from `handle`. Never fails: a folder that cannot be used is
    /// logged and counted, and the snapshot is in memory only until it can.
    pub fn open(folder: PathBuf, options: SnapshotOptions, handle: &Handle) -> Arc<Snapshot> {
        let snapshot =
            Snapshot { folder, options, state: Mutex::default(), writing: Mutex::default(), dirty: Arc::default() };
        snapshot.load();
        let snapshot = Arc::new(snapshot);
        handle.spawn(keep(Arc::downgrade(&snapshot), snapshot.dirty.clone()));
        snapshot
    }

    fn load(&self) {
        match file::read(&self.folder) {
            Ok(None) => tracing::info!(folder = %self.folder.display(), "no snapshot of names yet"),
            Ok(Some((records, written))) => {
                let mut state = self.state.lock();
                let fresh = |record: &Record| since(record.used) <= self.options.retention;
                for record in records.into_iter().filter(fresh).take(self.options.max_entries) {
                    let bytes = record.value.to_string().len();
                    let Record { table, key, seen, used, value } = record;
                    state.bytes += bytes;
                    state.entries.insert((table, key), Entry { value, bytes, seen, used, readers: 0 });
                }
                state.written = Some(written);
                let (entries, age) = (state.entries.len(), since(written));
                tracing::info!(folder = %self.folder.display(), entries, ?age, "snapshot of names read");
            }
            Err(reason) => {
                metrics::counter!("snapshot_load_failures_total").increment(1);
                tracing::warn!("{reason}; the router starts without what it knew before");
                file::set_aside(&self.folder);
            }
        }
    }

    /// What was last seen of a key, and how long ago. Marks it as wanted.
    pub(crate) fn restore(&self, table: &str, key: &str) -> Option<(Value, SystemTime)> {
        let mut state = self.state.lock();
        let entry = state.entries.get_mut(&(table.to_owned(), key.to_owned()))?;
        entry.used = now();
        Some((entry.value.clone(), UNIX_EPOCH + Duration::from_millis(entry.seen)))
    }

    /// Notes how many watches of a key there are: those with any go last.
    pub(crate) fn read_by(&self, table: &str, key: &str, more: bool) {
        if let Some(entry) = self.state.lock().entries.get_mut(&(table.to_owned(), key.to_owned())) {
            entry.readers = if more { entry.readers + 1 } else { entry.readers.saturating_sub(1) };
            entry.used = now();
        }
    }

    /// The value of a key, as seen now by one watch.
    pub(crate) fn save(&self, table: &str, key: &str, value: Value) {
        let bytes = value.to_string().len();
        if bytes > MAX_VALUE_BYTES {
            tracing::debug!(table, key, bytes, "too large for the snapshot");
            return self.remove(table, key);
        }
        let mut state = self.state.lock();
        let (seen, id) = (now(), (table.to_owned(), key.to_owned()));
        let readers = match state.entries.get_mut(&id) {
            Some(entry) if entry.value == value => {
                (entry.seen, entry.used) = (seen, seen);
                state.confirmed = true;
                return;
            }
            Some(entry) => entry.readers,
            None => 1,
        };
        if let Some(old) = state.entries.insert(id, Entry { value, bytes, seen, used: seen, readers }) {
            state.bytes -= old.bytes;
        }
        state.bytes += bytes;
        state.changed = true;
        state.shrink(&self.options);
        drop(state);
        self.dirty.notify_one();
    }

    /// The key was seen again as it is. False when it is not here, because it never was or had to go.
    pub(crate) fn confirm(&self, table: &str, key: &str) -> bool {
        let mut state = self.state.lock();
        let Some(entry) = state.entries.get_mut(&(table.to_owned(), key.to_owned())) else { return false };
        entry.seen = now();
        entry.used = entry.seen;
        state.confirmed = true;
        true
    }

    /// The key is gone for certain.
    pub(crate) fn remove(&self, table: &str, key: &str) {
        let mut state = self.state.lock();
        if let Some(old) = state.entries.remove(&(table.to_owned(), key.to_owned())) {
            state.bytes -= old.bytes;
            state.changed = true;
            drop(state);
            self.dirty.notify_one();
        }
    }

    /// Writes what has changed, at once; blocks. Called at the end of the process.
    pub fn flush(&self) {
        if self.has_news() {
            self.write();
        }
    }

    fn has_news(&self) -> bool {
        let state = self.state.lock();
        state.changed || state.confirmed
    }

    /// For admin pages and metrics.
    pub fn report(&self) -> SnapshotReport {
        let state = self.state.lock();
        SnapshotReport {
            folder: self.folder.clone(),
            entries: state.entries.len(),
            bytes: state.bytes,
            age: state.written.map(since),
            problem: state.problem.clone(),
        }
    }

    /// Sets the gauges.
    pub fn publish_metrics(&self) {
        let report = self.report();
        metrics::gauge!("snapshot_entries").set(report.entries as f64);
        metrics::gauge!("snapshot_entries_limit").set(self.options.max_entries as f64);
        metrics::gauge!("snapshot_bytes").set(report.bytes as f64);
        if let Some(age) = report.age {
            metrics::gauge!("snapshot_age_seconds").set(age.as_secs_f64());
        }
    }

    /// Writes the file; true when the disk has it.
    fn write(&self) -> bool {
        let mut claimed = self.writing.lock();
        let (records, changed, written) = {
            let mut state = self.state.lock();
            state.forget(self.options.retention);
            (state.records(), std::mem::take(&mut state.changed), now())
        };
        let outcome = self.claimed(&mut claimed).and_then(|()| {
            let text = file::encode(records.iter(), written);
            file::write(&self.folder, &text).map_err(|error| error.to_string())
        });
        let mut state = self.state.lock();
        let problem = outcome.err();
        match &problem {
            None => (state.written, state.confirmed) = (Some(written), false),
            Some(reason) => {
                metrics::counter!("snapshot_write_failures_total").increment(1);
                state.changed |= changed;
                if state.problem.as_deref() != Some(reason) {
                    let folder = self.folder.display();
                    tracing::warn!("cannot write the snapshot of names to {folder}: {reason}. Routing is not affected");
                }
            }
        }
        state.problem = problem;
        state.problem.is_none()
    }

    fn claimed(&self, claimed: &mut Option<std::fs::File>) -> Result<(), String> {
        if claimed.is_none() {
            *claimed = file::claim(&self.folder).map_err(|error| error.to_string())?;
        }
        match claimed {
            Some(_) => Ok(()),
            None => Err("another process uses this folder; give each router its own".to_owned()),
        }
    }
}

impl State {
    fn records(&self) -> Vec<Record> {
        let record = |((table, key), entry): (&(String, String), &Entry)| Record {
            table: table.clone(),
            key: key.clone(),
            seen: entry.seen,
            used: entry.used,
            value: entry.value.clone(),
        };
        self.entries.iter().map(record).collect()
    }

    fn forget(&mut self, retention: Duration) {
        let State { entries, bytes, .. } = self;
        entries.retain(|_, entry| {
            let stays = entry.readers > 0 || since(entry.used) <= retention;
            if !stays {
                *bytes -= entry.bytes;
            }
            stays
        });
    }

    /// Back below the limits, and a tenth further so that this is not needed for each entry.
    fn shrink(&mut self, options: &SnapshotOptions) {
        if self.entries.len() <= options.max_entries && self.bytes <= options.max_bytes {
            return;
        }
        let mut order: Vec<(bool, u64, (String, String))> =
            self.entries.iter().map(|(id, entry)| (entry.readers > 0, entry.used, id.clone())).collect();
        order.sort_unstable();
        let (entries, bytes) = (options.max_entries / 10 * 9, options.max_bytes / 10 * 9);
        for (_, _, id) in order {
            if self.entries.len() <= entries && self.bytes <= bytes {
                return;
            }
            if let Some(old) = self.entries.remove(&id) {
                self.bytes -= old.bytes;
                metrics::counter!("snapshot_evictions_total").increment(1);
            }
        }
    }
}

/// Writes when something changed, and now and then; ends with the snapshot.
async fn keep(snapshot: Weak<Snapshot>, dirty: Arc<Notify>) {
    loop {
        tokio::select! {
            () = dirty.notified() => {}
            () = tokio::time::sleep(RENEW) => {}
        }
        tokio::time::sleep(GATHER).await;
        let Some(writer) = snapshot.upgrade() else { return };
        let started = std::time::Instant::now();
        let written = tokio::task::spawn_blocking(move || !writer.has_news() || writer.write()).await;
        let pause = if written.unwrap_or(false) { started.elapsed() * EASE } else { RETRY };
        tokio::time::sleep(pause.min(RENEW)).await;
        if snapshot.upgrade().is_some_and(|snapshot| snapshot.state.lock().changed) {
            dirty.notify_one();
        }
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
