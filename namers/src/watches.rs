//! [`Discovery`]: what all namers of a process share: numbers, the snapshot on disk, and the list of their watch tables
//! for admin pages and metrics.
//!
//! Made by the linker, given to namers. Not for: watching anything.

use crate::snapshot::Snapshot;
use crate::watch::{WatchOptions, WatchReport};
use crate::watched::WatchSums;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use tokio::runtime::Handle;

/// See the module; cloning shares it.
#[derive(Clone)]
pub struct Discovery {
    /// Numbers of the watch tables.
    pub watch: WatchOptions,
    /// All tables.
    pub watches: Watches,
    /// What is on disk, if anything.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Where all tasks run.
    pub handle: Handle,
}

impl Discovery {
    /// Default numbers, nothing on disk.
    pub fn new(handle: Handle) -> Discovery {
        Discovery { watch: WatchOptions::default(), watches: Watches::default(), snapshot: None, handle }
    }
}

/// A watch table, whatever its keys and values are.
pub trait WatchList: Send + Sync {
    /// Whose it is.
    fn namer(&self) -> &str;
    /// What it watches.
    fn table(&self) -> &'static str;
    /// All live keys, sorted by their print.
    fn report(&self) -> Vec<WatchReport>;
    /// All live keys in numbers.
    fn sums(&self) -> WatchSums;
}

/// The watches of one table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableReport {
    /// Prefix of the namer.
    pub namer: String,
    /// What the table watches: `files`, `folders`, `dns`.
    pub table: &'static str,
    /// Its live keys.
    pub watches: Vec<WatchReport>,
}

/// All watch tables that still exist; cloning shares the list.
#[derive(Clone, Default)]
pub struct Watches {
    tables: Arc<Mutex<Vec<Weak<dyn WatchList>>>>,
    /// The namers that metrics have shown.
    published: Arc<Mutex<BTreeSet<String>>>,
}

impl Watches {
    pub(crate) fn add(&self, table: Arc<dyn WatchList>) {
        let mut tables = self.tables.lock();
        tables.retain(|known| known.strong_count() > 0);
        tables.push(Arc::downgrade(&table));
    }

    fn all(&self) -> Vec<Arc<dyn WatchList>> {
        self.tables.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// All tables with all their keys.
    pub fn report(&self) -> Vec<TableReport> {
        let report = |table: Arc<dyn WatchList>| TableReport {
            namer: table.namer().to_owned(),
            table: table.table(),
            watches: table.report(),
        };
        self.all().into_iter().map(report).collect()
    }

    /// All tables in numbers, by namer.
    pub fn sums(&self) -> BTreeMap<String, WatchSums> {
        let mut by_namer: BTreeMap<String, WatchSums> = BTreeMap::new();
        for table in self.all() {
            by_namer.entry(table.namer().to_owned()).or_default().add(&table.sums());
        }
        by_namer
    }

    /// Sets the gauges: one series per namer, however many names it watches.
    pub fn publish_metrics(&self) {
        let mut all = self.sums();
        {
            // Those that are gone show nothing, rather than what was last.
            let mut published = self.published.lock();
            let gone: Vec<String> = published.iter().filter(|namer| !all.contains_key(*namer)).cloned().collect();
            published.extend(all.keys().cloned());
            all.extend(gone.into_iter().map(|namer| (namer, WatchSums::default())));
        }
        for (namer, sums) in all {
            let set = |name: &'static str, value: f64| metrics::gauge!(name, "namer" => namer.clone()).set(value);
            set("watches", sums.watches as f64);
            set("watches_limit", sums.limit as f64);
            set("watches_failing", sums.failing as f64);
            set("watches_stale", sums.stale as f64);
            set("watch_age_seconds", sums.age.as_secs_f64());
            set("watch_last_success_age_seconds", sums.last_success.as_secs_f64());
            set("stale_age_seconds", sums.stale_age.as_secs_f64());
        }
    }
}
