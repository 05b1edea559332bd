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
    assert!(second.report().age.is_some_and(|age| age < Duration::from_secs(60)));
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

/// Attack M4: the child of the test below; alone it does nothing.
#[test]
fn writes_until_it_is_killed() {
    let Ok(folder) = std::env::var("SWITCHYARD_TEST_WRITES_TO") else { return };
    for n in 1_u64.. {
        write_five_hundred(folder.as_ref(), n);
    }
}

fn write_five_hundred(folder: &std::path::Path, n: u64) {
    let record = |i: u64| Record {
        table: "dns".to_owned(),
        key: i.to_string(),
        seen: n,
        used: n,
        value: json!("x".repeat(100)),
    };
    let records: Vec<Record> = (0..500).map(record).collect();
    file::write(folder, &file::encode(records.iter(), n)).unwrap();
}

/// Attack M4: the newest complete state, never a torn one.
#[test]
fn a_writer_killed_at_any_moment_leaves_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let begun = std::time::Instant::now();
    write_five_hundred(folder.path(), 0);
    let (one_write, mut left_beside) = (begun.elapsed(), 0);
    for round in 0..40 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "snapshot::tests::writes_until_it_is_killed", "--nocapture"])
            .env("SWITCHYARD_TEST_WRITES_TO", folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let beside = folder.path().join("names.tmp");
        let begun = std::time::Instant::now();
        // It has begun to write; from then on the moment is anyone's.
        while !beside.exists() && begun.elapsed() < Duration::from_secs(5) {
            std::hint::spin_loop();
        }
        let moment = std::time::Instant::now()
            + Duration::from_micros(fastrand::u64(0..5000 + 3 * one_write.as_micros() as u64));
        while std::time::Instant::now() < moment {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        left_beside += usize::from(beside.exists());
        let (records, written) = file::read(folder.path()).unwrap().unwrap();
        assert_eq!(records.len(), 500, "round {round}");
        assert!(records.iter().all(|record| record.seen == written), "round {round}");
    }
    assert!(left_beside > 0, "the kills met no write");
}
