//! Tests of the snapshot on real folders.

use super::*;
use crate::update::test_support::eventually;
use serde_json::json;
use tempfile::TempDir;

fn open(folder: &TempDir, options: SnapshotOptions) -> Arc<Snapshot> {
    Snapshot::open(folder.path().join("state"), options, &Handle::current())
}

fn restored(snapshot: &Snapshot, key: &str) -> Option<Value> {
    snapshot.restore("dns", key).map(|(value, _)| value)
}

#[tokio::test]
async fn what_was_saved_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(&folder, SnapshotOptions::default());
    assert_eq!((restored(&first, "web"), first.report().age), (None, None));
    first.save("dns", "web", json!(["10.0.0.1"]));
    first.save("dns", "gone", json!(["10.0.0.2"]));
    first.remove("dns", "gone");
    eventually("it is written without being asked", || first.report().age.is_some()).await;
    drop(first);
    let second = open(&folder, SnapshotOptions::default());
    assert_eq!((restored(&second, "web"), restored(&second, "gone")), (Some(json!(["10.0.0.1"])), None));
    assert_eq!(second.restore("other", "web"), None);
    assert!(second.report().age.is_some_and(|age| age < Duration::from_secs(10)));
}

#[tokio::test]
async fn a_file_that_is_not_usable_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join(file::FILE), "rubbish").unwrap();
    let snapshot = open(&folder, SnapshotOptions::default());
    assert_eq!(snapshot.report().entries, 0);
    assert_eq!(std::fs::read(state.join("names.bad")).unwrap(), b"rubbish");
    snapshot.save("dns", "web", json!(1));
    snapshot.flush();
    assert_eq!(snapshot.report().problem, None);
}

#[tokio::test]
async fn a_disk_that_refuses_is_reported_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = open(&folder, SnapshotOptions::default());
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::create_dir(state.join("names.tmp")).unwrap();
    snapshot.save("dns", "web", json!(1));
    snapshot.flush();
    assert!(snapshot.report().problem.is_some());
    std::fs::remove_dir(state.join("names.tmp")).unwrap();
    snapshot.flush();
    assert_eq!(snapshot.report().problem, None);
    let other = open(&folder, SnapshotOptions::default());
    assert_eq!(restored(&other, "web"), Some(json!(1)));
    other.save("dns", "web", json!(2));
    other.flush();
    assert!(other.report().problem.is_some_and(|text| text.contains("another process")));
}

#[tokio::test]
async fn what_nobody_reads_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let options = SnapshotOptions { max_entries: 100, max_bytes: 10_000, ..SnapshotOptions::default() };
    let snapshot = open(&folder, options);
    snapshot.save("dns", "web", json!("kept"));
    for i in 0..10_000 {
        let key = format!("scanned-{i}");
        snapshot.save("dns", &key, json!(i));
        snapshot.read_by("dns", &key, false);
    }
    let report = snapshot.report();
    assert!(report.entries <= 100 && report.bytes <= 10_000, "{report:?}");
    assert_eq!(restored(&snapshot, "web"), Some(json!("kept")));
    snapshot.save("dns", "huge", json!("x".repeat(MAX_VALUE_BYTES)));
    assert_eq!(restored(&snapshot, "huge"), None);
    for i in 0..20 {
        snapshot.save("dns", &format!("big-{i}"), json!("x".repeat(1000)));
    }
    assert!(snapshot.report().bytes <= 10_000);
}

#[tokio::test]
async fn what_was_not_wanted_for_long_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = open(&folder, SnapshotOptions { retention: Duration::ZERO, ..SnapshotOptions::default() });
    for key in ["old", "read"] {
        snapshot.save("dns", key, json!(1));
    }
    snapshot.read_by("dns", "old", false);
    let before = now();
    while now() <= before {
        std::hint::spin_loop();
    }
    snapshot.flush();
    assert_eq!((restored(&snapshot, "old"), restored(&snapshot, "read")), (None, Some(json!(1))));
}
