//! `/admin/watches.json`: what discovery watches, how old it is, what is wrong with it, and what is on disk (requirements
//! P1.2, P2.2). A page of Switchyard; Linkerd 1 has `/namer_state/...` only, which shows the same per namer.

use admin::{Pages, Response};
use namers::{Discovery, SnapshotReport, TableReport, WatchReport};
use serde_json::{Value, json};
use std::time::Duration;

/// Adds the page.
pub(crate) fn add(pages: Pages, discovery: &Discovery) -> Pages {
    let discovery = discovery.clone();
    pages.get("/admin/watches.json", "ages and problems of everything that is watched", move |_| {
        let tables: Vec<Value> = discovery.watches.report().iter().map(table).collect();
        let snapshot = discovery.snapshot.as_ref().map(|snapshot| on_disk(&snapshot.report()));
        async move { Response::json_value(&json!({ "tables": tables, "snapshot": snapshot })) }
    })
}

fn seconds(age: Option<Duration>) -> Option<f64> {
    age.map(|age| (age.as_secs_f64() * 1000.0).round() / 1000.0)
}

fn table(table: &TableReport) -> Value {
    let watches: Vec<Value> = table.watches.iter().map(watch).collect();
    json!({ "namer": table.namer, "table": table.table, "watches": watches })
}

/// One watch.
pub fn watch(watch: &WatchReport) -> Value {
    json!({
        "key": watch.key,
        "state": watch.state,
        "age_seconds": seconds(watch.age),
        "last_success_seconds_ago": seconds(watch.last_success),
        "last_error": watch.last_error,
        "watchers": watch.watchers,
        "stale_seconds": seconds(watch.stale),
        "empty_held": watch.held,
        "restarts": watch.restarts,
    })
}

fn on_disk(report: &SnapshotReport) -> Value {
    json!({
        "folder": report.folder.display().to_string(),
        "entries": report.entries,
        "bytes": report.bytes,
        "age_seconds": seconds(report.age),
        "problem": report.problem,
    })
}
