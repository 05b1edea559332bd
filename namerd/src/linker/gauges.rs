//! What namers watch, in numbers, below `namer/<prefix>` (telemetry reference §3).
//!
//! Called by `linker`, once. Not for: the watches one by one, which admin pages show.

use dtab::Namer;
use namers::{Discovery, WatchSums, Watches};
use parking_lot::Mutex;
use setup::naming::Naming;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telemetry::Scope;

/// The numbers are taken again after so long: several gauges are read at once.
const FRESH: Duration = Duration::from_secs(1);

/// The numbers of all namers, and when they were taken.
#[derive(Default)]
struct Sums(Mutex<Option<(Instant, BTreeMap<String, WatchSums>)>>);

impl Sums {
    fn of(&self, watches: &Watches, namer: &str, number: fn(&WatchSums) -> f64) -> f64 {
        let mut taken = self.0.lock();
        let known = taken.take().filter(|(at, _)| at.elapsed() < FRESH);
        let (_, sums) = taken.insert(known.unwrap_or_else(|| (Instant::now(), watches.sums())));
        sums.get(namer).map_or(0.0, number)
    }
}

/// Registers `watches`, `failing`, `stale` and `last_success_ms` of every namer that watches something.
pub(super) fn show(naming: &Naming, discovery: &Discovery, scope: &Scope) {
    let sums = Arc::<Sums>::default();
    for namer in &naming.fs {
        let prefix = namer.prefix().to_string();
        let scope = scope.scope(prefix.trim_start_matches('/'));
        let gauge = |name: &str, number: fn(&WatchSums) -> f64| {
            let (sums, watches, prefix) = (sums.clone(), discovery.watches.clone(), prefix.clone());
            scope.gauge(name, move || sums.of(&watches, &prefix, number)).keep();
        };
        gauge("watches", |sums| sums.watches as f64);
        gauge("failing", |sums| sums.failing as f64);
        gauge("stale", |sums| sums.stale as f64);
        gauge("last_success_ms", |sums| sums.last_success.as_millis() as f64);
    }
}
