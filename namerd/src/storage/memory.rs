//! `io.l5d.inMemory`: dtabs in memory, lost with the process (namerd reference §5.1).
//!
//! Versions are 8 bytes, as in Linkerd 1, but grow from the time of the first write and never begin again, so that one from
//! before a delete, or from a process before this one, matches nothing. The history is kept in memory too, and bounded.

use crate::storage::observed::Observed;
use crate::storage::write::{Condition, Retention, Write, next_version, version_of};
use crate::storage::{Entry, Note, Store, StoreError, Version, VersionedDtab};
use dtab::{Activity, BoxFuture, Dtab, Exact};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::ready;
use std::sync::Arc;
use std::time::SystemTime;

/// What history is kept when nothing else is said: 1,000 entries and 8 MiB of text per namespace, 1,000 namespaces gone.
pub const RETENTION: Retention = Retention { entries: 1_000, bytes: 8 << 20, gone: 1_000 };

/// See the module.
pub struct MemoryStore {
    observed: Observed,
    written: Mutex<Written>,
    retention: Retention,
}

/// Held during a write, from the check of its condition to its publication.
#[derive(Default)]
struct Written {
    last: u64,
    writes: u64,
    pages: HashMap<String, Page>,
    /// Namespaces that are gone, by the number of their delete.
    gone: BTreeMap<u64, String>,
}

/// The history of one namespace, oldest first.
#[derive(Default)]
struct Page {
    entries: VecDeque<(Entry, u64)>,
    bytes: u64,
    /// The number of the delete that was its last write.
    gone: Option<u64>,
}

impl MemoryStore {
    /// A store with these namespaces to begin with.
    pub fn new(namespaces: BTreeMap<String, Dtab>, retention: Retention) -> MemoryStore {
        let store = MemoryStore { observed: Observed::new(), written: Mutex::default(), retention };
        store.observed.replace(BTreeMap::new());
        let note = Note::new(None, Some("from the configuration"));
        let mut written = store.written.lock();
        for (name, dtab) in namespaces {
            store.apply(&mut written, Write::store(&name, Condition::Any, dtab, note.clone()));
        }
        drop(written);
        store
    }

    fn write(&self, write: Write) -> Result<Version, StoreError> {
        let mut written = self.written.lock();
        let current = self.observed.get(&write.namespace).ok().flatten();
        write.condition.check(current.as_ref().map(|current| &current.version))?;
        Ok(self.apply(&mut written, write))
    }

    fn apply(&self, written: &mut Written, write: Write) -> Version {
        let Write { namespace, dtab, note, .. } = write;
        written.last = next_version(written.last);
        written.writes += 1;
        let version = version_of(written.last);
        let entry = Entry { version: version.clone(), time: SystemTime::now(), note, dtab: dtab.clone() };
        written.record(&namespace, entry, &self.retention);
        self.observed.set(&namespace, dtab.map(|dtab| VersionedDtab { dtab, version: version.clone() }));
        version
    }
}

impl Written {
    /// Adds to the history of a namespace what was written as number `last`, and drops what is too much.
    fn record(&mut self, namespace: &str, entry: Entry, retention: &Retention) {
        let page = self.pages.entry(namespace.to_owned()).or_default();
        if let Some(delete) = page.gone.take() {
            self.gone.remove(&delete);
        }
        if entry.dtab.is_none() {
            page.gone = Some(self.last);
            self.gone.insert(self.last, namespace.to_owned());
        }
        page.push(entry, retention);
        while self.gone.len() as u64 > retention.gone
            && let Some((_, longest)) = self.gone.pop_first()
        {
            self.pages.remove(&longest);
        }
    }
}

impl Page {
    fn push(&mut self, entry: Entry, retention: &Retention) {
        let text = entry.dtab.as_ref().map_or(0, |dtab| Exact(dtab).to_string().len());
        let note = [&entry.note.author, &entry.note.reason].into_iter().flatten().map(String::len).sum::<usize>();
        let bytes = (text + note) as u64;
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
        while self.entries.len() > 1
            && (self.entries.len() as u64 > retention.entries || self.bytes > retention.bytes)
            && let Some((_, bytes)) = self.entries.pop_front()
        {
            self.bytes -= bytes;
        }
    }
}

impl Store for MemoryStore {
    fn kind(&self) -> &'static str {
        "io.l5d.inMemory"
    }

    fn list(&self) -> Activity<Arc<BTreeSet<String>>> {
        self.observed.list()
    }

    fn observe(&self, namespace: &str) -> Activity<Option<VersionedDtab>> {
        self.observed.observe(namespace)
    }

    fn read(&self, namespace: &str) -> BoxFuture<'_, Result<Option<VersionedDtab>, StoreError>> {
        Box::pin(ready(Ok(self.observed.get(namespace).ok().flatten())))
    }

    fn create(&self, namespace: &str, dtab: Dtab, note: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        Box::pin(ready(self.write(Write::store(namespace, Condition::Absent, dtab, note))))
    }

    fn update(
        &self,
        namespace: &str,
        dtab: Dtab,
        expected: Version,
        note: Note,
    ) -> BoxFuture<'_, Result<Version, StoreError>> {
        Box::pin(ready(self.write(Write::store(namespace, Condition::Is(expected), dtab, note))))
    }

    fn put(&self, namespace: &str, dtab: Dtab, note: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        Box::pin(ready(self.write(Write::store(namespace, Condition::Any, dtab, note))))
    }

    fn delete(&self, namespace: &str, expected: Option<Version>, note: Note) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(ready(self.write(Write::delete(namespace, expected, note)).map(drop)))
    }

    fn history(&self, namespace: &str, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        let written = self.written.lock();
        let entries = written.pages.get(namespace).map(|page| page.entries.iter().rev().take(limit));
        let entries = entries.into_iter().flatten().map(|(entry, _)| entry.clone()).collect();
        Box::pin(ready(Ok(entries)))
    }

    fn report(&self) -> serde_json::Value {
        let (writes, histories) = {
            let written = self.written.lock();
            (written.writes, written.pages.len())
        };
        serde_json::json!({
            "kind": self.kind(),
            "state": "ok",
            "namespaces": self.observed.namespaces(),
            "observed": self.observed.observed(),
            "histories": histories,
            "writes": writes,
        })
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
